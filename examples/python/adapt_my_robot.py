"""Adapt to a task that the agent was never told: your environment on this side, `ccm serve` on the other.

    ccm serve --port 7070 &
    python adapt_my_robot.py --server 127.0.0.1:7070 --angle 1.0

Needs the base install of ccm alone (`pip install .` in a clone): neither torch nor onnxruntime nor Gymnasium.
"""

import argparse
import json
import math

from ccm_runtime.client import Client


class MyRobot:
    """Stands for yours: touch a hidden goal at 0.5 m, then stay at a second one at 1 m in the same direction."""

    def __init__(self, angle: float) -> None:
        self.direction = (math.cos(angle), math.sin(angle))
        self.reset()

    def reset(self) -> list[float]:
        """Begin an episode; the first observation."""
        self.position, self.touched, self.steps = [0.0, 0.0], False, 0
        return self.position

    def step(self, action: list[float]) -> tuple[list[float], float, bool, bool]:
        """Move; observation, reward, terminated, truncated."""
        self.position = [x + min(max(dx, -0.1), 0.1) for x, dx in zip(self.position, action, strict=True)]
        self.steps += 1
        to_first = math.dist(self.position, [0.5 * x for x in self.direction])
        to_second = math.dist(self.position, self.direction)
        if self.touched:
            reward = 6.0 - to_second if to_second <= 0.3 else 1.0
        else:
            reward = 1.0 - to_first if to_first <= 0.3 else 0.0
            self.touched = to_first <= 0.15
        return self.position, reward, False, self.steps == 32


def main() -> None:
    """Run one trial."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="127.0.0.1:7070")
    parser.add_argument("--angle", type=float, default=1.0)
    arguments = parser.parse_args()

    robot = MyRobot(arguments.angle)
    with Client(arguments.server) as client, client.open_session(seed=7) as session:
        for _ in range(session.agent.episodes):
            phase = session.phase
            action = session.begin_episode(robot.reset())
            while not session.episode_over:
                observation, reward, terminated, truncated = robot.step(action.tolist())
                action = session.act(observation, reward, terminated=terminated, truncated=truncated)
            print(f"{phase.value:8} return {session.returns[-1]:6.1f}  certainty {session.certainty:.2f}")
        print(json.dumps({"agent": session.agent.agent_id, "returns": session.returns}))


if __name__ == "__main__":
    main()
