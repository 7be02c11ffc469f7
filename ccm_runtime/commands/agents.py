"""`ccm agents`: which versions a running server has, and which of them new sessions open with."""

import json
from typing import Any

import grpc
import typer
from rich.table import Table

from ccm_runtime.commands.access import Access
from ccm_runtime.commands.show import table_console
from ccm_runtime.config import is_loopback
from ccm_runtime.connection import check_target
from ccm_runtime.errors import DeadlineError, ServerUnreachableError
from ccm_runtime.statuses import DETAILS_KEY, error_from_rpc
from ccm_runtime.v1 import admin_pb2 as pb
from ccm_runtime.v1.admin_pb2_grpc import AdminStub

_LIMIT_S = 120.0  # a large bundle is read, checked and warmed up before the answer
_COUNTS = ("sessions", "opened", "episodes", "mean_return", "interventions", "misses", "failures")


def list_agents(server: str, access: Access, *, as_json: bool) -> None:
    """Show every agent with its versions."""
    _show(list(_call(server, access, "ListAgents", pb.ListAgentsRequest()).agents), as_json=as_json)


def load(server: str, access: Access, agent: str, version: str, *, share: float, move: bool, as_json: bool) -> None:
    """Load a version, for all new sessions or for a share of them."""
    request = pb.LoadVersionRequest(agent=agent, version=version, share=share, move=move)
    _show([_call(server, access, "LoadVersion", request)], as_json=as_json)


def promote(server: str, access: Access, agent: str, *, move: bool, as_json: bool) -> None:
    """Make the candidate current."""
    _show([_call(server, access, "Promote", pb.PromoteRequest(agent=agent, move=move))], as_json=as_json)


def roll_back(server: str, access: Access, agent: str, *, move: bool, as_json: bool) -> None:
    """Take the candidate or the last change back."""
    _show([_call(server, access, "RollBack", pb.RollBackRequest(agent=agent, move=move))], as_json=as_json)


def _call(server: str, access: Access, rpc: str, request: Any) -> Any:
    """Call a server's Admin service.

    Raises:
        ServerUnreachableError: Nobody answers, or the connection was lost: look before trying again.
        DeadlineError: No answer came in time.
        CcmError: What the server refuses the call with.
    """
    target, credentials, token = check_target(server, "--server"), access.credentials(), access.token()
    # A proxy that the environment names is for other machines.
    options = (("grpc.enable_http_proxy", 0),) if is_loopback(target.rpartition(":")[0]) else ()
    bearer = () if token is None else (("authorization", f"Bearer {token}"),)
    channel = (
        grpc.insecure_channel(target, options=options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options=options)
    )
    with channel:
        try:
            return getattr(AdminStub(channel), rpc)(request, timeout=_LIMIT_S, metadata=bearer)
        except grpc.RpcError as error:
            code, details = error.code(), error.details() or ""
            metadata = [(entry.key, entry.value) for entry in error.trailing_metadata() or ()]
            by_grpc = DETAILS_KEY not in dict(metadata)  # else the server itself says why
            if by_grpc and code is grpc.StatusCode.UNAVAILABLE:
                raise ServerUnreachableError(
                    f"nobody answers at {target}; does `ccm serve` run there, and does it ask for TLS or a certificate?"
                ) from None
            if by_grpc and code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise DeadlineError(f"no answer from {target} within {_LIMIT_S:g} s") from None
            raise error_from_rpc(code, details, metadata) from None


def _show(rollouts: list[pb.Rollout], *, as_json: bool) -> None:
    told = [_told(rollout) for rollout in rollouts]
    if as_json:
        typer.echo(json.dumps({"agents": told}))
        return
    table = Table("agent", "version", "role", *(name.replace("_", " ") for name in _COUNTS), box=None, pad_edge=False)
    for rollout in told:
        for version in rollout["versions"]:
            role = version["role"] + (f" {rollout['share']:g}" if version["role"] == "candidate" else "")
            counts = (f"{version[name]:g}" for name in _COUNTS)
            table.add_row(rollout["agent"], version["version"], role, *counts)
    table_console().print(table)


def _told(rollout: pb.Rollout) -> dict[str, Any]:
    """Return a rollout as JSON can hold it."""
    versions = [
        {
            "version": version.version,
            "bundle_digest": version.bundle_digest,
            "role": pb.Role.Name(version.role).removeprefix("ROLE_").lower(),
            **{name: getattr(version, name) for name in _COUNTS},
        }
        for version in rollout.versions
    ]
    return {"agent": rollout.agent, "share": rollout.share, "versions": versions}
