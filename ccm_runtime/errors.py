"""Every error that ccm raises on purpose, as one tree.

    CcmError
    ├── ConfigError                   a setting, flag or preset is wrong                         exit 2
    │   ├── FamilyUnknownError        no task family of that name                               exit 2
    │   ├── FamilyError               a task family breaks its contract                         exit 2
    │   └── DependencyMissingError    an optional extra is not installed                        exit 3
    ├── SpecError                     an array does not fit its spec (size, bounds, finite)     exit 4
    ├── BundleError
    │   ├── BundleMissingError        no bundle at that path                                    exit 5
    │   ├── BundleCorruptError        a digest, size or file set is wrong                       exit 6
    │   ├── BundleSchemaError         the manifest does not follow the schema                   exit 6
    │   ├── BundleSignatureError      no signature, or not the one that is asked for            exit 6
    │   └── ParityError               what should act alike does not: networks, a replay          exit 7
    ├── RunError
    │   ├── CheckpointMissingError    no checkpoint in that run directory                       exit 5
    │   ├── CheckpointCorruptError    a checkpoint or another file of a run is damaged          exit 6
    │   ├── DivergenceError           a loss or parameter stopped being finite                  exit 8
    │   └── SimulationError           an environment gave no number, broke down or hangs        exit 8
    ├── RenderingError                a picture cannot be drawn on this machine                 exit 9
    ├── ProviderUnavailableError      the asked-for device is not truly active                  exit 9
    │   └── DeviceLostError           it failed while it ran, and nothing else is allowed       exit 9
    ├── TrialOrderError               an event that this trial cannot take now                  exit 4
    ├── SessionError
    │   ├── SessionUnknownError       no such session (closed, expired or never opened)         exit 10
    │   ├── SessionLimitError         the server holds its maximum                              exit 10
    │   ├── SessionTakenError         another client has taken the session over                 exit 10
    │   └── StepGapError              a step number was skipped                                 exit 10
    ├── ContextMismatchError          a context belongs to another bundle                       exit 10
    ├── AgentUnknownError             the server has no agent or version of that name           exit 10
    ├── RolloutError                  no version to go to, no room for one, or it hangs         exit 10
    ├── RecordCorruptError            a stored session is not what was written                  exit 6
    └── ServerError
        ├── ServerUnreachableError    nobody answers at that address                            exit 11
        ├── UnauthenticatedError      the server wants a token that was not given               exit 11
        ├── ServerBusyError           a bound of the server is reached: try again later         exit 11
        ├── StoreUnavailableError     sessions cannot be made durable now                       exit 11
        └── DeadlineError             no answer in time                                         exit 12

The exit code is what `ccm` ends with; see docs/reference/exit-codes.md.
"""

from typing import ClassVar


class CcmError(Exception):
    """Root of the tree. The message says what, where, expected, got, and what to do."""

    exit_code: ClassVar[int] = 1


class ConfigError(CcmError):
    """A setting, flag or preset is wrong."""

    exit_code = 2


class FamilyUnknownError(ConfigError):
    """No task family goes by that name."""


class FamilyError(ConfigError):
    """A task family breaks its contract."""


class DependencyMissingError(ConfigError):
    """An optional extra is not installed."""

    exit_code = 3


class SpecError(CcmError):
    """An array does not fit its spec."""

    exit_code = 4


class BundleError(CcmError):
    """Something is wrong with a bundle."""

    exit_code = 6


class BundleMissingError(BundleError):
    """There is no bundle at that path."""

    exit_code = 5


class BundleCorruptError(BundleError):
    """A file of the bundle is not the one that the manifest describes."""


class BundleSchemaError(BundleError):
    """The manifest does not follow the schema, or a graph does not follow the manifest."""


class BundleSignatureError(BundleError):
    """The bundle is not signed by the key that is asked for."""


class ParityError(BundleError):
    """The exported graphs and the trained networks disagree."""

    exit_code = 7


class RunError(CcmError):
    """Something is wrong with a training run."""

    exit_code = 8


class CheckpointMissingError(RunError):
    """There is no checkpoint in that run directory."""

    exit_code = 5


class CheckpointCorruptError(RunError):
    """A checkpoint fails its digests, or another file of a run is not what was written."""

    exit_code = 6


class DivergenceError(RunError):
    """A loss or a parameter stopped being finite."""


class SimulationError(RunError):
    """An environment gave what is no number, broke down, or does not return."""


class RenderingError(CcmError):
    """A picture cannot be drawn on this machine."""

    exit_code = 9


class ProviderUnavailableError(CcmError):
    """The asked-for execution provider is not truly active."""

    exit_code = 9


class DeviceLostError(ProviderUnavailableError):
    """The device failed while networks ran on it, and no other one is allowed."""


class TrialOrderError(CcmError):
    """A trial was given an event that it cannot take now."""

    exit_code = 4


class SessionError(CcmError):
    """Something is wrong with a session."""

    exit_code = 10


class SessionUnknownError(SessionError):
    """The session was closed, has expired or was never opened."""


class SessionTakenError(SessionError):
    """Another client has taken the session over."""


class SessionLimitError(SessionError):
    """The server already holds its maximum of sessions."""


class StepGapError(SessionError):
    """A sequence number was skipped.

    Attributes:
        expected: The number that the server waits for.
    """

    def __init__(self, message: str, expected: int) -> None:
        super().__init__(message)
        self.expected = expected


class ContextMismatchError(CcmError):
    """A context was made by another bundle."""

    exit_code = 10


class AgentUnknownError(CcmError):
    """The server has no agent of that name, or no version of it."""

    exit_code = 10


class RolloutError(CcmError):
    """An agent's versions do not allow that: there is none to go to, no room for another, or what it needs hangs."""

    exit_code = 10


class RecordCorruptError(CcmError):
    """A stored session is not what was written."""

    exit_code = 6


class ServerError(CcmError):
    """The server could not be used."""

    exit_code = 11


class ServerUnreachableError(ServerError):
    """Nobody answers at that address."""


class UnauthenticatedError(ServerError):
    """The server wants a token that was not given, or another one."""


class ServerBusyError(ServerError):
    """A bound of the server is reached; the same call may succeed later.

    Attributes:
        retry_after_s: When to try again; `None`: the server did not say.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StoreUnavailableError(ServerError):
    """The server's store cannot make sessions durable now; the same call may succeed later."""


class DeadlineError(ServerError):
    """No answer came in time."""

    exit_code = 12


UNANSWERED = (DeadlineError, ServerBusyError, ServerUnreachableError, StoreUnavailableError)
"""After these nobody knows whether the server has taken an event; the same call, made again, may succeed."""
