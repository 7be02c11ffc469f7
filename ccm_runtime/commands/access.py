"""How a command reaches a server that somebody else runs."""

from dataclasses import dataclass
from pathlib import Path

import grpc

from ccm_runtime.files import read_file, read_pem


@dataclass(frozen=True)
class Access:
    """What a guarded server asks of its clients.

    Attributes:
        token_file: File with its token.
        tls_ca: Certificates to trust, PEM; `None`: plain text.
    """

    token_file: Path | None = None
    tls_ca: Path | None = None

    def token(self) -> str | None:
        """The token, if one is named; raises ConfigError where its file cannot be read."""
        return None if self.token_file is None else read_file(self.token_file).decode(errors="replace").strip()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """What to connect with; raises ConfigError where the file holds no certificate."""
        return None if self.tls_ca is None else grpc.ssl_channel_credentials(read_pem(self.tls_ca, "CERTIFICATE"))
