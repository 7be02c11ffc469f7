"""`ccm` as a user runs it."""

import os
import subprocess
import sys

CCM = (sys.executable, "-m", "ccm_runtime")


def ccm(*arguments, timeout=120, **environ):
    """Run to the end; standard output, standard error and exit code."""
    env = {**os.environ, "COLUMNS": "100", **environ}
    command = [*CCM, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout, env=env)


def fails(finished, exit_code, *words):
    """Whether the command ended with this code and one line on standard error that holds these words."""
    assert "Traceback" not in finished.stderr
    lines = finished.stderr.strip().splitlines()
    assert [finished.returncode, len(lines)] == [exit_code, 1], finished.stderr
    assert lines[0].startswith("ccm: error: ")
    for word in words:
        assert word in lines[0]
    return True
