"""Tear and flip the bytes of a store whose whole history is known, and look at what a server makes of it."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from durable import image, model, record, sessions_of

from ccm_runtime.errors import CcmError
from ccm_runtime.records import from_bytes
from ccm_runtime.sqlite_store import SqliteStore

State = dict[int, int]  # session to its number


@dataclass
class Written:
    """A store's files as a crash leaves them.

    Attributes:
        folder: Where they are; the store is `s.db`.
        states: What was committed, commit by commit; first: nothing.
        ends: Length of the log after each commit.
    """

    folder: Path
    states: list[State]
    ends: list[int]

    def at(self, length):
        """The last state whose commit ends within `length` bytes of the log."""
        return max(number for number, end in enumerate(self.ends) if end <= length)


def write(folder, seed, num_sessions=12, num_commits=60):
    """Commit groups of sessions as a server does, and take the files as they are before the store is closed."""
    rng, state = random.Random(seed), {}
    live, crashed = folder / "live", folder / "crashed"
    live.mkdir(parents=True)
    store = SqliteStore(live / "s.db")
    store.tidy()  # the tables are in the file: whatever happens to the log, it begins with an empty store
    log = live / "s.db-wal"
    written = Written(crashed, [{}], [log.stat().st_size])
    for _ in range(num_commits):
        group = rng.sample(range(num_sessions), rng.randint(1, 5))
        gone = [i for i in state if i not in group and rng.random() < 0.03]
        state = {i: n for i, n in state.items() if i not in gone}
        state.update({index: state.get(index, 0) + rng.randint(1, 4) for index in group})
        store.commit([record(model(i).session(state[i])) for i in group], [f"session-{i}" for i in gone])
        written.states.append(dict(state))
        written.ends.append(log.stat().st_size)
    shutil.copytree(live, crashed)
    store.close()
    return written


def reopened(written, folder, damage):
    """Damage a copy of the files; the sound sessions that a store then gives, and how many records it gives up."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(written.folder, folder)
    damage(folder)
    store, sound, bad = SqliteStore(folder / "s.db"), {}, 0
    for entry in store.read():
        try:
            session = from_bytes(entry.data).session
        except CcmError:
            bad += 1
            store.set_aside(entry.session_id, "damaged")
        else:
            sound[int(session.idempotency_key.removeprefix("key-"))] = session
    assert {image(s) for s in sound.values()} == {image(s) for s in sessions_of(store).values()}
    store.close()
    return sound, bad


def numbers(sessions):
    """Each session's number."""
    return {index: session.next_sequence - 1 for index, session in sessions.items()}


def campaign(folder, trials, seed):
    """Tear and flip `trials` times each; the counts, whose `violations` must be empty."""
    rng, found = random.Random(seed), []
    written = write(folder, seed)
    log_bytes = written.ends[-1]
    checkpointed = _checkpointed(written, folder)
    file_bytes = (checkpointed.folder / "s.db").stat().st_size
    given_up = 0
    for trial in range(trials):
        cut = rng.randrange(log_bytes + 1)
        sound, bad = reopened(written, folder / "try", lambda at, cut=cut: _cut(at / "s.db-wal", cut))
        if bad or numbers(sound) != written.states[written.at(cut)] or not _right(sound):
            found.append(f"trial {trial}: the log cut at {cut}: not the longest whole prefix")

        place = rng.randrange(log_bytes)
        sound, bad = reopened(written, folder / "try", lambda at, p=place: _flip(at / "s.db-wal", p, rng))
        least = (
            written.states[written.at(place) :] if place >= 32 else written.states
        )  # the log's header is the whole log
        if bad or numbers(sound) not in least or not _right(sound):
            found.append(f"trial {trial}: the log flipped at {place}: not a prefix that reaches there")

        sound, bad = reopened(
            checkpointed, folder / "try", lambda at: _flip(at / "s.db", rng.randrange(file_bytes), rng)
        )
        given_up += len(written.states[-1]) - len(sound)
        if not _right(sound) or any(n > written.states[-1].get(i, 0) for i, n in numbers(sound).items()):
            found.append(f"trial {trial}: a byte of the file flipped: a session that never was")
    return {
        "cut": trials,
        "flipped_in_log": trials,
        "flipped_in_file": trials,
        "sessions_given_up": given_up,
        "of_sessions": trials * len(written.states[-1]),
        "violations": found,
    }


def _right(sessions):
    return all(model(index).holds(session) for index, session in sessions.items())


def _checkpointed(written, folder):
    """The same store with its log folded into the file."""
    target = folder / "checkpointed"
    shutil.copytree(written.folder, target)
    store = SqliteStore(target / "s.db")
    store.tidy()
    store.close()
    return Written(target, written.states, [0])


def _cut(file, length):
    with file.open("r+b") as opened:
        opened.truncate(length)


def _flip(file, place, rng):
    with file.open("r+b") as opened:
        opened.seek(place)
        byte = opened.read(1)[0]
        opened.seek(place)
        opened.write(bytes([byte ^ rng.randint(1, 255)]))
