"""A robot whose program is killed and started again, while its world stays as it is.

    python tests/support/restarted.py ADDRESS TICKET

The program tells the session of the file TICKET (or opens one, and writes it) what the world says on standard input,
and says on standard output what to do. It keeps nothing else: where the session is, it asks the server.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from ccm_runtime.client import Client
from ccm_runtime.ticket import Ticket

SEED = 7
LIMIT_S = 60.0


class World:
    """A task that says what happened last, as often as it is asked; its events are numbered as the session's are."""

    def __init__(self, task):
        self._task = task
        self.episodes = 0
        self.seen = {"number": 0, "observation": [], "reward": None, "over": True}

    def reset(self):
        """Begin an episode."""
        observation, _ = self._task.reset()
        self._happened(observation, None, over=False)

    def step(self, action):
        """Apply an action."""
        observation, reward, terminated, truncated, _ = self._task.step(np.array(action, np.float32))
        self.episodes += terminated or truncated
        self._happened(observation, float(reward), over=bool(terminated or truncated))

    def _happened(self, observation, reward, *, over):
        number = self.seen["number"] + 1
        seen = [float(entry) for entry in np.ravel(observation).astype(np.float32)]
        self.seen = {"number": number, "observation": seen, "reward": reward, "over": over}


class Program:
    """The robot's program, as a process."""

    def __init__(self, address, ticket):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, __file__, address, str(ticket)], **pipes)

    def tell(self, seen):
        """Tell what happened last."""
        self._process.stdin.write(json.dumps(seen) + "\n")
        self._process.stdin.flush()

    def told(self):
        """What to do: `reset`, `action`, or the `returns` at the end of the trial."""
        return json.loads(self._process.stdout.readline())

    def kill(self):
        """End it as a power cut would; 0 if it had ended by itself."""
        self._process.kill()
        code = self._process.wait(LIMIT_S)
        self._process.stdin.close()
        self._process.stdout.close()
        return code


def tell(session, seen):
    """Tell the session what happened last, unless it knows."""
    known = 0 if session.answer is None else session.answer.sequence
    if seen["number"] == known:
        return
    if seen["number"] != known + 1:
        raise RuntimeError(f"the world is at event {seen['number']}, the session at {known}")
    if seen["reward"] is None:
        session.begin_episode(seen["observation"])
    else:
        session.act(seen["observation"], seen["reward"], truncated=seen["over"])


def main(address, path):
    """Be the program."""
    with Client(address) as client:
        if path.exists():
            session = client.resume_session(Ticket.load(path))
        else:
            session = client.open_session(seed=SEED, stochastic=True)
            session.ticket.save(path)
        for line in sys.stdin:
            tell(session, json.loads(line))
            if not session.episode_over:
                command = {"action": session.action.tolist(), "certainty": session.certainty}
            elif session.episode < session.agent.episodes:
                command = {"reset": True}
            else:
                closed = session.close()
                command = {"returns": session.returns, "belief": closed.context.belief.tolist()}
            sys.stdout.write(json.dumps(command) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
