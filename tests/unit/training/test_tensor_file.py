"""Tensors that are written piece by piece are what safetensors reads, with their digest."""

import hashlib

import pytest
import torch
from safetensors.torch import load

from ccm_training.tensor_file import write_tensors

TENSORS = {
    "flags": torch.tensor([True, False, True]),
    "wide": torch.arange(3.0, dtype=torch.float64),
    "one": torch.tensor(2.5),
    "none": torch.zeros(2, 0, 3),
    "counts": torch.arange(4),
    "a part of every row": torch.arange(24.0).view(2, 3, 4)[:, :2, 1:3],
    "state": torch.arange(5, dtype=torch.uint8),
    "learnt": torch.nn.Parameter(torch.ones(2, 2)),
}


@pytest.mark.parametrize("names", [list(TENSORS), list(TENSORS)[::-1], []])
def test_what_is_written_is_what_safetensors_reads(tmp_path, names):
    tensors, digest = {name: TENSORS[name] for name in names}, hashlib.sha256(b"before")
    write_tensors(tmp_path / "file", tensors, digest)
    content = (tmp_path / "file").read_bytes()
    assert hashlib.sha256(b"before" + content).hexdigest() == digest.hexdigest()
    found = load(content)
    assert tensors.keys() == found.keys()
    for name, expected in tensors.items():
        assert expected.dtype == found[name].dtype
        assert torch.equal(expected, found[name])
