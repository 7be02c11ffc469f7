"""Read a bundle: check all of it, then hand out the very bytes that were checked.

Nothing here writes; `ccm_export.bundle_writer` does. No graph is parsed before every digest has been compared, because
a damaged ONNX file mostly loads, and acts differently.
"""

import errno
import glob
import hashlib
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from ccm_runtime.errors import BundleCorruptError, BundleError, BundleMissingError, BundleSchemaError
from ccm_runtime.manifest import GRAPHS, MODEL_CARD, Manifest, from_bytes
from ccm_runtime.onnx_scan import has_external_data
from ccm_runtime.signing import SIGNATURE, SIGNATURE_BYTES, check_signature
from ccm_runtime.specs import counted

MANIFEST = "manifest.json"
ASIDE = "old"
"""Where an export puts the bundle that it replaces, in a folder `.NAME-...` beside it, if that takes two steps."""
MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checked bundle.

    Attributes:
        path: Where it was read from.
        manifest: What it says of itself.
        digest: SHA-256 of manifest.json, hexadecimal: the bundle's identity.
        graphs: The bytes of each of `GRAPHS`, as they were checked.
    """

    path: Path
    manifest: Manifest
    digest: str
    graphs: dict[str, bytes] = field(repr=False)


def load_bundle(path: Path | str, public_key: Path | None = None) -> Bundle:
    """Return the bundle in folder `path`, after checking its schema, its file set, and every size and digest.

    Args:
        path: The folder.
        public_key: Check the signature too, by this key (Ed25519, PEM).

    Raises:
        BundleMissingError: No bundle is there.
        BundleCorruptError: A file is missing, extra, a link, or not the one that the manifest describes.
        BundleSchemaError: The manifest does not follow the schema, or a graph refers to data outside of it.
        BundleSignatureError: It is not signed by that key.
    """
    folder = Path(path)
    if not folder.is_dir():
        aside = sorted(folder.parent.glob(f".{glob.escape(folder.name)}-*/{ASIDE}/{MANIFEST}"))
        raise BundleMissingError(
            f"no bundle at {folder}: expected a folder with {MANIFEST}; make one with `ccm export`"
            + (f", or move {aside[0].parent} there, which an export that was killed was replacing" if aside else "")
        )
    if not (folder / MANIFEST).exists():
        raise BundleMissingError(f"{folder} is not a bundle: it has no {MANIFEST}; make one with `ccm export`")
    try:
        return _load(folder, public_key)
    except BundleError as error:
        raise type(error)(f"{folder}: {error}") from None


def _load(folder: Path, public_key: Path | None) -> Bundle:
    """Return a bundle that is there; what is wrong with it is told without its name."""
    text = _read(folder, MANIFEST, MAX_MANIFEST_BYTES)
    if public_key is not None:
        signed = (folder / SIGNATURE).exists()
        check_signature(text, _read(folder, SIGNATURE, SIGNATURE_BYTES) if signed else None, public_key)
    manifest = from_bytes(text)
    _check_names(folder, manifest)
    graphs = {name: _read_checked(folder, name, manifest) for name in sorted(manifest.files)}
    graphs.pop(MODEL_CARD, None)
    for name, graph in graphs.items():
        if has_external_data(graph):
            raise BundleSchemaError(
                f"{name} refers to data in another file; a bundle's graphs must hold all their weights"
            )
    return Bundle(folder, manifest, hashlib.sha256(text).hexdigest(), graphs)


def _check_names(folder: Path, manifest: Manifest) -> None:
    """Refuse a manifest that lists other files than a bundle has, and a folder that holds others than are listed."""
    listed = set(manifest.files)
    if listed - {MODEL_CARD} != set(GRAPHS):
        raise BundleSchemaError(
            f"manifest.json lists {sorted(listed)}; expected {sorted(GRAPHS)}, and {MODEL_CARD} or not"
        )
    with os.scandir(folder) as entries:
        present = {entry.name for entry in entries}
    expected = listed | {MANIFEST}
    if missing := expected - present:
        raise BundleCorruptError(f"it lacks {sorted(missing)}, which its manifest lists; export it again")
    if extra := present - expected - {SIGNATURE}:
        raise BundleCorruptError(f"it holds {sorted(extra)[:3]}, which its manifest does not list; remove them")


def _read_checked(folder: Path, name: str, manifest: Manifest) -> bytes:
    """Return the bytes of a listed file, whose size and digest are the listed ones."""
    listed = manifest.files[name]
    if listed.size_bytes > MAX_FILE_BYTES:
        raise BundleSchemaError(f"{name} is listed with {listed.size_bytes} bytes; at most {MAX_FILE_BYTES} are read")
    data = _read(folder, name, listed.size_bytes)
    if len(data) != listed.size_bytes:
        raise BundleCorruptError(
            f"{name} has {counted(len(data), 'byte')}, its manifest says {listed.size_bytes}; export it again"
        )
    if hashlib.sha256(data).hexdigest() != listed.sha256:
        raise BundleCorruptError(
            f"{name} is damaged: its SHA-256 is not the one that its manifest lists; export it again"
        )
    return data


def _read(folder: Path, name: str, limit: int) -> bytes:
    """Return the bytes of a regular file that is not a link, at most `limit` of them; read once."""
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        why = "a link is not followed" if error.errno == errno.ELOOP else error.strerror
        raise BundleCorruptError(f"{name} cannot be read ({why})") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleCorruptError(f"{name} is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise BundleCorruptError(f"{name} has more than the {limit} bytes that it should have")
    return data
