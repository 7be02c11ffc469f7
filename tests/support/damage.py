"""Ways to damage a bundle, each a function of a random generator and the bundle's folder."""

import hashlib
import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto
from tiny_bundle import tiny_graphs, write_bundle

from ccm_runtime.bundle import load_bundle
from ccm_runtime.errors import BundleError
from ccm_runtime.manifest import EXECUTION_POLICY, EXPLORATION_POLICY, GRAPHS
from ccm_runtime.testing import ScriptedPolicy, manifest_of


def _any_file(rng: random.Random, bundle: Path) -> Path:
    return rng.choice(sorted(path for path in bundle.iterdir() if path.is_file()))


def flip(rng: random.Random, bundle: Path) -> None:
    """Flip bits of a byte."""
    path = _any_file(rng, bundle)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
    path.write_bytes(data)


def truncate(rng: random.Random, bundle: Path) -> None:
    """Cut a file."""
    path = _any_file(rng, bundle)
    path.write_bytes(path.read_bytes()[: rng.randrange(path.stat().st_size)])


def lengthen(rng: random.Random, bundle: Path) -> None:
    """Add bytes to a file."""
    path = _any_file(rng, bundle)
    path.write_bytes(path.read_bytes() + rng.randbytes(rng.randrange(1, 100)))


def overwrite(rng: random.Random, bundle: Path) -> None:
    """Fill a piece of a file with noise."""
    path = _any_file(rng, bundle)
    data = bytearray(path.read_bytes())
    begin = rng.randrange(len(data))
    piece = bytes(byte ^ rng.randrange(1, 256) for byte in data[begin : begin + rng.randrange(1, 200)])
    data[begin : begin + len(piece)] = piece
    path.write_bytes(data)


def swap(rng: random.Random, bundle: Path) -> None:
    """Let two graphs change places."""
    first, second = (bundle / name for name in rng.sample(sorted(GRAPHS), 2))
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)


def add(rng: random.Random, bundle: Path) -> None:
    """Put another file, folder or link in."""
    path = bundle / f"{rng.choice(['', '.', 'graph'])}{rng.getrandbits(32):x}{rng.choice(['', '.onnx', '.sig'])}"
    rng.choice([lambda: path.write_bytes(b"x"), path.mkdir, lambda: path.symlink_to("manifest.json")])()


def remove(rng: random.Random, bundle: Path) -> None:
    """Take a file away."""
    _any_file(rng, bundle).unlink()


def link(rng: random.Random, bundle: Path) -> None:
    """Put a link to the very same content in the place of a file."""
    path = _any_file(rng, bundle)
    moved = bundle.parent / f"moved-{rng.getrandbits(32):x}"
    shutil.move(path, moved)
    path.symlink_to(moved)


def _sealed(rng: random.Random, manifest: dict[str, Any]) -> str:
    """Write a manifest, half of the time with the seal that fits it."""
    if rng.random() < 0.5 or not isinstance(manifest.get("manifest_sha256"), str):
        return json.dumps(manifest)
    manifest["manifest_sha256"] = ""
    text = json.dumps(manifest)
    seal = hashlib.sha256(text.encode()).hexdigest()
    return text.replace('"manifest_sha256": ""', f'"manifest_sha256": "{seal}"')


def misname(rng: random.Random, bundle: Path) -> None:
    """List a file under a path that leads out of the folder, or elsewhere in it."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_bytes())
    name = rng.choice(sorted(GRAPHS))
    wrong = rng.choice(
        [f"../{name}", f"/etc/{name}", f"./{name}", f"sub/{name}", f"{name}\x00", name.upper(), "\\" + name]
    )
    manifest["files"][wrong] = manifest["files"].pop(name)
    (bundle.parent / name).write_bytes((bundle / name).read_bytes())
    path.write_text(_sealed(rng, manifest), encoding="utf-8")


def redefine(rng: random.Random, bundle: Path) -> None:
    """Say something else in the manifest about sizes, digests or the schema."""
    path = bundle / "manifest.json"
    manifest = json.loads(path.read_bytes())
    change = rng.randrange(4)
    name = rng.choice(sorted(GRAPHS))
    if change == 0:
        manifest["files"][name]["size_bytes"] += rng.choice([-1, 1, 1 << 40])
    elif change == 1:
        manifest["files"][name]["sha256"] = hashlib.sha256(rng.randbytes(8)).hexdigest()
    elif change == 2:
        # May be another good manifest: only its seal tells.
        manifest[rng.choice(sorted(set(manifest) - {"manifest_sha256"}))] = rng.choice([None, [], {}, -1, "x" * 1000])
        path.write_text(json.dumps(manifest), encoding="utf-8")
        return
    else:
        manifest[f"unknown_{rng.getrandbits(16):x}"] = 1
    path.write_text(_sealed(rng, manifest), encoding="utf-8")


def externalize(rng: random.Random, bundle: Path) -> None:
    """Let a graph, with the right digest, take its weights from another file."""
    manifest = manifest_of(ScriptedPolicy())
    graphs = tiny_graphs(manifest)
    name = rng.choice([EXECUTION_POLICY, EXPLORATION_POLICY])
    model = onnx.load_from_string(graphs[name])
    weights = model.graph.initializer[rng.randrange(len(model.graph.initializer))]
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    place = weights.external_data.add()
    place.key, place.value = "location", rng.choice(["weights.bin", "../weights.bin", "/etc/hostname"])
    graphs[name] = model.SerializeToString()
    shutil.rmtree(bundle)
    write_bundle(bundle, manifest, graphs)


DAMAGES = (flip, truncate, lengthen, overwrite, swap, add, remove, link, misname, redefine, externalize)


def damaged_bundles(whole: Path, folder: Path, num: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Damage a bundle `num` times, each time anew; return how often each way, and what was loaded all the same.

    Args:
        whole: A good bundle.
        folder: An empty folder to work in.
        num: How many.
        seed: Of the damage.
    """
    tried: Counter[str] = Counter()
    loaded = []
    for number in range(num):
        rng = random.Random(seed * 1_000_003 + number)
        damage = DAMAGES[number % len(DAMAGES)]
        bundle = folder / str(number) / "bundle"
        shutil.copytree(whole, bundle)
        damage(rng, bundle)
        tried[damage.__name__] += 1
        if not _refused(bundle):
            loaded.append(f"{damage.__name__} {number}")
        shutil.rmtree(bundle.parent)
    return tried, loaded


def _refused(bundle: Path) -> bool:
    try:
        load_bundle(bundle)
    except BundleError:
        return True
    return False
