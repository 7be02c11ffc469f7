"""Readers of files and settings: whatever they are given, they take it or refuse it with an error of ours."""

import json
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_bundle import tiny_graphs

from ccm_runtime import kept_rollout
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import BundleError, ConfigError
from ccm_runtime.files import read_pem
from ccm_runtime.manifest import EXECUTION_POLICY, from_bytes, to_bytes
from ccm_runtime.onnx_scan import has_external_data
from ccm_runtime.tenants import Tokens
from ccm_runtime.testing import ScriptedPolicy, manifest_of
from ccm_runtime.ticket import Ticket

MANIFEST = json.loads(to_bytes(manifest_of(ScriptedPolicy())))
GRAPH = tiny_graphs(manifest_of(ScriptedPolicy()))[EXECUTION_POLICY]
V1 = kept_rollout.KeptVersion(name="v1", digest="ab" * 32)
ROLLOUT = json.loads(kept_rollout.KeptRollout(current=V1).model_dump_json())
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def path():
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "file"


@contextmanager
def taken_or_refused(kind):
    """Let errors of ours pass, if they are one line, and no other."""
    try:
        yield
    except kind as error:
        refused = str(error)
    else:
        return
    assert "\n" not in refused


@given(data=st.binary(max_size=300))
def test_a_manifest_of_any_bytes_is_refused(data):
    with pytest.raises(BundleError):
        from_bytes(data)


@given(name=st.sampled_from(sorted(MANIFEST)), tree=trees)
def test_a_manifest_with_any_entry_is_read_or_refused(name, tree):
    with taken_or_refused(BundleError):
        from_bytes(json.dumps({**MANIFEST, name: tree}).encode())


@given(place=st.integers(0, len(GRAPH) - 1), noise=st.binary(min_size=1, max_size=50))
def test_a_graph_with_any_damage_is_scanned_or_refused(place, noise):
    with taken_or_refused(BundleError):
        has_external_data(GRAPH[:place] + noise + GRAPH[place + len(noise) :])


@given(name=st.sampled_from(sorted(ServerConfig.model_fields)) | st.text(max_size=10), value=st.text(max_size=20))
def test_a_setting_of_any_text_is_taken_or_refused_in_one_line(name, value):
    for flags, environ in (({name: value}, {}), ({}, {f"CCM_{name.upper()}": value})):
        with taken_or_refused(ConfigError):
            ServerConfig.resolve(flags, environ)


@given(data=st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_files_of_tokens_and_keys_of_any_bytes_are_read_or_refused(path, data):
    path.write_bytes(data)
    for read in (Tokens.read, lambda file: read_pem(file, "CERTIFICATE")):
        with taken_or_refused(ConfigError):
            read(path)


@given(data=st.binary(max_size=200) | trees.map(lambda tree: json.dumps(tree).encode()))
def test_a_ticket_of_any_bytes_is_read_or_refused(path, data):
    path.write_bytes(data)
    with taken_or_refused(ConfigError):
        Ticket.load(path)


rollouts = st.builds(lambda name, tree: {**ROLLOUT, name: tree}, st.sampled_from(sorted(ROLLOUT)), trees)


@given(data=st.binary(max_size=200) | rollouts.map(lambda kept: json.dumps(kept).encode()))
def test_a_kept_rollout_of_any_bytes_is_read_or_set_aside_and_told_in_one_line(path, data):
    kept, told = path.with_name(kept_rollout.NAME), []
    kept.write_bytes(data)
    found = kept_rollout.read(path.parent, told.append)
    assert (found is None) == (1 == len(told)) == (not kept.exists())
    assert not any("\n" in line for line in told)
