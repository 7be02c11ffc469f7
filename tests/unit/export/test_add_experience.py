"""An older bundle gets what its manifest lacks, and acts as before."""

import shutil
import subprocess
import sys
from pathlib import Path

from ccm_runtime.bundle import load_bundle
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.manifest import to_bytes

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "add_experience.py"


def test_an_older_bundle_is_told_what_training_tasks_are_like(tmp_path):
    folder = tmp_path / "bundle"
    shutil.copytree(embedded_bundle(), folder)
    shipped = load_bundle(folder).manifest
    older = shipped.model_copy(update={"experience": None, "belief_map": None})
    (folder / "manifest.json").write_bytes(to_bytes(older))
    subprocess.run([sys.executable, str(SCRIPT), str(folder)], check=True, timeout=200)
    found = load_bundle(folder).manifest
    assert found.experience is not None
    assert found.belief_map is not None
    assert shipped.files == found.files
    assert sorted(path.name for path in embedded_bundle().iterdir()) == sorted(path.name for path in folder.iterdir())
