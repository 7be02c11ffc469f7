"""Find references to external data in an ONNX graph's bytes, without a parser that would follow them.

A graph that is loaded from memory resolves such a reference against the working directory, so it must be refused
before onnxruntime sees it. Only the few protobuf fields that can hold a tensor are looked into.
"""

from collections.abc import Iterator

from ccm_runtime.errors import BundleSchemaError

_MAX_DEPTH = 32
# Message -> field number -> message, from onnx.proto; what is not listed holds no tensor.
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "External", 14: "Location"},
}


def has_external_data(graph: bytes) -> bool:
    """Return whether any tensor of the ONNX model `graph` lives in another file.

    Raises:
        BundleSchemaError: `graph` is not a protobuf message.
    """
    return _external(memoryview(graph), "Model", 0)


def _external(data: memoryview, kind: str, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise BundleSchemaError(f"an ONNX graph nests deeper than {_MAX_DEPTH} levels")
    for number, value in _fields(data):
        inner = _FIELDS[kind].get(number)
        if inner == "External" or (inner == "Location" and value != 0):
            return True
        if inner in _FIELDS and isinstance(value, memoryview) and _external(value, inner, depth + 1):
            return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field's number with its integer or its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        if tag >> 32:  # the parser would drop these bits, and find another field than is found here
            raise BundleSchemaError("an ONNX graph has a field whose number is too large")
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        size, at = {1: (8, at), 5: (4, at)}.get(wire_type) or _length(data, at, wire_type)
        if at + size > len(data):
            raise BundleSchemaError("an ONNX graph is cut short")
        yield number, data[at : at + size]
        at += size


def _length(data: memoryview, at: int, wire_type: int) -> tuple[int, int]:
    if wire_type != 2:
        raise BundleSchemaError(f"an ONNX graph has the unknown wire type {wire_type}")
    return _varint(data, at)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise BundleSchemaError("an ONNX graph is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise BundleSchemaError("an ONNX graph has a number that is too long")
