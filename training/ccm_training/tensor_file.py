"""Tensors as a safetensors file, written one after another: a replay of gigabytes is not copied as a whole."""

import hashlib
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ccm_runtime.durable import synced

_DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.int64: "I64", torch.uint8: "U8", torch.bool: "BOOL"}


def write_tensors(path: Path, tensors: Mapping[str, Tensor], digest: "hashlib._Hash") -> None:
    """Write a file and wait until it is on disk; a crash may leave a part of it.

    Args:
        path: Where.
        tensors: By name, on any device.
        digest: Is told all that is written.
    """
    with synced(path) as file:
        for piece in _pieces(tensors):
            digest.update(piece)
            file.write(piece)


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """The file's bytes: length of the header, header, and each tensor, those of the widest type first (aligned)."""
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header, begin = {}, 0
    for name, tensor in ordered:
        end = begin + tensor.nbytes
        header[name] = {"dtype": _DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield struct.pack("<Q", len(text)) + text
    for _, tensor in ordered:
        yield tensor.detach().cpu().contiguous().numpy().reshape(-1).view(np.uint8).data
