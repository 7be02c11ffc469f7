"""Kill a run again and again while it saves itself, and load what is left.

    python tests/support/saves.py RUN_DIR --kills 50 --seed 0

A child saves checkpoint after checkpoint, and names on a pipe each one that was saved. The parent kills it at a random
moment, most often in the middle of a save, and loads the last checkpoint. Forked, so that a kill costs milliseconds.
"""

import argparse
import json
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

from tiny_run import tiny_experiment

from ccm_training.checkpoint import load_agent, save_checkpoint

LIMIT_S = 60.0


def child(experiment, run_dir, iteration, pipe):
    """Save for ever; never returns."""
    while True:
        iteration += 1
        experiment.counters.iteration = iteration
        experiment.counters.updates = iteration * experiment.config.updates_per_iteration
        save_checkpoint(experiment, run_dir)
        os.write(pipe, f"{iteration}\n".encode())


def run_once(experiment, run_dir, iteration, delay_s):
    """Let a child save until it is killed, `delay_s` after its first save; the last iteration that it named."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(experiment, run_dir, iteration, writer)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        select.select([pipe], [], [], LIMIT_S)
        time.sleep(delay_s)
        os.kill(pid, signal.SIGKILL)
        said = b""
        while chunk := pipe.read(1 << 16):
            said += chunk
    os.waitpid(pid, 0)
    return int(said[: said.rindex(b"\n")].splitlines()[-1])


def campaign(run_dir, kills, seed):
    """Kill `kills` times; the counts, whose `not_loaded` and `lost` must be 0."""
    rng, named, experiment = random.Random(seed), 0, tiny_experiment()
    found = {"kills": 0, "saves": 0, "killed_in_the_middle": 0, "not_loaded": 0, "lost": 0}
    for _ in range(kills):
        before, named = named, run_once(experiment, run_dir, named, rng.uniform(0.0, 0.05))
        found["kills"] += 1
        found["saves"] += named - before
        found["killed_in_the_middle"] += any(path.name.startswith(".") for path in (run_dir / "checkpoints").iterdir())
        try:
            iteration = load_agent(run_dir).counters.iteration
        except Exception as error:
            sys.stderr.write(f"after {named} saves: {error!r}\n")
            found["not_loaded"] += 1
        else:
            found["lost"] += iteration < named
            named = iteration
    return found


def main():
    """Run a campaign and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    sys.stdout.write(json.dumps(campaign(options.run_dir, options.kills, options.seed)))


if __name__ == "__main__":
    main()
