"""Whatever byte of a bundle is flipped, and wherever a file of it is cut, it is not loaded."""

import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bundle import write_tiny_bundle

from ccm_runtime.bundle import load_bundle
from ccm_runtime.errors import BundleError


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_tiny_bundle(tmp_path_factory.mktemp("whole") / "bundle")


@given(data=st.data())
def test_a_flipped_byte_is_always_caught(whole, data):
    name = data.draw(st.sampled_from(sorted(path.name for path in whole.iterdir())))
    path = whole / name
    before = path.read_bytes()
    place = data.draw(st.integers(0, len(before) - 1))
    flip = data.draw(st.integers(1, 255))
    path.write_bytes(before[:place] + bytes([before[place] ^ flip]) + before[place + 1 :])
    try:
        with pytest.raises(BundleError) as refused:
            load_bundle(whole)
        assert "\n" not in str(refused.value)
    finally:
        path.write_bytes(before)
    load_bundle(whole)


@settings(max_examples=50)
@given(data=st.data())
def test_a_truncated_file_is_always_caught(whole, data, tmp_path_factory):
    copy = tmp_path_factory.mktemp("cut") / "bundle"
    shutil.copytree(whole, copy)
    path = data.draw(st.sampled_from(sorted(copy.iterdir())))
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size - 1))])
    with pytest.raises(BundleError):
        load_bundle(copy)
