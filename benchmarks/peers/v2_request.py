"""The inference protocol that MLServer and Triton share (V2, gRPC): requests and answers by hand-written bytes.

The messages are few and fixed, so that neither package's generated code is needed to talk to the other.
"""

import struct

from bare_policy import BarePolicy

PROTOCOL, PATH = "grpc-unary", "/inference.GRPCInferenceService/ModelInfer"


def request(policy: BarePolicy) -> bytes:
    """Ask for an action."""
    return infer("policy", policy.example().tolist())


def action(response: bytes) -> list[float]:
    """Read an answer: the float32 entries of a ModelInferResponse, raw, or as numbers in its only output."""
    fields = parse(response)
    if raw := fields.get(6):
        return list(struct.unpack(f"<{len(raw) // 4}f", raw))
    numbers = parse(parse(fields[5])[5])[6]
    return list(struct.unpack(f"<{len(numbers) // 4}f", numbers))


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def varint(value: int) -> bytes:
    """A protobuf integer."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def infer(model: str, observation: list[float]) -> bytes:
    """ModelInferRequest with one row of float32."""
    shape = field(3, b"".join(map(varint, (1, len(observation)))))
    described = field(1, b"observation") + field(2, b"FP32") + shape
    raw = struct.pack(f"<{len(observation)}f", *observation)
    return field(1, model.encode()) + field(5, described) + field(7, raw)


def parse(message: bytes) -> dict[int, bytes]:
    """The last of each length-delimited field of a message."""
    found, at = {}, 0
    while at < len(message):
        tag, at = read_varint(message, at)
        if tag & 7 == 0:
            _, at = read_varint(message, at)
            continue
        size, at = read_varint(message, at)
        found[tag >> 3] = message[at : at + size]
        at += size
    return found


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """A protobuf integer at a place, and the place after it."""
    value = shift = 0
    while True:
        byte = message[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
