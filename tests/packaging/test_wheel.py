"""Build the wheel, install it away from the source tree, use it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"ccm_runtime", "ccm_training", "ccm_export"}


def run(*command, **environment):
    done = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        cwd=ROOT,
    )
    assert 0 == done.returncode, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "-q", "--no-build-isolation", "--no-deps", "--wheel-dir", out, ROOT)
    return next(out.glob("ccm-*.whl"))


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """A folder into which the wheel, and nothing else, was installed."""
    target = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "install", "-q", "--no-deps", "--no-index", "--target", target, wheel)
    return target


def test_the_wheel_owns_its_three_packages_and_no_other_name(names):
    top = {name.partition("/")[0] for name in names}
    assert OURS == {name for name in top if not name.endswith(".dist-info")}


def test_the_wheel_holds_every_file_of_its_packages(names):
    for parent, package in ((".", "ccm_runtime"), ("training", "ccm_training"), ("export", "ccm_export")):
        files = [path.relative_to(ROOT / parent) for path in (ROOT / parent / package).rglob("*") if path.is_file()]
        wanted = {
            file.as_posix() for file in files if not any(part.startswith((".", "__pycache__")) for part in file.parts)
        }
        assert set() == wanted - set(names)


@pytest.mark.parametrize(
    "name",
    [
        "ccm_runtime/py.typed",
        "ccm_runtime/v1/adaptation_pb2.py",
        "ccm_runtime/default_bundle/manifest.json",
        "ccm_training/py.typed",
        "ccm_training/presets/point_robot_debug.yaml",
        "ccm_export/py.typed",
    ],
)
def test_the_wheel_holds_what_is_needed_without_a_source_tree(names, name):
    assert name in names


def test_the_wheel_holds_the_licence_and_the_entry_point(wheel):
    with zipfile.ZipFile(wheel) as archive:
        info = next(name.partition("/")[0] for name in archive.namelist() if ".dist-info/" in name)
        assert "Apache License" in archive.read(f"{info}/licenses/LICENSE").decode()
        assert "ccm = ccm_runtime.cli:main" in archive.read(f"{info}/entry_points.txt").decode()


def test_the_installed_package_runs_from_where_it_was_installed(site):
    code = "import ccm_runtime, ccm_training, ccm_export; print(ccm_runtime.__file__, ccm_training.__file__)"
    places = run(sys.executable, "-P", "-c", code, PYTHONPATH=str(site)).split()
    assert all(Path(place).is_relative_to(site) for place in places)
    assert run(sys.executable, "-P", "-m", "ccm_runtime", "--help", PYTHONPATH=str(site)).count("quickstart")


def test_the_embedded_agent_verifies_where_it_was_installed(site):
    code = "from ccm_runtime.embedded import embedded_bundle; print(embedded_bundle())"
    bundle = Path(run(sys.executable, "-P", "-c", code, PYTHONPATH=str(site)).strip())
    assert bundle.is_relative_to(site)
    assert "ok" in run(sys.executable, "-P", "-m", "ccm_runtime", "verify", bundle, PYTHONPATH=str(site))


HEAVY = ("torch", "onnx", "onnxruntime", "gymnasium", "matplotlib", "sklearn", "scipy", "mujoco")


def test_clients_load_nothing_heavy(site):
    blocked = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r})); "
    code = f"{blocked}import ccm_runtime.client, ccm_runtime.async_client, ccm_runtime.drive; print('light')"
    assert "light" in run(sys.executable, "-P", "-c", code, PYTHONPATH=str(site))


def test_the_server_loads_no_torch(site):
    blocked = "import sys; sys.modules['torch'] = None; "
    code = f"{blocked}import ccm_runtime.server, ccm_runtime.inference, ccm_export.verify; print('light')"
    assert "light" in run(sys.executable, "-P", "-c", code, PYTHONPATH=str(site))
