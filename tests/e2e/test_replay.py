"""`ccm serve --record`, real sessions, then `ccm replay` on what was written."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import ccm, fails

from ccm_runtime.async_client import AsyncClient
from ccm_runtime.client import Client
from ccm_runtime.commands.server_process import listening_process
from ccm_runtime.drive import drive, drive_async
from ccm_runtime.recording import SUFFIX, read_recording
from ccm_training.envs.registry import get_family
from ccm_training.envs.simulated import SimulatedTask

OTHER = Path(__file__).parents[1] / "golden" / "bundle-v1"  # of the same family, hardly trained
EPISODES = 6


def task(number):
    family = get_family("hard-point-robot-aligned")
    return SimulatedTask(family, family.sample_tasks("test", 8, 3)[number], number)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What a server with the shipped agent wrote of one lone session, then of eight at once."""
    import asyncio  # noqa: PLC0415

    folder = tmp_path_factory.mktemp("recordings") / "of-today"
    flags = ("--port", "0", "--record", str(folder), "--log-level", "warning")

    async def crowd(address):
        async with AsyncClient(address) as client:

            async def one(number):
                async with client.open_session(seed=number) as session:
                    await drive_async(task(number), session, episodes=2)

            await asyncio.gather(*(one(number) for number in range(8)))

    with listening_process("ccm_runtime", "serve", *flags) as server:
        with Client(server.address) as client, client.open_session(seed=7, stochastic=True) as session:
            drive(task(0), session, episodes=EPISODES)
        asyncio.run(crowd(server.address))
    return folder


def longest(folder):
    return max(folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_size)


def test_a_lone_session_comes_out_again_bit_for_bit(folder):
    finished = ccm("replay", longest(folder))
    assert finished.returncode == 0, finished.stderr
    assert f"equal: {32 * EPISODES} actions, bit for bit" in finished.stdout


def test_what_the_server_was_stricter_in_than_the_bundle_comes_out_again_too(tmp_path):
    flags = ("--port", "0", "--record", str(tmp_path), "--max-rate", "0.01,0.01", "--log-level", "warning")
    with (
        listening_process("ccm_runtime", "serve", *flags) as server,
        Client(server.address) as client,
        client.open_session(seed=7) as session,
    ):
        drive(task(0), session, episodes=1)
    (file,) = tmp_path.glob(f"*{SUFFIX}")
    assert "rate" in {kind.value for _, answer in read_recording(file).steps for kind in answer.reaction.interventions}
    finished = ccm("replay", file)
    assert (0, "equal: 32 actions, bit for bit") == (finished.returncode, finished.stdout.splitlines()[-1])


def test_every_session_of_a_crowd_comes_out_again(folder):
    files = sorted(folder.glob(f"*{SUFFIX}"))
    assert 9 == len(files)
    assert 33 * (EPISODES + 8 * 2) == sum(len(read_recording(file).steps) for file in files)
    finished = ccm("replay", files[0], "--json")
    told = json.loads(finished.stdout)
    assert (0, True, True) == (finished.returncode, told["equal"], told["same_bundle"])


def test_another_bundle_says_which_it_is_and_how_it_would_have_acted(folder):
    finished = ccm("replay", longest(folder), "--bundle", OTHER, "--json")
    told = json.loads(finished.stdout)
    assert (0, False, False) == (finished.returncode, told["equal"], told["same_bundle"])
    assert told["bundle"] != told["recorded"]["bundle"]
    assert [32] * EPISODES == [episode["num_actions"] for episode in told["episodes"]]
    differences = np.array([episode["mean_difference"] for episode in told["episodes"]])
    assert (differences > 0.01).all()
    assert (differences < 1.0).all()
    shown = ccm("replay", longest(folder), "--bundle", OTHER).stdout
    assert f"replayed with another bundle: {told['agent_id']} ({told['bundle'][:12]})" in shown
    assert told["recorded"]["bundle"][:12] in shown


def test_a_torn_file_is_replayed_as_far_as_it_is_whole(folder, tmp_path):
    torn = tmp_path / f"torn{SUFFIX}"
    torn.write_bytes(longest(folder).read_bytes()[:-5])
    finished = ccm("replay", torn)
    assert finished.returncode == 0, finished.stderr
    assert "are cut short; what is before is replayed" in finished.stdout
    assert f"equal: {32 * EPISODES} actions, bit for bit" in finished.stdout  # the last answer ends an episode


def test_what_does_not_come_out_again_ends_with_code_7(folder, tmp_path):
    """An answer in the middle that this bundle would not have given, in a whole frame."""
    from ccm_runtime.recording import line  # noqa: PLC0415

    file = longest(folder)
    *_, (event, answer) = read_recording(file).steps[:40]
    wrong = answer.reaction.action * np.float32(0.5)
    data = file.read_bytes()
    told = line(event, answer)
    changed = line(event, answer._replace(reaction=answer.reaction._replace(action=wrong)))
    assert 1 == data.count(told)
    forged = tmp_path / f"forged{SUFFIX}"
    forged.write_bytes(data.replace(told, changed))
    finished = ccm("replay", forged)
    assert fails(finished, 7, str(forged), f"event {answer.sequence} is the first whose action differs")


def test_what_is_no_recording_ends_with_code_6(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    assert fails(ccm("replay", tmp_path / "thesis.txt"), 6, "thesis.txt", "no recording")
