"""The one table of errors <-> gRPC statuses, for both ends of the wire. Nothing internal passes through it.

A refused call carries a message for a person, a `google.rpc.ErrorInfo` whose reason names the kind of error, and,
where a sequence number was skipped, the expected one, and where a bound is reached, a `google.rpc.RetryInfo`.
"""

from collections.abc import Sequence

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from ccm_runtime import errors
from ccm_runtime.v1 import adaptation_pb2 as pb

DOMAIN = "ccm"
INTERNAL = "INTERNAL"
INTERNAL_MESSAGE = "the server met a fault of its own; its log says which"
# To a client this is a server that has gone: it comes back to this one or to another, with the same event.
DEVICE_LOST_MESSAGE = "the server's GPU failed, and it gives no action until it is started again; its log says why"
EXPECTED_SEQUENCE_KEY = "ccm-expected-sequence"
RETRY_AFTER_KEY = "ccm-retry-after-ms"
RETRY_AFTER_MS = 1_000
_TOO_MANY_CALLS = "Concurrent RPC limit exceeded"  # gRPC's own refusal, which has no details
DETAILS_KEY = "grpc-status-details-bin"

Metadata = tuple[tuple[str, str | bytes], ...]

# Reason, error, status. Translating an error takes the first row that it is an instance of; translating a status
# without a known reason takes the first row of that status.
TABLE: tuple[tuple[str, type[errors.CcmError], grpc.StatusCode], ...] = (
    ("SPEC", errors.SpecError, grpc.StatusCode.INVALID_ARGUMENT),
    ("CONFIG", errors.ConfigError, grpc.StatusCode.INVALID_ARGUMENT),
    ("TRIAL_ORDER", errors.TrialOrderError, grpc.StatusCode.FAILED_PRECONDITION),
    ("STEP_GAP", errors.StepGapError, grpc.StatusCode.FAILED_PRECONDITION),
    ("CONTEXT_MISMATCH", errors.ContextMismatchError, grpc.StatusCode.FAILED_PRECONDITION),
    ("BUNDLE", errors.BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    ("ROLLOUT", errors.RolloutError, grpc.StatusCode.FAILED_PRECONDITION),
    ("SESSION_UNKNOWN", errors.SessionUnknownError, grpc.StatusCode.NOT_FOUND),
    ("SESSION_TAKEN", errors.SessionTakenError, grpc.StatusCode.FAILED_PRECONDITION),
    ("AGENT_UNKNOWN", errors.AgentUnknownError, grpc.StatusCode.NOT_FOUND),
    ("SESSION_LIMIT", errors.SessionLimitError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ("SERVER_BUSY", errors.ServerBusyError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    ("UNAUTHENTICATED", errors.UnauthenticatedError, grpc.StatusCode.UNAUTHENTICATED),
    ("STORE_UNAVAILABLE", errors.StoreUnavailableError, grpc.StatusCode.UNAVAILABLE),
    ("SERVER_UNREACHABLE", errors.ServerUnreachableError, grpc.StatusCode.UNAVAILABLE),
    ("DEADLINE", errors.DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
)
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
# Statuses that gRPC itself answers with, and what they mean here.
_BY_STATUS: dict[grpc.StatusCode, type[errors.CcmError]] = {
    **{code: error for _, error, code in reversed(TABLE)},
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ServerBusyError,
    grpc.StatusCode.UNAVAILABLE: errors.ServerUnreachableError,
}


def classify(error: BaseException) -> tuple[str, grpc.StatusCode, str]:
    """Return the reason, the status and the message that a client may see of `error`."""
    if isinstance(error, errors.DeviceLostError):  # its own text names the driver and the machine
        return "SERVER_UNREACHABLE", grpc.StatusCode.UNAVAILABLE, DEVICE_LOST_MESSAGE
    for reason, kind, code in TABLE:
        if isinstance(error, kind):
            return reason, code, str(error)
    return INTERNAL, grpc.StatusCode.INTERNAL, INTERNAL_MESSAGE


def trailing_metadata(error: BaseException) -> Metadata:
    """Return the details of `error` as trailing metadata: what it is, what number is expected, when to try again."""
    reason, code, message = classify(error)
    info = ErrorInfo(reason=reason, domain=DOMAIN)
    more: Metadata = ()
    if isinstance(error, errors.StepGapError):
        info.metadata["expected_sequence"] = str(error.expected)
        more = ((EXPECTED_SEQUENCE_KEY, str(error.expected)),)
    status = Status(code=code.value[0], message=message)
    status.details.add().Pack(info)
    if isinstance(error, (errors.SessionLimitError, errors.ServerBusyError)):
        known_s = getattr(error, "retry_after_s", None)
        retry_after_ms = RETRY_AFTER_MS if known_s is None else round(known_s * 1000)
        more = ((RETRY_AFTER_KEY, str(retry_after_ms)),)
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_after_ms)
        status.details.add().Pack(retry)
    return (*more, (DETAILS_KEY, status.SerializeToString()))


def event_error(sequence: int, error: BaseException) -> pb.EventError:
    """Return `error` as the answer to the refused event `sequence` of a stream."""
    reason, code, message = classify(error)
    expected = error.expected if isinstance(error, errors.StepGapError) else 0
    return pb.EventError(
        sequence=sequence, code=code.value[0], message=message, expected_sequence=expected, reason=reason
    )


def error_from_event(refused: pb.EventError) -> errors.CcmError:
    """Return the error that a stream's answer stands for."""
    return restore(_CODES.get(refused.code), refused.message, refused.reason, refused.expected_sequence)


def error_from_rpc(
    code: grpc.StatusCode, message: str, metadata: Sequence[tuple[str, str | bytes]] | None
) -> errors.CcmError:
    """Return the error that a failed call stands for.

    Args:
        code: Its status.
        message: Its details.
        metadata: Its trailing metadata, or `None`.
    """
    pairs = dict(metadata or ())
    info = _error_info(pairs.get(DETAILS_KEY))
    expected = str(pairs.get(EXPECTED_SEQUENCE_KEY) or info.metadata.get("expected_sequence") or "")
    error = restore(code, message, info.reason, int(expected) if expected.isdecimal() else 0)
    retry_after_ms = str(pairs.get(RETRY_AFTER_KEY, ""))
    if isinstance(error, errors.ServerBusyError):
        if retry_after_ms.isdecimal():
            error.retry_after_s = int(retry_after_ms) / 1000
        elif message.startswith(_TOO_MANY_CALLS):
            error.retry_after_s = RETRY_AFTER_MS / 1000
    return error


def restore(code: grpc.StatusCode | None, message: str, reason: str, expected: int) -> errors.CcmError:
    """Return the error of a reason or, without a known one, of a status."""
    kinds = {name: kind for name, kind, _ in TABLE}
    kind = kinds.get(reason) or (_BY_STATUS.get(code) if code is not None else None) or errors.ServerError
    if issubclass(kind, errors.StepGapError):
        return kind(message, expected)
    return kind(message)


def _error_info(details: str | bytes | None) -> ErrorInfo:
    """Return the ErrorInfo packed into a status, or an empty one (a peer's details prove nothing)."""
    info = ErrorInfo()
    if isinstance(details, bytes):
        try:
            packed = Status.FromString(details).details
            if packed and not packed[0].Unpack(info):
                return ErrorInfo()
        except DecodeError:
            return ErrorInfo()
    return info
