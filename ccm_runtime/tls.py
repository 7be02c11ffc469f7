"""TLS of a server whose certificates may be renewed while it runs: each handshake looks whether the files changed."""

from typing import Any

import grpc

from ccm_runtime.config import ServerConfig, read_pem
from ccm_runtime.errors import ConfigError

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


def _read(config: ServerConfig) -> Certificates | None:
    if config.tls_cert is None or config.tls_key is None:
        return None
    trusted = None if config.tls_client_ca is None else read_pem(config.tls_client_ca, "CERTIFICATE")
    return read_pem(config.tls_key, "PRIVATE KEY"), read_pem(config.tls_cert, "CERTIFICATE"), trusted


def _configuration(certificates: Certificates) -> Any:
    key, chain, trusted = certificates
    return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=trusted)
