"""Processors are kept awake for as long as somebody asks, and whoever cannot is told why."""

import os
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from ccm_runtime.awake import DEVICE, awake
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.errors import ConfigError


def held_files(pid):
    """Files that a process holds open."""
    held = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that the folder is read through
            held.add(str(link.readlink()))
    return held


def test_a_wake_up_may_not_be_late_for_as_long_as_it_is_asked_for(tmp_path):
    device = tmp_path / "cpu_dma_latency"
    device.touch()

    with awake(device):
        assert device.read_bytes() == struct.pack("i", 0)
        assert str(device) in held_files(os.getpid())

    assert str(device) not in held_files(os.getpid())


def test_a_system_without_the_file_is_told_so_and_gets_none(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"--stay-awake: cannot write to .*missing \(No such file.*\); it takes Linux"),
        awake(tmp_path / "missing"),
    ):
        pass

    assert not (tmp_path / "missing").exists()


def test_it_is_let_go_when_what_it_was_for_fails(tmp_path):
    device = tmp_path / "cpu_dma_latency"
    device.touch()

    with pytest.raises(KeyError), awake(device):
        raise KeyError

    assert str(device) not in held_files(os.getpid())


@pytest.mark.skipif(not os.access(DEVICE, os.W_OK), reason=f"{DEVICE} cannot be written to here")
def test_a_server_keeps_processors_awake_only_when_it_is_asked_to():
    with listening_process("ccm_runtime", "serve", "--port", "0", "--stay-awake") as server:
        assert str(DEVICE) in held_files(server.pid)

    with listening_process("ccm_runtime", "serve", "--port", "0") as server:
        assert str(DEVICE) not in held_files(server.pid)
