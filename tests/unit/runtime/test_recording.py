"""Laws of recordings: what was written is read, as far as it is whole, and the server never waits for it."""

import os
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from ccm_runtime.adapt import Adapter
from ccm_runtime.errors import ConfigError, ContextMismatchError, RecordCorruptError
from ccm_runtime.event_core import EventCore, Step
from ccm_runtime.manifest import Adaptation, SafetyLimits
from ccm_runtime.messages import BeginEpisode, Transition
from ccm_runtime.owed import catch_up
from ccm_runtime.recorder import MAX_WAITING, Recorder
from ccm_runtime.recording import SUFFIX, head, line, read_recording
from ccm_runtime.replay import compare
from ccm_runtime.session import SessionTable
from ccm_runtime.testing import ScriptedPolicy

BUNDLE, OTHER = "5c" * 32, "ab" * 32
ADAPTATION = Adaptation(explore_episodes=2, episodes=4, horizon=5)
LIMITS = SafetyLimits(max_rate=(0.5, 0.25), fallback="hold")


def agent_of(digest):
    return {BUNDLE: ("scripted-0", LIMITS), OTHER: ("scripted-1", None)}[digest]


class Log(list):
    def warning(self, event, **more):
        self.append((event, more))


def served(recorder=None, adaptation=ADAPTATION):
    """Return a core with a table, without a socket."""
    table, adapter = SessionTable(100, 60.0), Adapter.of(ScriptedPolicy(adaptation))
    return SimpleNamespace(core=EventCore(adapter, table, recorder=recorder), table=table, adapter=adapter)


def step(server, session, sequence, event):
    taken = Step(session.session_id, sequence, event, server.core.clock())
    before, checked = server.core.admit(taken)
    proposal = server.adapter.propose([before.memory], [checked])[0]
    return server.core.conclude(taken, before, proposal, 0.0)


def run(server, episodes, *, seed=0, stochastic=False, session=None):
    """Run so many episodes of a session; return it and the actions it was given."""
    rng = np.random.default_rng(seed)
    session = session or server.table.open(server.adapter.start(seed=seed, stochastic=stochastic), bundle_digest=BUNDLE)
    sequence, actions = server.table.find(session.session_id).next_sequence, []
    for _ in range(episodes):
        answer = step(server, session, sequence, BeginEpisode(rng.normal(size=2).astype(np.float32)))
        while not answer.reaction.episode_over:
            actions.append(answer.reaction.action)
            moved = Transition(rng.normal(size=2).astype(np.float32), float(np.float32(rng.normal())))
            sequence += 1
            answer = step(server, session, sequence, moved)
        sequence += 1
    return session, actions


def recorded(folder, episodes=4, max_mb=64, **options):
    recorder = Recorder(folder, max_mb << 20, agent_of, Log())
    session, actions = run(served(recorder), episodes, **options)
    recorder.stop()
    return session, actions, sorted(folder.glob(f"*{SUFFIX}"))


@pytest.mark.parametrize("stochastic", [False, True])
def test_a_recorded_session_comes_out_again_bit_for_bit(tmp_path, stochastic):
    session, actions, files = recorded(tmp_path, stochastic=stochastic)
    assert [f"{session.session_id}-000000001{SUFFIX}"] == [file.name for file in files]
    recording = read_recording(files[0])
    assert (session.session_id, BUNDLE, "scripted-0", LIMITS, 1, 24, "") == (
        recording.session_id, recording.bundle_digest, recording.agent_id, recording.safety, recording.first_sequence,
        len(recording.steps), recording.damage,
    )  # fmt: skip
    told = [answer.reaction.action for _, answer in recording.steps if answer.reaction.action is not None]
    np.testing.assert_array_equal(actions, told)
    found = compare(recording, served().adapter, BUNDLE)
    assert (True, True, 24, 20, 0.0) == (
        found.bit_for_bit, found.equal, found.num_events, found.num_actions, found.largest_difference,
    )  # fmt: skip


def test_a_recorded_episode_that_was_abandoned_comes_out_again(tmp_path):
    recorder = Recorder(tmp_path, 64 << 20, agent_of, Log())
    server = served(recorder)
    session, _ = run(server, 1, seed=3)
    begin = BeginEpisode(np.array([0.5, 0.25], np.float32))
    step(server, session, 7, begin)
    step(server, session, 8, replace(begin, abandon=True))
    recorder.stop()
    recording = read_recording(next(iter(tmp_path.glob(f"*{SUFFIX}"))))
    assert [False, True] == [event.abandon for event, _ in recording.steps[-2:]]
    found = compare(recording, served().adapter, BUNDLE)
    assert (True, 8, 7) == (found.bit_for_bit, found.num_events, found.num_actions)


def recorded_late(folder, seed=0, *, re_explore=False, **different):
    """Record a session whose networks are late for most events; return what was written, its file, and the adapter."""
    recorder, rng = Recorder(folder, 64 << 20, agent_of, Log()), np.random.default_rng(seed)
    server = served(recorder, ADAPTATION.model_copy(update=different))
    core, policy = server.core, server.adapter.policy
    name = server.table.open(server.adapter.start(seed=seed, re_explore=re_explore), bundle_digest=BUNDLE).session_id
    for sequence in range(1, 61):
        seen = rng.normal(size=2).astype(np.float32)
        begins = sequence % (ADAPTATION.horizon + 1) == 1
        event = BeginEpisode(seen) if begins else Transition(seen, float(np.float32(rng.normal())))
        if rng.random() < 0.4:
            step(server, server.table.find(name), sequence, event)
            continue
        taken = Step(name, sequence, event, core.clock())
        before, checked = core.admit(taken)
        core.fall_back(taken, before, checked)
        after = server.table.find(name)
        if rng.random() < 0.5:  # the networks came before the next event, for all that was owed or for some of it
            num_left = int(rng.integers(len(after.memory.owed) + 1))
            core.catch_up(after, catch_up(policy, after.memory, num_left), len(after.memory.owed) - num_left)
    recorder.stop()
    (file,) = folder.glob(f"*{SUFFIX}")
    return read_recording(file), file, server.adapter


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("re_explore", [False, True])
@pytest.mark.parametrize(
    "different",
    [{}, {"while_executing": False}, {"latent": "sample"}, {"certain_at": 0.5}],
    ids=["mean", "fixed", "sampled", "certain"],
)
def test_a_session_whose_networks_were_late_comes_out_again(tmp_path, different, re_explore, seed):
    recording, _, adapter = recorded_late(tmp_path, seed, re_explore=re_explore, **different)
    found = compare(recording, adapter, BUNDLE)
    assert (True, 60, 50) == (found.equal, found.num_events, found.num_actions)
    assert found.largest_difference < 1e-6


def test_a_recording_that_does_not_tell_which_events_fell_back_is_taken_with_the_networks(tmp_path):
    told, file, adapter = recorded_late(tmp_path)
    data, fell_back = file.read_bytes(), told.fell_back
    size = sum(len(line(*step, fell_back.get(step[1].sequence))) for step in told.steps)
    file.write_bytes(data[:-size] + b"".join(line(*step) for step in told.steps))
    older = read_recording(file)
    assert (True, {}, 60) == (len(fell_back) > 20, older.fell_back, len(older.steps))
    assert compare(older, adapter, BUNDLE).equal  # its latent follows the belief, which lags in no other way


@pytest.mark.parametrize("safety", [None, SafetyLimits(), SafetyLimits(fallback="last-safe"), LIMITS])
def test_a_recording_holds_the_limits_that_were_known(tmp_path, safety):
    file = tmp_path / f"session{SUFFIX}"
    file.write_bytes(head(served().table.open(served().adapter.start(), bundle_digest=BUNDLE), "", safety, 0.0))
    assert safety == read_recording(file).safety


def test_another_agent_is_told_from_the_one_that_answered(tmp_path):
    """One that is bolder in its third episode, and the same before: the first event that differs is that episode's."""

    class Bolder(ScriptedPolicy):
        def execute(self, observation, latent, noise):
            return super().execute(observation, latent, noise) * np.float32(0.5)

    _, actions, (file,) = recorded(tmp_path)
    found = compare(read_recording(file), Adapter.of(Bolder(ADAPTATION)), OTHER)
    assert (False, False, False, 13) == (found.same_bundle, found.equal, found.bit_for_bit, found.first_difference)
    assert [0.0, 0.0] == [episode.mean_difference for episode in found.episodes[:2]]
    for number in (2, 3):  # half of every action, as the belief is that of the actions that were applied
        expected = np.abs(0.5 * np.array(actions[5 * number : 5 * number + 5])).mean() / 2.0
        assert expected == pytest.approx(found.episodes[number].mean_difference, rel=1e-4)
    assert [5, 5, 5, 5] == [episode.num_actions for episode in found.episodes]


def test_a_difference_of_rounding_is_no_difference(tmp_path):
    class Rounded(ScriptedPolicy):
        def execute(self, observation, latent, noise):
            return super().execute(observation, latent, noise) * np.float32(1.0 - 1e-6)

    _, _, (file,) = recorded(tmp_path)
    found = compare(read_recording(file), Adapter.of(Rounded(ADAPTATION)), BUNDLE)
    assert (True, False) == (found.equal, found.bit_for_bit)
    assert 0.0 < found.largest_difference < 1e-5


def test_a_bundle_of_another_shape_is_refused(tmp_path):
    _, _, (file,) = recorded(tmp_path)
    with pytest.raises(ContextMismatchError, match=r"observations of .2. entries .* this bundle's have 3"):
        compare(read_recording(file), Adapter.of(ScriptedPolicy(ADAPTATION, size=3)), OTHER)


def test_a_damaged_recording_gives_its_longest_valid_prefix_and_says_so(tmp_path):
    _, _, (file,) = recorded(tmp_path)
    whole, adapter = read_recording(file), served().adapter
    data = file.read_bytes()
    size = len(line(*whole.steps[-1]))
    for damaged, num_events, words in (
        (data[:-1], 23, f"the last {size - 1} bytes are cut short"),
        (data[:-size], 23, ""),
        (data + b"\x00\x00", 24, "the last 2 bytes are cut short"),
        (data[:-3] + b"\xff" + data[-2:], 23, "are damaged"),
        (data[:-size] + data[-size:] * 2, 24, "event 25 is missing"),
    ):
        file.write_bytes(damaged)
        found = read_recording(file)
        assert (num_events, True) == (len(found.steps), words in found.damage)
        assert compare(found, adapter, BUNDLE).bit_for_bit


def test_any_flipped_byte_is_seen(tmp_path):
    _, _, (file,) = recorded(tmp_path, episodes=1)
    lines, data = [line(*step) for step in read_recording(file).steps], file.read_bytes()
    for at in range(len(data)):
        file.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            found = read_recording(file)
        except RecordCorruptError:
            continue
        assert found.damage
        assert [line(*step) for step in found.steps] == lines[: len(found.steps)]
        assert len(found.steps) < len(lines)


@pytest.mark.parametrize("text", [b"", b"precious", b"CCMR1\n", b"CCMR1\n\xff\xff\xff\xff\x00\x00\x00\x00abc"])
def test_what_is_no_recording_is_named(tmp_path, text):
    file = tmp_path / "thesis.txt"
    file.write_bytes(text)
    with pytest.raises(RecordCorruptError, match=r"thesis.txt"):
        read_recording(file)


def test_a_session_that_is_found_under_way_is_recorded_from_there(tmp_path):
    quiet = served()
    session, _ = run(quiet, 2)
    recorder = Recorder(tmp_path, 1 << 20, agent_of, Log())
    quiet.core._recorder = recorder
    run(quiet, 2, session=session, seed=1)
    recorder.stop()
    (file,) = tmp_path.glob(f"*{SUFFIX}")
    recording = read_recording(file)
    assert (13, 12, True) == (
        recording.first_sequence, len(recording.steps), compare(recording, quiet.adapter, BUNDLE).bit_for_bit,
    )  # fmt: skip


def test_what_does_not_fit_into_the_queue_is_dropped_counted_and_said_and_the_rest_can_be_replayed(
    tmp_path, monkeypatch
):
    gate = threading.Event()
    turn, log = Recorder._turn, Log()
    monkeypatch.setattr(Recorder, "_turn", lambda self: gate.wait(30.0) and turn(self))
    monkeypatch.setattr("ccm_runtime.recorder.MAX_WAITING", 10)
    recorder = Recorder(tmp_path, 1 << 20, agent_of, log)
    server = served(recorder)
    session, _ = run(server, 2)  # 12 events, of which 2 do not fit; nothing waits for the thread
    gate.set()
    recorder.stop()
    assert (10, 2) == (recorder.num_recorded, recorder.num_dropped)
    assert [("recording dropped events", {"num_dropped": 2})] == log

    again = server.core._recorder = Recorder(tmp_path, 1 << 20, agent_of, log)
    run(server, 1, session=session)
    again.stop()
    recordings = [read_recording(file) for file in sorted(tmp_path.glob(f"*{SUFFIX}"))]
    assert [(1, 10), (13, 6)] == [(one.first_sequence, len(one.steps)) for one in recordings]
    assert all(compare(one, server.adapter, BUNDLE).bit_for_bit for one in recordings)
    assert MAX_WAITING > 1_000


def test_a_gap_in_what_is_written_begins_a_new_file(tmp_path):
    recorder = Recorder(tmp_path, 1 << 20, agent_of, Log())
    server = served(recorder)
    session, _ = run(server, 1)
    server.core._recorder = None
    run(server, 1, session=session)
    server.core._recorder = recorder
    run(server, 1, session=session)
    recorder.stop()
    recordings = [read_recording(file) for file in sorted(tmp_path.glob(f"*{SUFFIX}"))]
    assert [(1, 6), (13, 6)] == [(one.first_sequence, len(one.steps)) for one in recordings]


def test_a_session_that_moves_to_another_bundle_goes_on_in_a_file_of_its_own(tmp_path):
    recorder = Recorder(tmp_path, 1 << 20, agent_of, Log())
    server = served(recorder)
    session, _ = run(server, 1)
    server.table.keep(replace(server.table.find(session.session_id), bundle_digest=OTHER))
    run(server, 1, session=session)
    recorder.stop()
    recordings = [read_recording(file) for file in sorted(tmp_path.glob(f"*{SUFFIX}"))]
    assert [(BUNDLE, "scripted-0", 1), (OTHER, "scripted-1", 7)] == [
        (one.bundle_digest, one.agent_id, one.first_sequence) for one in recordings
    ]


def test_the_folder_stays_within_its_bound_and_the_oldest_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr("ccm_runtime.recorder._TIDY_EVERY_S", -1.0)
    recorder = Recorder(tmp_path, 40_000, agent_of, Log())
    server = served(recorder)
    for seed in range(30):
        session, _ = run(server, 4, seed=seed)
    recorder.stop()
    files = list(tmp_path.glob(f"*{SUFFIX}"))
    assert 0 < sum(file.stat().st_size for file in files) <= 40_000
    assert any(file.name.startswith(session.session_id) for file in files)
    assert (30 * 24, 0) == (recorder.num_recorded, recorder.num_dropped)
    assert all(compare(read_recording(file), server.adapter, BUNDLE).bit_for_bit for file in files)


def test_files_of_one_moment_go_in_the_order_they_were_written_in(tmp_path):
    recorder = Recorder(tmp_path, 1 << 20, agent_of, Log())
    server = served(recorder)
    sessions = [run(server, 1, seed=seed)[0].session_id for seed in range(8)]
    recorder.stop()
    for file in tmp_path.glob(f"*{SUFFIX}"):
        os.utime(file, ns=(0, 0))
    recorder._max_bytes = sum(file.stat().st_size for file in tmp_path.glob(f"*{SUFFIX}")) // 2
    recorder._tidy()
    left = {file.name.partition("-")[0] for file in tmp_path.glob(f"*{SUFFIX}")}
    assert 0 < len(left) <= 4
    assert left == set(sessions[-len(left) :])


@pytest.mark.parametrize(("by_hand", "dropped"), [(False, 0), (True, 6)])
def test_a_session_whose_file_was_removed_goes_on_in_a_new_one_that_can_be_replayed(tmp_path, by_hand, dropped):
    recorder = Recorder(tmp_path, 1 << 20, agent_of, Log())
    server = served(recorder)
    session, _ = run(server, 1)
    recorder.stop()
    if by_hand:
        next(tmp_path.glob(f"*{SUFFIX}")).unlink()
    else:
        recorder._max_bytes = 0
        recorder._tidy()
    recorder._max_bytes = 1 << 20
    for _ in range(2):
        run(server, 1, session=session)
        recorder._turn()
    (file,) = tmp_path.glob(f"*{SUFFIX}")
    assert (7 + dropped, dropped) == (read_recording(file).first_sequence, recorder.num_dropped)
    assert compare(read_recording(file), server.adapter, BUNDLE).bit_for_bit


def test_a_disk_that_fails_drops_and_what_comes_later_can_be_replayed(tmp_path):
    folder = tmp_path / "disk"
    recorder = Recorder(folder, 1 << 20, agent_of, Log())
    server = served(recorder)
    folder.rename(tmp_path / "gone")
    session, _ = run(server, 1)
    recorder.stop()
    assert (0, 6) == (recorder.num_recorded, recorder.num_dropped)
    server.core._recorder = again = Recorder(folder, 1 << 20, agent_of, Log())
    run(server, 1, session=session)
    again.stop()
    (file,) = folder.glob(f"*{SUFFIX}")
    assert (7, 6, 0) == (read_recording(file).first_sequence, again.num_recorded, again.num_dropped)


def test_a_full_disk_gathers_no_empty_files_and_keeps_what_was_written(tmp_path, monkeypatch):
    recorder = Recorder(tmp_path, 1 << 20, agent_of, Log())
    server = served(recorder)
    session, _ = run(server, 1)
    recorder.stop()
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda *_: 0)
        for _ in range(3):
            run(server, 1, session=session)
            recorder._turn()
    (file,) = tmp_path.glob(f"*{SUFFIX}")
    assert (1, 6, 18) == (read_recording(file).first_sequence, recorder.num_recorded, recorder.num_dropped)


def test_a_disk_that_hangs_does_not_keep_a_server_from_ending(tmp_path, monkeypatch):
    monkeypatch.setattr("ccm_runtime.recorder._STOP_S", 0.1)
    goes_on, log = threading.Event(), Log()
    monkeypatch.setattr(Recorder, "_write", lambda *_: goes_on.wait(20))
    recorder = Recorder(tmp_path, 1 << 20, agent_of, log)
    run(served(recorder), 1)
    stopping = threading.Thread(target=recorder.stop, daemon=True)
    stopping.start()
    stopping.join(10)
    assert not stopping.is_alive()
    assert ["recordings not written"] == [event for event, _ in log]
    goes_on.set()


def test_a_folder_that_cannot_be_written_to_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ConfigError, match=r"cannot record into .*file: .*; name another --record"):
        Recorder(tmp_path / "file", 1 << 20, agent_of, Log())
