"""What the project may be installed with is pinned for its own checks, within the ranges that it promises."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINS = {
    canonicalize_name(line.partition("==")[0]): line.partition("==")[2]
    for line in (ROOT / ".ci" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
}


def required(extra=None):
    """Requirements of the base or of an extra, with those of the extras that it names."""
    found = map(Requirement, PROJECT["dependencies"] if extra is None else PROJECT["optional-dependencies"][extra])
    for one in found:
        if one.name == PROJECT["name"]:
            for named in one.extras:
                yield from required(named)
        else:
            yield one


def test_everything_that_make_install_asks_for_is_pinned_within_its_range():
    unpinned = [str(one) for one in (*required(), *required("dev")) if canonicalize_name(one.name) not in PINS]
    assert [] == unpinned
    outside = [
        one for one in (*required(), *required("dev")) if not one.specifier.contains(PINS[canonicalize_name(one.name)])
    ]
    assert [] == outside


def test_all_is_every_extra_but_those_that_are_left_out_on_purpose():
    extras = PROJECT["optional-dependencies"].keys() - {"all", "dev"}
    named = {extra for one in map(Requirement, PROJECT["optional-dependencies"]["all"]) for extra in one.extras}
    assert {"serve-gpu", "sweep", "wandb"} == extras - named


@pytest.mark.parametrize(("extra", "needed"), [("export", "train"), ("video", "gym")])
def test_an_extra_that_is_advised_is_enough_to_load_a_family(extra, needed):
    assert {str(one) for one in required(needed)} <= {str(one) for one in required(extra)}


def test_a_gpu_serves_with_the_same_but_for_onnxruntime():
    cpu, gpu = ({str(one) for one in required(extra)} for extra in ("serve", "serve-gpu"))
    assert ({"onnxruntime>=1.23"}, {"onnxruntime-gpu>=1.23"}) == (cpu - gpu, gpu - cpu)
