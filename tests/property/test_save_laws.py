"""Whenever a run is killed while it saves itself, its last checkpoint loads; the full figure: 50 kills."""

import json
import subprocess
import sys

import saves


def killed(run_dir, kills):
    """Run a campaign in a process without threads, which may fork."""
    command = [sys.executable, saves.__file__, str(run_dir), "--kills", str(kills)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=200).stdout)


def test_the_last_checkpoint_loads_after_a_kill_in_the_middle_of_a_save(tmp_path):
    found = killed(tmp_path / "run", 6)
    assert {"kills": 6, "not_loaded": 0, "lost": 0} == {name: found[name] for name in ("kills", "not_loaded", "lost")}
    assert 0 < found["killed_in_the_middle"]
