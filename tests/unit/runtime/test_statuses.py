"""An error is the same at both ends of the wire, says when to come again, and tells nothing internal."""

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from ccm_runtime import errors, statuses
from ccm_runtime.errors import CcmError, ServerBusyError, ServerError, SessionLimitError, StepGapError


def raised(kind):
    return kind("why", 5) if kind is StepGapError else kind("why")


@pytest.mark.parametrize("kind", [kind for _, kind, _ in statuses.TABLE])
def test_an_error_survives_the_wire(kind):
    error = raised(kind)
    _, code, message = statuses.classify(error)
    back = statuses.error_from_rpc(code, message, statuses.trailing_metadata(error))
    assert kind is type(back)
    assert "why" == str(back)
    assert getattr(error, "expected", None) == getattr(back, "expected", None)


@pytest.mark.parametrize("kind", [kind for _, kind, _ in statuses.TABLE])
def test_an_error_survives_a_stream(kind):
    back = statuses.error_from_event(statuses.event_error(9, raised(kind)))
    assert kind is type(back)
    assert "why" == str(back)


@pytest.mark.parametrize("error", [ValueError("/home/me/secret"), CcmError("internal"), errors.RunError("path")])
def test_what_is_no_clients_business_stays_inside(error):
    reason, code, message = statuses.classify(error)
    assert (statuses.INTERNAL, grpc.StatusCode.INTERNAL, statuses.INTERNAL_MESSAGE) == (reason, code, message)
    assert not any(
        str(error).encode() in bytes(value)
        for _, value in statuses.trailing_metadata(error)
        if isinstance(value, bytes)
    )


def test_a_gap_names_the_expected_number_in_plain_metadata():
    assert ("ccm-expected-sequence", "5") in statuses.trailing_metadata(raised(StepGapError))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.ServerUnreachableError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlineError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServerBusyError),
        (grpc.StatusCode.INTERNAL, ServerError),
        (grpc.StatusCode.UNIMPLEMENTED, ServerError),
    ],
)
def test_a_status_of_grpc_itself_has_a_meaning(code, kind):
    assert kind is type(statuses.error_from_rpc(code, "why", None))


@pytest.mark.parametrize("details", [b"\xff\xff", b"", b"\x1a\x02\x0a\x00", "text"])
def test_details_of_a_strange_peer_are_ignored(details):
    error = statuses.error_from_rpc(grpc.StatusCode.NOT_FOUND, "why", (("grpc-status-details-bin", details),))
    assert errors.SessionUnknownError is type(error)


def test_reasons_and_errors_appear_once_each():
    reasons = [reason for reason, _, _ in statuses.TABLE]
    kinds = [kind for _, kind, _ in statuses.TABLE]
    assert len(set(reasons)) == len(reasons)
    assert len(set(kinds)) == len(kinds)
    assert SessionLimitError in kinds


@pytest.mark.parametrize(
    ("error", "seconds"),
    [(SessionLimitError("full"), 1), (ServerBusyError("busy"), 1), (ServerBusyError("busy", 7.0), 7)],
)
def test_a_bound_that_is_reached_says_when_to_try_again(error, seconds):
    metadata = dict(statuses.trailing_metadata(error))
    assert f"{seconds}000" == metadata[statuses.RETRY_AFTER_KEY]
    info, retry = Status.FromString(metadata[statuses.DETAILS_KEY]).details
    told = RetryInfo()
    assert retry.Unpack(told)
    assert seconds == told.retry_delay.seconds
    assert info.Is(ErrorInfo.DESCRIPTOR)


def test_only_a_busy_server_that_says_when_is_to_be_tried_again():
    _, code, _ = statuses.classify(ServerBusyError("busy"))
    told = statuses.error_from_rpc(code, "busy", statuses.trailing_metadata(ServerBusyError("busy")))
    assert 1.0 == told.retry_after_s
    assert 1.0 == statuses.error_from_rpc(code, "Concurrent RPC limit exceeded!", ()).retry_after_s
    assert statuses.error_from_rpc(code, "too large a message", ()).retry_after_s is None
