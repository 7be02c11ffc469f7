"""Generate `ccm_runtime/v1/` from the proto files, with the oldest compiler whose code runs on all supported protobufs.

Generated code refuses a protobuf older than its compiler's, so the newest compiler would raise the floor that
`pyproject.toml` promises. If the pinned grpcio-tools is not the one installed, a throw-away environment gets it.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

GRPCIO_TOOLS = "1.76.0"
ROOT = Path(__file__).resolve().parent.parent
SERVICES = (Path("ccm_runtime/v1/adaptation.proto"), Path("ccm_runtime/v1/admin.proto"))
# Messages only: no service.
STORED = Path("ccm_runtime/v1/session_record.proto")
RECORDED = Path("ccm_runtime/v1/recording.proto")


def compile_proto(python: Path, out: Path) -> None:
    """Write the messages, their stubs and the services below `out`, with `python`'s grpcio-tools."""
    messages = ("python", "pyi")
    for proto, kinds in (
        *((one, (*messages, "grpc_python")) for one in SERVICES),
        (STORED, messages),
        (RECORDED, messages),
    ):
        outputs = [f"--{kind}_out={out}" for kind in kinds]
        command = [str(python), "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}", *outputs, str(proto)]
        subprocess.run(command, check=True)  # noqa: S603 (our own arguments)


def pinned_python(scratch: Path) -> Path:
    """Return an interpreter that has the pinned grpcio-tools: this one, or a new one below `scratch`."""
    try:
        if version("grpcio-tools") == GRPCIO_TOOLS:
            return Path(sys.executable)
    except PackageNotFoundError:
        pass
    venv.create(scratch, with_pip=True)
    python = scratch / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "-q", f"grpcio-tools=={GRPCIO_TOOLS}"], check=True)  # noqa: S603
    return python


def main() -> None:
    """Generate into `--out`, the repository by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT, help="folder that gets ccm_runtime/v1/")
    parser.add_argument("--installed", action="store_true", help="use the installed grpcio-tools, whatever its version")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        compile_proto(Path(sys.executable) if arguments.installed else pinned_python(Path(scratch)), arguments.out)


if __name__ == "__main__":
    main()
