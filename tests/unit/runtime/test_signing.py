"""Signed bundles: only the key's owner makes them, and any change undoes them."""

import shutil

import pytest
from certificates import make, needs_openssl
from command import ccm, fails
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tiny_bundle import write_tiny_bundle

from ccm_runtime import signing
from ccm_runtime.bundle import MANIFEST, load_bundle
from ccm_runtime.errors import BundleCorruptError, BundleSignatureError, ConfigError, DependencyMissingError
from ccm_runtime.signing import SIGNATURE, sign


def pair(folder, name):
    """Return the files of a new private and public key."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    plain = serialization.NoEncryption()
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))
    return private, public


@pytest.fixture
def signed(tmp_path, tiny_bundle):
    """A signed bundle and the public key."""
    private, public = pair(tmp_path, "mine")
    (tiny_bundle / SIGNATURE).write_bytes(sign((tiny_bundle / MANIFEST).read_bytes(), private))
    return tiny_bundle, public


def test_a_signed_bundle_loads_with_its_key_and_without_any(signed):
    bundle, public = signed
    assert load_bundle(bundle, public).digest == load_bundle(bundle).digest


def test_an_unsigned_bundle_is_refused_where_a_key_is_asked_for(signed):
    bundle, public = signed
    (bundle / SIGNATURE).unlink()
    with pytest.raises(BundleSignatureError, match="not signed"):
        load_bundle(bundle, public)


def test_another_keys_signature_is_refused(signed, tmp_path):
    bundle, _ = signed
    _, other = pair(tmp_path, "other")
    with pytest.raises(BundleSignatureError, match="not a signature of this bundle by the key"):
        load_bundle(bundle, other)


def test_the_signature_of_another_bundle_is_refused(signed, tmp_path):
    bundle, public = signed
    (bundle / MANIFEST).write_bytes((bundle / MANIFEST).read_bytes().replace(b"scripted-0", b"scripted-1"))
    with pytest.raises(BundleSignatureError):
        load_bundle(bundle, public)


def test_every_flipped_bit_of_the_signature_and_every_length_is_refused(signed):
    bundle, public = signed
    whole = (bundle / SIGNATURE).read_bytes()
    broken = [whole[:i] + bytes([whole[i] ^ 1 << i % 8]) + whole[i + 1 :] for i in range(len(whole))]
    for signature in (*broken, b"", whole[:-1], whole + b"\0"):
        (bundle / SIGNATURE).write_bytes(signature)
        with pytest.raises((BundleSignatureError, BundleCorruptError)):
            load_bundle(bundle, public)


def test_a_signature_that_is_a_link_is_refused(signed, tmp_path):
    bundle, public = signed
    shutil.move(bundle / SIGNATURE, tmp_path / "elsewhere")
    (bundle / SIGNATURE).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleCorruptError, match="a link is not followed"):
        load_bundle(bundle, public)


@needs_openssl
def test_a_file_that_is_no_such_key_is_refused(signed, tmp_path):
    bundle, _ = signed
    elliptic, _ = make(tmp_path, "elliptic")
    with pytest.raises(ConfigError, match="expected Ed25519"):
        sign(b"", elliptic)
    with pytest.raises(ConfigError, match="holds no public key in PEM form"):
        load_bundle(bundle, elliptic)


def test_without_cryptography_the_extra_is_named(signed, monkeypatch):
    bundle, public = signed

    def absent(_):
        raise ImportError

    monkeypatch.setattr(signing, "import_module", absent)
    with pytest.raises(DependencyMissingError, match=r"pip install 'ccm\[sign\]'"):
        load_bundle(bundle, public)


def test_sign_then_verify_and_serve_refuses_what_is_not_signed(tmp_path):
    bundle, (private, public) = write_tiny_bundle(tmp_path / "bundle"), pair(tmp_path, "mine")
    refused = ccm("serve", bundle, "--public-key", public, "--port", "0")
    fails(refused, 6, "not signed")
    assert 0 == ccm("sign", bundle, "--key", private).returncode
    verified = ccm("verify", bundle, "--public-key", public)
    assert "signed by the key of" in verified.stdout, verified.stderr
