"""`ccm new-family`: a family to change, its test and its settings."""

import keyword
import re
import shlex
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

import typer

from ccm_runtime.errors import ConfigError

_FILES = {"{}.py": "family.py.txt", "test_{}.py": "test_family.py.txt", "{}.yaml": "config.yaml.txt"}


def new_family(name: str, out: Path) -> None:
    """Write the files into `out` and say what to do next.

    Raises:
        ConfigError: The name is none for a Python module, is another module's, or a file of it exists already; or `out`
            is a file.
    """
    module, family = _names(name, out)
    written = {out / pattern.format(module): template for pattern, template in _FILES.items()}
    for path in written:
        if path.exists():
            raise ConfigError(f"{path} exists already; choose another name, or another folder with --out")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: that is a file; name a folder")
    out.mkdir(parents=True, exist_ok=True)
    for path, template in written.items():
        text = files("ccm_training").joinpath("starting_point", template).read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(module=module, family=family), encoding="utf-8")
        typer.echo(path)
    there = "" if out.resolve() == Path.cwd() else f"cd {shlex.quote(str(out))} && "
    typer.echo(
        f"next: {there}ccm check-family {module}:{family}    or    {there}ccm train --config {module}.yaml", err=True
    )


def _names(name: str, out: Path) -> tuple[str, str]:
    """Module and class, e.g. `my_arm` and `MyArm` of `my-arm`."""
    words = re.split(r"[-_]", name)
    module = "_".join(word.lower() for word in words)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*([-_][A-Za-z0-9]+)*", name) or keyword.iskeyword(module):
        raise ConfigError(
            f"{name!r} does not name a family; expected words of the letters a to z and digits, a letter first and "
            "none of Python's own words, e.g. my-arm"
        )
    taken = find_spec(module)
    if taken is not None and (taken.origin is None or Path(taken.origin).resolve().parent != out.resolve()):
        raise ConfigError(f"{module!r} is the name of an installed module, which the file would hide; choose another")
    return module, "".join(word[0].upper() + word[1:] for word in words)
