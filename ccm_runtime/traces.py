"""Whether a server is traced, and what its core notes for that; OpenTelemetry itself is left to `tracing.py`."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ccm_runtime.errors import DependencyMissingError

if TYPE_CHECKING:
    from ccm_runtime.tracing import Tracing

# Any of these turns traces on.
VARIABLES = ("OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Stages:
    """How long the step that each watched session is in waited for the networks; of others, nothing is noted."""

    def __init__(self) -> None:
        self._spent_ms: dict[str, float | None] = {}

    def watch(self, session_id: str) -> None:
        """Note the next step of a session."""
        self._spent_ms[session_id] = None

    def note(self, session_id: str, spent_s: float) -> None:
        """Note the time from a step's arrival to the end of the networks' run for it."""
        if session_id in self._spent_ms:
            self._spent_ms[session_id] = spent_s * 1000

    def take(self, session_id: str) -> float | None:
        """Watch a session no longer; return what was noted in ms, `None` if the networks did not run for its step."""
        return self._spent_ms.pop(session_id, None)


def tracing_of(environ: Mapping[str, str], *, asked: bool) -> "Tracing | None":
    """Return where traces go, if they were asked for by the setting or by a variable of OpenTelemetry.

    Raises:
        DependencyMissingError: They were asked for by the setting, and the extra is not installed.
        ConfigError: OTEL_TRACES_EXPORTER names an exporter that there is not.
    """
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER") == "none":
        return None
    told = [name for name in VARIABLES if environ.get(name)]
    if not asked and not told:
        return None
    try:
        from ccm_runtime.tracing import Tracing, provider_of  # noqa: PLC0415 (only where there are traces)
    except ImportError:
        message = f"{'--otel' if asked else told[0]} needs OpenTelemetry: pip install 'ccm[otel]'"
        if asked:
            raise DependencyMissingError(message) from None
        warnings.warn(f"no traces: {message}", stacklevel=2)
        return None
    return Tracing(provider_of(environ))
