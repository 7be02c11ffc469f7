"""A bundle is read as it was written, and a folder that holds anything else is refused, and told what is wrong."""

import json
import shutil

import onnx
import pytest
from onnx import external_data_helper
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime.bundle import MANIFEST, load_bundle
from ccm_runtime.errors import BundleCorruptError, BundleMissingError, BundleSchemaError
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, GRAPHS, from_bytes, to_bytes
from ccm_runtime.onnx_scan import has_external_data
from ccm_runtime.testing import ScriptedPolicy, manifest_of


def test_a_bundle_is_read_as_it_was_written(tiny_bundle):
    bundle = load_bundle(tiny_bundle)
    assert set(GRAPHS) == set(bundle.graphs)
    assert (tiny_bundle / CONTEXT_ENCODER).read_bytes() == bundle.graphs[CONTEXT_ENCODER]
    assert len(bundle.digest) == 64


def test_the_model_card_is_optional(tiny_bundle):
    text = (tiny_bundle / "manifest.json").read_bytes()
    manifest = from_bytes(text)
    files = {name: digest for name, digest in manifest.files.items() if name in GRAPHS}
    (tiny_bundle / "MODEL_CARD.md").unlink()
    (tiny_bundle / "manifest.json").write_bytes(to_bytes(manifest.model_copy(update={"files": files})))
    assert set(GRAPHS) == set(load_bundle(tiny_bundle).graphs)


def test_a_folder_that_is_no_bundle_is_missing(tmp_path):
    with pytest.raises(BundleMissingError, match="no bundle at"):
        load_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleMissingError, match=r"has no manifest\.json"):
        load_bundle(tmp_path)


def test_a_missing_graph_is_refused(tiny_bundle):
    (tiny_bundle / EXECUTION_POLICY).unlink()
    with pytest.raises(BundleCorruptError, match="lacks"):
        load_bundle(tiny_bundle)


def test_an_extra_file_is_refused(tiny_bundle):
    (tiny_bundle / "weights.bin").write_bytes(b"1")
    with pytest.raises(BundleCorruptError, match=r"weights\.bin"):
        load_bundle(tiny_bundle)


def test_a_link_is_refused_even_to_the_right_bytes(tiny_bundle, tmp_path):
    moved = tmp_path / "elsewhere.onnx"
    shutil.move(tiny_bundle / EXECUTION_POLICY, moved)
    (tiny_bundle / EXECUTION_POLICY).symlink_to(moved)
    why = f"^{tiny_bundle}: {EXECUTION_POLICY} cannot be read \\(a link is not followed\\)$"
    with pytest.raises(BundleCorruptError, match=why):
        load_bundle(tiny_bundle)


def test_what_is_wrong_with_a_bundle_is_told_with_its_name(tiny_bundle):
    (tiny_bundle / EXECUTION_POLICY).write_bytes(b"1")
    with pytest.raises(BundleCorruptError, match=f"^{tiny_bundle}: {EXECUTION_POLICY} has 1 byte, its manifest says"):
        load_bundle(tiny_bundle)
    (tiny_bundle / MANIFEST).write_text("{")
    with pytest.raises(BundleSchemaError, match=f"^{tiny_bundle}: manifest.json does not follow schema 1: "):
        load_bundle(tiny_bundle)


def test_a_folder_in_place_of_a_file_is_refused(tiny_bundle):
    (tiny_bundle / EXECUTION_POLICY).unlink()
    (tiny_bundle / EXECUTION_POLICY).mkdir()
    with pytest.raises(BundleCorruptError):
        load_bundle(tiny_bundle)


def test_swapped_graphs_are_refused(tiny_bundle):
    first, second = (tiny_bundle / GRAPHS[0]), (tiny_bundle / GRAPHS[2])
    contents = first.read_bytes(), second.read_bytes()
    first.write_bytes(contents[1])
    second.write_bytes(contents[0])
    with pytest.raises(BundleCorruptError):
        load_bundle(tiny_bundle)


@pytest.mark.parametrize("change", [b"", b"\0"], ids=["shorter", "longer"])
def test_another_size_is_refused(tiny_bundle, change):
    path = tiny_bundle / EXECUTION_POLICY
    path.write_bytes(path.read_bytes() + change if change else path.read_bytes()[:-1])
    with pytest.raises(BundleCorruptError, match="bytes"):
        load_bundle(tiny_bundle)


@pytest.mark.parametrize("name", ["../secret.onnx", "/etc/passwd", "sub/graph.onnx"])
def test_a_manifest_that_lists_other_paths_is_refused(tiny_bundle, name):
    manifest = from_bytes((tiny_bundle / "manifest.json").read_bytes())
    files = {**manifest.files, name: manifest.files[EXECUTION_POLICY]}
    (tiny_bundle / "manifest.json").write_bytes(to_bytes(manifest.model_copy(update={"files": files})))
    with pytest.raises(BundleSchemaError, match="lists"):
        load_bundle(tiny_bundle)


def test_a_manifest_that_was_edited_is_refused_though_its_schema_holds(tiny_bundle):
    path = tiny_bundle / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"horizon": 5', b'"horizon": 6'))
    with pytest.raises(BundleCorruptError, match="manifest_sha256"):
        load_bundle(tiny_bundle)


@pytest.mark.parametrize(
    ("entry", "value", "names"),
    [
        ("surprise", 1, "surprise"),
        ("schema_version", 2, "schema_version"),
        ("observation", {}, "observation"),
    ],
)
def test_a_manifest_off_the_schema_is_refused_by_its_entry(tiny_bundle, entry, value, names):
    path = tiny_bundle / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), entry: value}))
    with pytest.raises(BundleSchemaError, match=names):
        load_bundle(tiny_bundle)


def test_a_manifest_whose_sizes_disagree_cannot_be_made():
    manifest = manifest_of(ScriptedPolicy())
    broken = manifest.model_dump() | {"safety": {"max_rate": (1.0,)}}
    with pytest.raises(ValueError, match="max_rate has 1 entry, an action has 2"):
        type(manifest).model_validate(broken)


def test_external_data_is_refused_before_a_graph_is_opened(tmp_path):
    manifest = manifest_of(ScriptedPolicy())
    graphs = tiny_graphs(manifest)
    model = onnx.load_from_string(graphs[EXECUTION_POLICY])
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, "/etc/passwd")
    graphs[EXECUTION_POLICY] = model.SerializeToString()
    with pytest.raises(BundleSchemaError, match="another file"):
        load_bundle(write_bundle(tmp_path / "bundle", manifest, graphs))


def test_external_data_is_found_inside_a_nodes_tensor():
    tensor = onnx.TensorProto(name="w", data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    node = onnx.helper.make_node("Constant", [], ["x"], value=tensor)
    inner = onnx.helper.make_graph([node], "inner", [], [])
    branch = onnx.helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    model = onnx.helper.make_model(onnx.helper.make_graph([branch], "outer", [], []))
    assert has_external_data(model.SerializeToString())


def test_external_data_cannot_hide_behind_a_field_number_that_the_parser_cuts_off():
    tensor = b"\xf0\x80\x80\x80\x10\x01"  # data_location = EXTERNAL, to onnxruntime
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    with pytest.raises(BundleSchemaError, match="number is too large"):
        has_external_data(b"\x3a" + bytes([len(graph)]) + graph)


@pytest.mark.parametrize("graph", [b"\x3a\x7f", b"\xff" * 12, b"\x3b", b"\x39\x00"])
def test_bytes_that_are_no_graph_are_refused(graph):
    with pytest.raises(BundleSchemaError):
        has_external_data(graph)
