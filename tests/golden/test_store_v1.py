"""A store of schema 1, as it was once written, is read: the same sessions, bit for bit, and the same tokens.

Rewrite it with CCM_UPDATE_GOLDEN=1 only while no release has schema 1.
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from durable import DIGEST, model

from ccm_runtime.messages import Intervention
from ccm_runtime.moment import Moment
from ccm_runtime.records import Stored, from_bytes, to_bytes
from ccm_runtime.sqlite_store import SqliteStore
from ccm_runtime.store import Record

STORE = Path(__file__).parent / "store-v1"
SECRET = bytes(range(32))


def written():
    """Sessions of every kind: new, in an episode, between episodes, with everything set."""
    sessions = [model(index).session(sequence) for index, sequence in enumerate((0, 3, 6, 40))]
    memory = sessions[3].memory._replace(returns=(1.0, 0.1, -1e300), return_so_far=1e-9)
    reaction = sessions[3].last_answer.reaction._replace(interventions=tuple(Intervention))
    answer = sessions[3].last_answer._replace(reaction=reaction, durable_sequence=38, total_ms=0.25)
    sessions[3] = dataclasses.replace(sessions[3], memory=memory, last_answer=answer, tenant="acme")
    digested = [dataclasses.replace(session, bundle_digest=DIGEST) for session in sessions]
    return [Stored(session, Moment(1e9, "boot", 5.0)) for session in digested]


def shown(value):
    """A value as JSON can hold it, with every bit: floats and vectors in hexadecimal."""
    if isinstance(value, np.ndarray):
        return [float(entry).hex() for entry in value]
    if isinstance(value, float):
        return value.hex()
    if dataclasses.is_dataclass(value):
        return {field.name: shown(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "_fields"):
        return {name: shown(part) for name, part in value._asdict().items()}
    if isinstance(value, tuple):
        return [shown(entry) for entry in value]
    return getattr(value, "value", value)


def differences(old, new, where=""):
    """Where what was written then is not what is read now; entries that came later have their defaults, and are new."""
    if isinstance(old, dict):
        return [line for name in old for line in differences(old[name], new.get(name), f"{where}.{name}")]
    return [] if old == new else [f"{where}: {old} became {new}"]


@pytest.fixture
def store(tmp_path):
    if os.environ.get("CCM_UPDATE_GOLDEN") == "1":
        shutil.rmtree(STORE, ignore_errors=True)
        STORE.mkdir()
        fresh = SqliteStore(STORE / "sessions.db")
        fresh.adopt(SECRET)
        fresh.commit([Record(stored.session.session_id, to_bytes(stored)) for stored in written()], [])
        fresh.close()
        text = json.dumps([shown(stored) for stored in written()], indent=1)
        (STORE / "sessions.json").write_text(text + "\n", encoding="utf-8")
    shutil.copy(STORE / "sessions.db", tmp_path)
    opened = SqliteStore(tmp_path / "sessions.db")
    yield opened
    opened.close()


def test_a_store_of_schema_1_holds_the_sessions_that_it_held(store):
    expected = json.loads((STORE / "sessions.json").read_text(encoding="utf-8"))
    found = sorted((from_bytes(record.data) for record in store.read()), key=lambda stored: stored.session.session_id)
    now = [shown(stored) | {"bundle_digest": stored.session.bundle_digest} for stored in found]  # where it once stood
    assert [] == [line for old, new in zip(expected, now, strict=True) for line in differences(old, new)]


def test_tokens_of_a_store_of_schema_1_still_hold(store):
    assert store.secret() == SECRET


def test_a_record_is_written_as_schema_1_writes_it(store):
    """Another byte here is another schema: raise its number and go on reading this one."""
    for record in store.read():
        assert record.data == to_bytes(from_bytes(record.data))
