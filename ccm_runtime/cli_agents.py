"""`ccm agents`: what operators may set."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002, PLR0917

from pathlib import Path
from typing import Annotated

import typer

from ccm_runtime.cli_options import HELP, AsJson, ClientCert, ClientKey, TlsCa
from ccm_runtime.commands.extras import needs

agents = typer.Typer(no_args_is_help=True, context_settings=HELP)
AgentName = Annotated[str, typer.Argument(metavar="AGENT", help="Name of the agent: its folder's.")]
ServerAddress = Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="The server.")]
AdminToken = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="Holds a token of its --admin-token-file.")
]
Moves = Annotated[bool, typer.Option("--move", help="Open sessions go on with it too: anew, when their episode ends.")]
_LOCAL = "127.0.0.1:7070"


@agents.command(name="list", short_help="Show every version and how it fares.")
def agents_list(
    server: ServerAddress = _LOCAL,
    token_file: AdminToken = None,
    tls_ca: TlsCa = None,
    tls_cert: ClientCert = None,
    tls_key: ClientKey = None,
    as_json: AsJson = False,
) -> None:
    """Show every agent with its versions: their roles, sessions, returns, mended and failed actions."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import list_agents as run

        run(server, Access(token_file, tls_ca, tls_cert, tls_key), as_json=as_json)


@agents.command(name="load", short_help="Open new sessions with another version.")
def agents_load(
    agent: AgentName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Name of the version: its folder's.")],
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="S", help="Only this share of them: a candidate.")
    ] = 0.0,
    move: Moves = False,
    server: ServerAddress = _LOCAL,
    token_file: AdminToken = None,
    tls_ca: TlsCa = None,
    tls_cert: ClientCert = None,
    tls_key: ClientKey = None,
    as_json: AsJson = False,
) -> None:
    """Check and warm up FOLDER/AGENT/VERSION, then open new sessions with it; sessions that are open stay as they are.

    A version that is damaged, wrongly signed or of another contract is refused, and nothing changes.
    """
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import load as run

        access = Access(token_file, tls_ca, tls_cert, tls_key)
        run(server, access, agent, version, share=share, move=move, as_json=as_json)


@agents.command(name="promote", short_help="Open all new sessions with the candidate.")
def agents_promote(
    agent: AgentName,
    move: Moves = False,
    server: ServerAddress = _LOCAL,
    token_file: AdminToken = None,
    tls_ca: TlsCa = None,
    tls_cert: ClientCert = None,
    tls_key: ClientKey = None,
    as_json: AsJson = False,
) -> None:
    """Open all new sessions of an agent with its candidate."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import promote as run

        run(server, Access(token_file, tls_ca, tls_cert, tls_key), agent, move=move, as_json=as_json)


@agents.command(name="rollback", short_help="Take a candidate or the last change back.")
def agents_rollback(
    agent: AgentName,
    move: Moves = False,
    server: ServerAddress = _LOCAL,
    token_file: AdminToken = None,
    tls_ca: TlsCa = None,
    tls_cert: ClientCert = None,
    tls_key: ClientKey = None,
    as_json: AsJson = False,
) -> None:
    """Open no more sessions with the candidate or, if there is none, go back to the version before."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import roll_back as run

        run(server, Access(token_file, tls_ca, tls_cert, tls_key), agent, move=move, as_json=as_json)
