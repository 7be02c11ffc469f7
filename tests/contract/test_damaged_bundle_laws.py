"""No damaged bundle is ever loaded. The full figure: benchmarks/reliability_hostile.py."""

from damage import DAMAGES, damaged_bundles


def test_no_damaged_bundle_is_loaded(tiny_bundle, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    tried, loaded = damaged_bundles(tiny_bundle, work, num=33 * len(DAMAGES), seed=1)
    assert {damage.__name__: 33 for damage in DAMAGES} == tried
    assert [] == loaded
