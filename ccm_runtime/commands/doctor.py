"""`ccm doctor`: what is installed, what is truly active, and what to do about it."""

import importlib
import platform
import re
from importlib import metadata
from typing import Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table

from ccm_runtime import __version__
from ccm_runtime.machine import installed_version

_PURPOSE = {
    "serve": "serve a bundle on a CPU",
    "serve-gpu": "serve a bundle on a GPU (instead of serve, never beside it)",
    "redis": "share sessions between servers",
    "sign": "sign bundles, and serve only signed ones",
    "gym": "drive Gymnasium environments",
    "train": "train and evaluate",
    "export": "export bundles",
    "video": "record trials as videos",
    "sweep": "train many runs on one machine or several",
    "wandb": "tell Weights & Biases of runs",
    "otel": "export traces of a server",
    "dev": "run the tests and linters",
}
# The smallest ONNX graph, y = x: only a session tells which provider is truly active.
_IDENTITY = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01'
    b"b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\x11"
)


class Extra(BaseModel):
    """One optional part of the package.

    Attributes:
        purpose: What it is for.
        installed: Whether every package of it is there.
        missing: The packages that are not.
    """

    purpose: str
    installed: bool
    missing: list[str]


class Diagnosis(BaseModel):
    """Everything that `ccm doctor` found.

    Attributes:
        ccm: Version of this package.
        python: Version of Python.
        platform: Operating system and processor.
        versions: Version of each package that matters, if installed.
        extras: State of each extra.
        torch_device: Where torch would train; `None` without torch.
        onnx_provider: The provider that a session truly got; `None` without onnxruntime.
        advice: What to do, most important first.
    """

    ccm: str
    python: str
    platform: str
    versions: dict[str, str]
    extras: dict[str, Extra]
    torch_device: str | None
    onnx_provider: str | None
    advice: list[str]


def doctor(*, as_json: bool) -> None:
    """Print the diagnosis."""
    diagnosis = diagnose()
    if as_json:
        typer.echo(diagnosis.model_dump_json())
    else:
        _show(diagnosis)


def diagnose() -> Diagnosis:
    """Look at this installation; loads torch and onnxruntime where they are installed."""
    requirements = _requirements()
    names = sorted({name for required in requirements.values() for name in required})
    versions = {name: found for name in names if (found := installed_version(name)) is not None}
    extras = {
        extra: _extra(purpose, [name for name in requirements[extra] if name not in versions])
        for extra, purpose in _PURPOSE.items()
        if extra in requirements
    }
    return Diagnosis(
        ccm=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        versions=versions,
        extras=extras,
        torch_device=_torch_device(),
        onnx_provider=_onnx_provider(),
        advice=_advice(extras),
    )


def _extra(purpose: str, missing: list[str]) -> Extra:
    return Extra(purpose=purpose, installed=not missing, missing=missing)


def _requirements() -> dict[str, list[str]]:
    """Packages of each extra, from the installed distribution's own metadata; our own extras are left out."""
    try:
        lines = metadata.requires("ccm") or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[str]] = {}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        if name is not None and name.group() != "ccm":
            found.setdefault(extra.group(1) if extra else "base", []).append(name.group())
    return found


def _imported(name: str) -> Any | None:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def _torch_device() -> str | None:
    torch = _imported("torch")
    if torch is None:
        return None
    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda ({torch.cuda.get_device_name(0)})"


def _onnx_provider() -> str | None:
    onnxruntime = _imported("onnxruntime")
    if onnxruntime is None or not hasattr(onnxruntime, "InferenceSession"):
        return None
    wanted = [name for name in ("CUDAExecutionProvider",) if name in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(_IDENTITY, providers=[*wanted, "CPUExecutionProvider"])
    return str(session.get_providers()[0])


def _advice(extras: dict[str, Extra]) -> list[str]:
    if not extras:
        return ["ccm runs from a source tree; install it to see its extras: pip install -e '.[dev]'"]
    advice = []
    if installed_version("onnxruntime") and installed_version("onnxruntime-gpu"):
        advice.append("onnxruntime and onnxruntime-gpu share one folder: pip uninstall both, then install one")
    if not (extras["serve"].installed or extras["serve-gpu"].installed):
        advice.append("to serve a bundle: pip install 'ccm[serve]'")
    missing = [name for name in ("gym", "train", "export") if not extras[name].installed]
    return advice + [f"to {extras[name].purpose}: pip install 'ccm[{name}]'" for name in missing]


def _show(diagnosis: Diagnosis) -> None:
    console = Console()
    console.print(f"ccm {diagnosis.ccm} · Python {diagnosis.python} · {diagnosis.platform}", highlight=False)
    table = Table("extra", "state", "what it is for", box=None, pad_edge=False)
    for name, extra in diagnosis.extras.items():
        table.add_row(name, "ok" if extra.installed else f"missing {', '.join(extra.missing)}", extra.purpose)
    console.print(table)
    console.print(f"torch trains on     {diagnosis.torch_device or 'nothing: torch is not installed'}", highlight=False)
    console.print(
        f"ONNX provider       {diagnosis.onnx_provider or 'none: onnxruntime is not installed'}", highlight=False
    )
    for line in diagnosis.advice or ["nothing to mend"]:
        console.print(f"- {line}", highlight=False, markup=False)
