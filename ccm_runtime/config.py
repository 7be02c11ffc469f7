"""Settings of a server: one name in three dresses, e.g. `max_sessions`, `--max-sessions` and `CCM_MAX_SESSIONS`."""

import difflib
import ipaddress
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from ccm_runtime.errors import ConfigError
from ccm_runtime.limits import parse_rates
from ccm_runtime.manifest import Fallback
from ccm_runtime.store import is_url
from ccm_runtime.wording import told

PREFIX = "CCM_"


class ServerConfig(BaseModel):
    """What a server serves, where, and its bounds.

    Attributes:
        bundle: Folders of the bundles, one an agent; the first is the default. Several in one text: with `:` between.
        agents: Folder with AGENT/VERSION/ for every bundle, whose versions change while it serves; `None`: they do not.
        shadow: Folder of a bundle that is told all that the default agent is, and not obeyed; `None`: none.
        watch_s: How often `agents` is looked at for another current version; `None`: never.
        public_key: Serve only a bundle that this key has signed (Ed25519, PEM); `None`: any.
        host: Address to listen on; beyond loopback only with TLS and a token.
        port: Port to listen on; 0 takes a free one.
        device: Where networks run; `cuda` refuses to start unless CUDA is truly active.
        max_sessions: Most sessions at a time; more only while those of an earlier server, in its store, are more.
        idle_limit_s: A session without an event for this long is closed.
        max_message_bytes: Largest message that is read.
        max_streams: Most calls under way on one connection.
        max_calls: Most calls under way at a time.
        max_batch: Most sessions in one run of a network.
        max_versions: Most versions of one agent that are loaded at a time.
        max_candidate_faults: A candidate that fails or misses so many actions is rolled back.
        load_limit_s: A version that takes longer to be read or warmed up is given up, as is a folder to be written to.
        action_valid_ms: How long after its arrival an action may be applied.
        action_deadline_ms: An action that takes longer is replaced by the fallback; `None`: never.
        max_rate: Largest change of each action entry from one step to the next, `[act]`, of every agent that is served,
            where its bundle allows more; `None`: as the bundle says.
        fallback: What is given for an action that is late or not finite; `None`: as the bundle says.
        max_misses: A session goes SAFE (the fallback alone) after so many late or not finite actions in a row.
        max_interventions: And after so many in a row that the guard had to mend in any way; `None`: any number.
        re_explore: Every session explores anew when an episode shows that its task has changed; else those that ask.
        store: What sessions are kept in, so that they outlive the server: a SQLite file, or the URL of a Redis, which
            several servers may share; `None`: memory.
        store_password_file: File with the password of the Redis; `None`: the URL says it, or there is none.
        store_failure: While it cannot be written, `degrade`: sessions go on without it; `refuse`: none does.
        store_sync: Of a file: `normal` survives the death of the server, `full` also a power cut, at a flush a group.
        store_commit_ms: Changes are written in groups, at most this long after they were made.
        record: Folder that the events and answers of sessions are written to, for `ccm replay`; `None`: nowhere.
        record_max_mb: Most that this folder holds, in MiB; the oldest recordings go first.
        drain_s: How long a shutdown waits for episodes to end.
        tls_cert: Certificate chain, PEM.
        tls_key: Its private key, PEM; both are read again when they change.
        tls_client_ca: Certificates, PEM; only clients that show one of theirs are served. `None`: any client.
        token_file: File with the token that every call must bear, or with one `TENANT:TOKEN` a line.
        admin_token_file: File with the token that calls of Admin must bear; `None`: no such call, if others need one.
        max_tenant_sessions: Most sessions of one tenant at a time; `None`: `max_sessions`.
        metrics_port: Port of the Prometheus metrics; `None`: none.
        page_port: Port of the operator's page, under the same token and certificate; `None`: none.
        stay_awake: Keep the processors from sleeping deeply: quicker answers to few clients, for more power.
        otel: Export OpenTelemetry traces, as the standard OTEL_ variables say; they also turn them on.
        log_level: What is logged, on standard error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bundle: tuple[Path, ...] = ()
    agents: Path | None = None
    shadow: Path | None = None
    watch_s: float | None = Field(default=None, ge=0.1, le=3600)
    public_key: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=7070, ge=0, le=65535)
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    max_sessions: int = Field(default=1024, ge=1)
    idle_limit_s: float = Field(default=300.0, gt=0, le=86_400)
    max_message_bytes: int = Field(default=4 << 20, ge=1024)
    max_streams: int = Field(default=1024, ge=1)
    max_calls: int = Field(default=4096, ge=1)
    max_batch: int = Field(default=64, ge=1)
    max_versions: int = Field(default=4, ge=2)
    max_candidate_faults: int = Field(default=10, ge=1)
    load_limit_s: float = Field(default=100.0, gt=0, le=86_400)
    action_valid_ms: int = Field(default=1000, ge=1, le=86_400_000)
    action_deadline_ms: float | None = Field(default=None, gt=0, le=86_400_000)
    max_rate: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] | None = None
    fallback: Fallback | None = None
    max_misses: int = Field(default=10, ge=1)
    max_interventions: int | None = Field(default=None, ge=1)
    re_explore: bool = False
    store: Path | SecretStr | None = None
    store_password_file: Path | None = None
    store_failure: Literal["degrade", "refuse"] = "degrade"
    store_sync: Literal["normal", "full"] = "normal"
    store_commit_ms: float = Field(default=50.0, ge=0, le=60_000)
    record: Path | None = None
    record_max_mb: int = Field(default=1024, ge=1)
    drain_s: float = Field(default=10.0, ge=0, le=86_400)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    token_file: Path | None = None
    admin_token_file: Path | None = None
    max_tenant_sessions: int | None = Field(default=None, ge=1)
    metrics_port: int | None = Field(default=None, ge=1, le=65535)
    page_port: int | None = Field(default=None, ge=1, le=65535)
    stay_awake: bool = False
    otel: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("bundle", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        if isinstance(value, (str, Path)):
            return tuple(part for part in str(value).split(os.pathsep) if part)
        return value

    @field_validator("max_rate", mode="before")
    @classmethod
    def _rates(cls, value: object) -> object:
        return parse_rates(value) if isinstance(value, str) else value

    @field_validator("store", mode="before")
    @classmethod
    def _file_or_url(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return SecretStr(value) if is_url(value) else Path(value)

    @model_validator(mode="after")
    def _store_is_one(self) -> Self:
        for name, asked in {"store_failure": "refuse", "store_sync": "full"}.items():
            if self.store is None and getattr(self, name) == asked:
                raise ValueError(f"{name} {asked} is for durable sessions; name their store, e.g. --store sessions.db")
        if not isinstance(self.store, SecretStr):
            if self.store_password_file is not None:
                raise ValueError("store_password_file is for a store with a URL, e.g. --store redis://HOST:6379/0")
        elif self.store_sync == "full":
            raise ValueError("store_sync is for a store in a file; of a Redis, set appendfsync in its own settings")
        return self

    @model_validator(mode="after")
    def _safe_to_bind(self) -> Self:
        if self.bundle and self.agents is not None:
            raise ValueError("name bundles, or a folder of agents, not both")
        if self.watch_s is not None and self.agents is None:
            raise ValueError("watch_s needs agents, the folder to look at")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together; set both or neither")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if not is_loopback(self.host) and (self.tls_cert is None or self.token_file is None):
            raise ValueError(
                f"host {self.host} can be reached from other machines; that needs --tls-cert, --tls-key and "
                "--token-file (or listen on 127.0.0.1)"
            )
        return self

    def address(self, port: int) -> str:
        """`HOST:PORT` of a port here; an IPv6 host is put into brackets."""
        return f"[{self.host}]:{port}" if ":" in self.host and "[" not in self.host else f"{self.host}:{port}"

    @classmethod
    def resolve(cls, flags: Mapping[str, object], environ: Mapping[str, str]) -> Self:
        """Return the settings of flags (those that were given) over `CCM_` variables over the defaults.

        A variable that is almost a setting's is warned of: others may own it, so it is not refused.

        Raises:
            ConfigError: A setting is unknown or wrong.
        """
        variables = {
            name: environ[PREFIX + name.upper()] for name in cls.model_fields if PREFIX + name.upper() in environ
        }
        given = {name: value for name, value in flags.items() if value is not None}
        for name in environ:
            if name.startswith(PREFIX) and (near := _near(name, cls.model_fields)):
                warnings.warn(f"{name} is no setting of a server; did you mean {near}?", stacklevel=2)
        if empty := [PREFIX + name.upper() for name in variables if not variables[name] and name not in given]:
            raise ConfigError(f"{empty[0]}: expected a value, got nothing; unset it, or give it one")
        try:
            return cls.model_validate({**variables, **given})
        except ValidationError as error:
            raise ConfigError(told(error)) from None


def _near(variable: str, settings: Iterable[str]) -> str | None:
    """Return the setting's variable that another one is almost, and not exactly."""
    known = [PREFIX + name.upper() for name in settings]
    close = difflib.get_close_matches(variable, known, n=1, cutoff=0.85)
    return close[0] if close and variable not in known else None


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
