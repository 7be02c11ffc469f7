"""What a serving process asks of its system."""

import subprocess
import sys

SCRIPT = """
import asyncio, resource
from ccm_runtime.event_loop import run
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
run(asyncio.sleep(0))
print(resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_a_server_has_all_the_descriptors_that_it_may_have():
    finished = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert "(256, 256)" == finished.stdout.strip()
