"""TLS of a server whose certificates may be renewed while it runs: each handshake looks whether the files changed."""

import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc

from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import ConfigError
from ccm_runtime.files import read_pem

Certificates = tuple[bytes, bytes, bytes | None]


def server_credentials(config: ServerConfig, log: Any) -> grpc.ServerCredentials | None:
    """Return the credentials of a server, or `None` where it speaks plain text.

    Raises:
        ConfigError: A file cannot be read, or holds no key or certificate.
    """
    current = _read(config)
    if current is None:
        return None

    def renewed() -> Any:
        """Return what to answer the next handshake with; `None`: what it was. Called from gRPC's threads."""
        nonlocal current
        try:
            found = _read(config)
        except ConfigError as error:  # a half-written renewal: the old certificate goes on
            log.warning("certificate not renewed", why=str(error))
            return None
        if found is None or found == current:
            return None
        current = found
        log.info("certificate renewed")
        return _configuration(found)

    mutual = config.tls_client_ca is not None
    return grpc.dynamic_ssl_server_credentials(_configuration(current), renewed, require_client_authentication=mutual)


def web_context(config: ServerConfig) -> Callable[[], ssl.SSLContext] | None:
    """Return what tells how to speak to the next web connection, as `server_credentials`; `None`: in plain text.

    Raises:
        ConfigError: A file cannot be used.
    """
    known = _read(config)
    if known is None:
        return None
    try:
        context = _context(config)
    except OSError as error:
        raise ConfigError(f"{config.tls_cert} and {config.tls_key} do not belong together: {error}") from None

    def current() -> ssl.SSLContext:
        nonlocal known, context
        with suppress(ConfigError, OSError):  # a half-written renewal: the old certificate goes on
            if (found := _read(config)) != known:
                known, context = found, _context(config)
        return context

    return current


def _context(config: ServerConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=config.tls_client_ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if config.tls_client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    assert config.tls_cert is not None  # noqa: S101 (read before)
    context.load_cert_chain(config.tls_cert, config.tls_key)
    return context


def _read(config: ServerConfig) -> Certificates | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    trusted = None if config.tls_client_ca is None else read_pem(config.tls_client_ca, "CERTIFICATE")
    return read_pem(config.tls_key, "PRIVATE KEY"), read_pem(config.tls_cert, "CERTIFICATE"), trusted


def _configuration(certificates: Certificates) -> Any:
    key, chain, trusted = certificates
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=trusted)
