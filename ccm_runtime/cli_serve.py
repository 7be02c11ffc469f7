"""`ccm serve`: what may be set of a server, each a field of `ServerConfig`."""

# Imports inside commands: see `ccm_runtime.cli`. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, PLR0917

from pathlib import Path
from typing import Annotated

import typer

from ccm_runtime.cli_options import Device, Fallback, PublicKey
from ccm_runtime.commands.extras import needs


def serve(
    bundle: Annotated[
        list[Path] | None,
        typer.Argument(metavar="BUNDLE", help="Bundles, one an agent (default: the embedded one)."),
    ] = None,
    agents: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Serve the bundles FOLDER/AGENT/VERSION, to be changed by ccm agents."),
    ] = None,
    shadow: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Tell it all that the first agent is told, and do not obey it (none)."),
    ] = None,
    watch_s: Annotated[
        float | None, typer.Option(metavar="S", help="And by FOLDER/AGENT/current: look at it so often (never).")
    ] = None,
    public_key: PublicKey = None,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on (127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one (7070).")] = None,
    device: Annotated[
        Device | None,
        typer.Option(metavar="auto|cpu|cuda", help="cuda refuses to start unless CUDA is truly active (cpu)."),
    ] = None,
    max_sessions: Annotated[int | None, typer.Option(metavar="N", help="Most sessions at a time (1024).")] = None,
    idle_limit_s: Annotated[
        float | None, typer.Option(metavar="S", help="Close a session that is idle for this long (300).")
    ] = None,
    action_valid_ms: Annotated[
        int | None, typer.Option(metavar="MS", help="How long after its arrival an action may be applied (1000).")
    ] = None,
    action_deadline_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Replace a later action by the fallback (never).")
    ] = None,
    max_rate: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="How much each entry of an action may change in one step; the bundle's limit holds too (none).",
        ),
    ] = None,
    fallback: Annotated[
        Fallback | None,
        typer.Option(
            metavar="hold|zero|last-safe", help="Given for an action that is late or not finite (as the bundle says)."
        ),
    ] = None,
    max_misses: Annotated[
        int | None,
        typer.Option(metavar="N", help="A session goes SAFE after so many late or NaN actions in a row (10)."),
    ] = None,
    max_interventions: Annotated[
        int | None, typer.Option(metavar="N", help="And after so many mended actions in a row (any number).")
    ] = None,
    re_explore: Annotated[
        bool | None, typer.Option("--re-explore", help="Explore anew when an episode shows that its task has changed.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL", help="Keep sessions in this SQLite file, or share them in redis://HOST:PORT/DB (none)."
        ),
    ] = None,
    store_password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Password of that Redis (as its URL says).")
    ] = None,
    store_failure: Annotated[
        str | None, typer.Option(metavar="degrade|refuse", help="Go on or not while it cannot be written (degrade).")
    ] = None,
    store_sync: Annotated[
        str | None, typer.Option(metavar="normal|full", help="A file survives a crash, or also a power cut (normal).")
    ] = None,
    store_commit_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Write changes at most this long after they were made (50).")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write sessions' events into this folder, for ccm replay (none).")
    ] = None,
    record_max_mb: Annotated[
        int | None, typer.Option(metavar="N", help="Most that it holds, MiB; the oldest recordings go first (1024).")
    ] = None,
    drain_s: Annotated[
        float | None, typer.Option(metavar="S", help="How long a shutdown waits for episodes to end (10).")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve only clients with a certificate of these, PEM.")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the token that every call must bear, or lines of TENANT:TOKEN."),
    ] = None,
    admin_token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the token that `ccm agents` must bear.")
    ] = None,
    max_tenant_sessions: Annotated[
        int | None, typer.Option(metavar="N", help="Most sessions of one tenant at a time (no limit of its own).")
    ] = None,
    metrics_port: Annotated[int | None, typer.Option(metavar="N", help="Port of Prometheus metrics (none).")] = None,
    page_port: Annotated[
        int | None, typer.Option(metavar="N", help="Port of a page to watch the server on, in a browser (none).")
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(metavar="N", help="Most sessions in one run of a network (64).")
    ] = None,
    max_versions: Annotated[
        int | None, typer.Option(metavar="N", help="Most versions of an agent loaded at a time (4).")
    ] = None,
    max_candidate_faults: Annotated[
        int | None, typer.Option(metavar="N", help="Roll a candidate back that fails or misses N actions (10).")
    ] = None,
    load_limit_s: Annotated[
        float | None,
        typer.Option(metavar="S", help="Give a version up that takes longer to be read or warmed up (100)."),
    ] = None,
    max_calls: Annotated[int | None, typer.Option(metavar="N", help="Most calls under way at a time (4096).")] = None,
    max_streams: Annotated[
        int | None, typer.Option(metavar="N", help="Most calls under way on one connection (1024).")
    ] = None,
    max_message_bytes: Annotated[
        int | None, typer.Option(metavar="N", help="Largest message that is read (4 MiB).")
    ] = None,
    stay_awake: Annotated[
        bool | None,
        typer.Option("--stay-awake", help="Keep processors from deep sleep: quicker for few clients, more power (no)."),
    ] = None,
    otel: Annotated[
        bool | None, typer.Option("--otel", help="Export OpenTelemetry traces, as OTEL_ variables say (no).")
    ] = None,
    log_level: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error (info).")
    ] = None,
) -> None:
    """Serve bundles over gRPC; prints "listening on HOST:PORT" on standard error once it accepts calls.

    Every option has a variable too, e.g. CCM_MAX_SESSIONS for --max-sessions; a flag wins. Only this machine can
    reach the server unless --tls-cert, --tls-key and --token-file are given. SIGTERM lets episodes end first.
    """
    flags = dict(locals())
    with needs("serve"):
        from ccm_runtime.commands.serve import serve as run

        run(**flags)
