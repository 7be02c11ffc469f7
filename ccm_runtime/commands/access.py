"""How a command reaches a server that somebody else runs."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from ccm_runtime.connection import is_sendable
from ccm_runtime.errors import ConfigError
from ccm_runtime.files import read_file, read_pem
from ccm_runtime.specs import counted


@dataclass(frozen=True)
class Access:
    """What a guarded server asks of its clients.

    Attributes:
        token_file: File with its token.
        tls_ca: Certificates to trust, PEM; `None`: plain text.
        tls_cert: Certificate chain to show a server that asks for one (--tls-client-ca), PEM.
        tls_key: Its private key, PEM.
    """

    token_file: Path | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None

    def token(self) -> str | None:
        """The token, if one is named.

        Raises:
            ConfigError: Its file cannot be read, or holds something else than one token.
        """
        if self.token_file is None:
            return None
        lines = read_file(self.token_file).decode(errors="replace").split("\n")
        tokens = [line.strip() for line in lines if line.strip()]
        if len(tokens) != 1 or not is_sendable(tokens[0]):
            got = "other characters" if len(tokens) == 1 else counted(len(tokens), "line")
            raise ConfigError(
                f"{self.token_file}: expected one token, a line of visible ASCII, got {got}; a client shows its own "
                "token, not the server's file of all"
            )
        return tokens[0]

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What to connect with.

        Raises:
            ConfigError: A file holds no certificate or no key, or one is named without the others that it needs.
        """
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ConfigError("--tls-cert and --tls-key go together; set both or neither")
        if self.tls_ca is None:
            if self.tls_cert is not None:
                raise ConfigError("--tls-cert and --tls-key need --tls-ca, the certificates to trust")
            return None
        roots = read_pem(self.tls_ca, "CERTIFICATE")
        if self.tls_cert is None or self.tls_key is None:
            return grpc.ssl_channel_credentials(roots)
        key, chain = read_pem(self.tls_key, "PRIVATE KEY"), read_pem(self.tls_cert, "CERTIFICATE")
        return grpc.ssl_channel_credentials(roots, key, chain)
