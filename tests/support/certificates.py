"""Throw-away certificates, made with openssl, or signed by an authority and of any age."""

import datetime as dt
import ipaddress
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")


def make(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the key and the certificate of an authority of its own, for 127.0.0.1."""
    key, cert = folder / f"{name}.key", folder / f"{name}.pem"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*make, *subject, "-keyout", key, "-out", cert], check=True, capture_output=True, timeout=30)
    return key, cert


class Authority:
    """Signs certificates, which may have run out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")])
        ca = x509.BasicConstraints(ca=True, path_length=None)
        made = self._signed(self._name, self._key.public_key(), days=(-30, 2)).add_extension(ca, critical=True)
        self.cert = folder / "authority.pem"
        self.cert.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def make(self, name: str, *, expired: bool = False) -> tuple[Path, Path]:
        """Return a key and a certificate for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        where = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = self._signed(subject, key.public_key(), days=(-20, -1 if expired else 2))
        made = made.add_extension(where, critical=False).sign(self._key, hashes.SHA256())
        pem = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        key_file, cert_file = self._folder / f"{name}.key", self._folder / f"{name}.pem"
        key_file.write_bytes(key.private_bytes(*pem))
        cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        return key_file, cert_file

    def _signed(self, subject, public_key, days):
        now = dt.datetime.now(dt.UTC)
        begins, ends = (now + dt.timedelta(days=number) for number in days)
        return x509.CertificateBuilder(self._name, subject, public_key, x509.random_serial_number(), begins, ends)
