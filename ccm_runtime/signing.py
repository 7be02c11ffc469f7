"""Signatures of bundles: Ed25519 over the manifest, which holds the digest of every other file."""

from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from ccm_runtime.errors import BundleSignatureError, ConfigError, DependencyMissingError
from ccm_runtime.files import read_pem

SIGNATURE = "manifest.sig"
SIGNATURE_BYTES = 64
# So that a signature of a bundle can never be taken for one of something else.
_PURPOSE = b"ccm bundle manifest\n"


def sign(manifest: bytes, private_key: Path) -> bytes:
    """Return the signature of a manifest's text.

    Raises:
        ConfigError: The file holds no Ed25519 private key in PEM form.
        DependencyMissingError: cryptography is not installed.
    """
    signature: bytes = _key(private_key, "PRIVATE KEY").sign(_PURPOSE + manifest)
    return signature


def check_signature(manifest: bytes, signature: bytes | None, public_key: Path) -> None:
    """Refuse a manifest's text that the owner of a key has not signed.

    Raises:
        BundleSignatureError: There is no signature, or it is not that key's over this text.
        ConfigError: The file holds no Ed25519 public key in PEM form.
        DependencyMissingError: cryptography is not installed.
    """
    key = _key(public_key, "PUBLIC KEY")
    if signature is None:
        raise BundleSignatureError(f"the bundle is not signed (it has no {SIGNATURE}); sign it with `ccm sign`")
    invalid = import_module("cryptography.exceptions").InvalidSignature
    try:
        key.verify(signature, _PURPOSE + manifest)
    except invalid:
        raise BundleSignatureError(
            f"{SIGNATURE} is not a signature of this bundle by the key of {public_key}; do not serve it"
        ) from None


def _key(path: Path, kind: Literal["PRIVATE KEY", "PUBLIC KEY"]) -> Any:
    try:
        serialization = import_module("cryptography.hazmat.primitives.serialization")
        ed25519 = import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    except ImportError:
        raise DependencyMissingError("signatures need cryptography: pip install 'ccm[sign]'") from None
    pem = read_pem(path, kind)
    private = kind == "PRIVATE KEY"
    wanted = ed25519.Ed25519PrivateKey if private else ed25519.Ed25519PublicKey
    try:
        key = serialization.load_pem_private_key(pem, None) if private else serialization.load_pem_public_key(pem)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(key, wanted):
        raise ConfigError(f"{path} holds another kind of key; expected Ed25519 (openssl genpkey -algorithm ed25519)")
    return key
