"""A robot's program is killed in the middle of its trial, and the next one goes on, as if nothing had happened."""

import random
import signal
import time

import numpy as np
import pytest
from restarted import SEED, Program, World

from ccm_runtime.client import Client
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.drive import drive
from ccm_runtime.errors import SessionUnknownError
from ccm_runtime.ticket import Ticket
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask

KILLS = 5


@pytest.fixture(scope="module")
def address():
    """A server of the shipped agent, without a store: it lives on while its client does not."""
    with listening_process("ccm_runtime", "serve", "--port", "0", "--log-level", "warning") as server:
        yield server.address


def task():
    family = get_family("hard-point-robot-aligned")
    return SimulatedTask(family, family.sample_tasks("test", 8, 3)[0], 0)


def undisturbed(address):
    """Returns and belief of an unbroken trial."""
    with Client(address) as client, client.open_session(seed=SEED, stochastic=True) as session:
        returns = drive(task(), session)
        return returns, session.close().context.belief


def test_killed_at_any_time_it_goes_on_in_mid_episode_bit_for_bit(address, tmp_path):
    rng = random.Random(1)
    world, ticket, certainties, steps = World(task()), tmp_path / "ticket", [], 0
    program = Program(address, ticket)
    kills = sorted(rng.sample(range(3, 190), KILLS))  # of the 6 x (1 + 32) events
    while True:
        program.tell(world.seen)
        if kills and world.seen["number"] >= kills[0]:
            del kills[0]
            time.sleep(rng.choice([0.0, rng.uniform(0.0, 0.004), 0.5]))  # before, while or after it is taken
            assert -signal.SIGKILL == program.kill()
            program = Program(address, ticket)
            program.tell(world.seen)
        command = program.told()
        if "returns" in command:
            break
        if "action" in command:
            world.step(command["action"])
            certainties.append(command["certainty"])
            steps += 1
        else:
            world.reset()
    program.kill()
    returns, belief = undisturbed(address)
    assert returns == command["returns"]
    assert np.array_equal(belief, np.array(command["belief"], np.float32))
    assert 6 * 32 == steps
    with Client(address) as client, pytest.raises(SessionUnknownError, match="was closed"):
        client.resume_session(Ticket.load(ticket))


def test_killed_with_its_world_it_begins_the_episode_again_and_knows_what_was_explored(address, tmp_path):
    world, program = World(task()), Program(address, tmp_path / "ticket")
    for _ in range(4 * 33 + 10):  # four episodes explore; in mid-episode of the fifth
        program.tell(world.seen)
        command = program.told()
        world.step(command["action"]) if "action" in command else world.reset()
    program.kill()
    with Client(address) as client, client.resume_session(Ticket.load(tmp_path / "ticket")) as session:
        assert (4, False) == (session.episode, session.episode_over)
        assert session.certainty >= command["certainty"]
        anew = task()
        action = session.begin_episode(anew.reset()[0], abandon=True)
        while not session.episode_over:
            observation, reward, terminated, truncated, _ = anew.step(action)
            action = session.act(observation, reward, terminated=terminated, truncated=truncated)
        assert 5 == len(session.returns)
        assert 5 == session.episode
        returns, _ = undisturbed(address)
        assert returns[:4] == list(session.returns[:4])
        assert session.returns[4] > 0.8 * returns[4]  # it went to the goals that its predecessor had found
