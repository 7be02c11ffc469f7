"""The committed code is what the contract generates, and runs on the oldest protobuf that is promised."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# What differs between compilers, and says nothing of the contract.
VERSIONS = [
    (r"# Protobuf Python Version: .*", ""),
    (r"(?s)ValidateProtobufRuntimeVersion\(.*?\)", ""),
    (r"GRPC_GENERATED_VERSION = .*", ""),
    (r"class (\w+)\(object\):", r"class \1:"),
    (r"_Optional\[bool\]", "bool"),
]


def neutral(path):
    text = path.read_text()
    for pattern, replacement in VERSIONS:
        text = re.sub(pattern, replacement, text)
    return text


def test_the_committed_code_is_what_the_proto_file_generates(tmp_path):
    script = [sys.executable, str(ROOT / "scripts" / "generate_proto.py"), "--installed", "--out", str(tmp_path)]
    subprocess.run(script, check=True, capture_output=True, timeout=120)
    for name in (
        "adaptation_pb2.py",
        "adaptation_pb2.pyi",
        "adaptation_pb2_grpc.py",
        "admin_pb2.py",
        "admin_pb2.pyi",
        "admin_pb2_grpc.py",
        "session_record_pb2.py",
        "session_record_pb2.pyi",
        "recording_pb2.py",
        "recording_pb2.pyi",
    ):
        committed, generated = ROOT / "ccm_runtime/v1" / name, tmp_path / "ccm_runtime/v1" / name
        assert neutral(generated) == neutral(committed), f"{name} is out of date; run `make proto`"


def test_the_generated_code_runs_on_the_oldest_protobuf_that_we_promise():
    floor = re.search(r'"protobuf>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    made = re.search(r"# Protobuf Python Version: ([\d.]+)", (ROOT / "ccm_runtime/v1/adaptation_pb2.py").read_text())
    assert floor
    assert made
    assert tuple(map(int, made[1].split("."))) <= tuple(map(int, floor[1].split(".")))
