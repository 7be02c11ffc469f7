"""The command line: what there is to say and to set. What each command does lives in `ccm_runtime.commands`.

The composition root: every heavy package is imported inside its command, so that `ccm --help` is immediate.
"""

# Imports inside commands: see above. Typer reads flags and options from the parameters.
# ruff: noqa: PLC0415, FBT002, PLR0917

import os
import sys
import traceback
import warnings
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from ccm_runtime.commands.extras import needs
from ccm_runtime.errors import CcmError, ConfigError

app = typer.Typer(
    name="ccm",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "First steps: `ccm adapt` shows the agent that comes with the package adapt to tasks that it never saw; "
        "`ccm quickstart` trains one like it in minutes. Every error ends with one line and a code of "
        "docs/reference/exit-codes.md; CCM_DEBUG=1 adds the traceback."
    ),
)


class Device(StrEnum):
    """Where networks run."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class Method(StrEnum):
    """What is trained."""

    CCM = "ccm"
    PEARL = "pearl"
    PEARL_CL = "pearl-cl"
    PEARL_DP = "pearl-dp"
    PEARL_CL_DP = "pearl-cl-dp"
    ORACLE = "oracle"
    RANDOM = "random"


class PaperFigure(StrEnum):
    """Which figure of the paper."""

    ENCODERS = "figure3"
    ADAPTATION = "figure4"
    REGULARIZER = "figure5"
    BELIEFS = "figure6"


class Budget(StrEnum):
    """How much the runs of a figure may spend."""

    CPU = "cpu"
    GPU = "gpu"
    PAPER = "paper"


class Tasks(StrEnum):
    """Which of a family's tasks."""

    TRAIN = "train"
    TEST = "test"
    OOD = "ood"


AsJson = Annotated[bool, typer.Option("--json", help="Print one line of JSON on standard output instead of a table.")]
Trials = Annotated[int, typer.Option(min=1, metavar="N", help="Trials, each on a task of its own.")]
FamilyName = Annotated[
    str | None,
    typer.Option(
        "--family",
        "--env",
        metavar="NAME",
        help="Simulated task family (default: the one it was trained on); needed for package.module:Family.",
    ),
]
Seed = Annotated[int, typer.Option(min=0, metavar="N", help="Everything random is a function of it.")]
PublicKey = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Refuse a bundle that this key has not signed (Ed25519, PEM).")
]
TaskSplit = Annotated[
    Tasks, typer.Option(metavar="train|test|ood", help="Which tasks of the family; test tasks were never trained on.")
]


WandbProject = Annotated[
    str | None, typer.Option(metavar="PROJECT", help="Say it to Weights & Biases too (WANDB_MODE=offline: locally).")
]


@app.callback()
def _ccm(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks (same as CCM_DEBUG=1).")] = False,
) -> None:
    """Agents that adapt: meta-train once, then explore an unseen task for a few episodes and execute it.

    The loop: train -> export (three ONNX graphs) -> verify -> serve (gRPC) -> adapt.
    """
    if debug:
        os.environ["CCM_DEBUG"] = "1"


@app.command(short_help="The whole loop on this CPU, in minutes.")
def quickstart(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the run, the bundle and the report.")] = Path(
        "ccm-quickstart"
    ),
    config: Annotated[str, typer.Option(metavar="NAME|FILE", help="What to train.")] = "quickstart",
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Do the whole loop on this CPU in minutes: train, export, verify, serve, adapt, report."""
    with needs("all"):
        from ccm_runtime.commands.quickstart import quickstart as run

        run(out, config=config, seed=seed, as_json=as_json)


@app.command(short_help="Meta-train an agent.")
def train(
    config: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="A preset's name or a YAML file, e.g. point_robot_debug.")
    ],
    override: Annotated[
        list[str] | None, typer.Option("--set", metavar="K=V", help="E.g. policy.discount=0.9; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, metavar="N", help="Instead of the config's.")] = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="0..4|0,2,5", help="Several in one process, as runs DIR/seed-N.")
    ] = None,
    device: Annotated[
        Device, typer.Option(metavar="auto|cpu|cuda", help="Where to train; auto takes CUDA if it truly works.")
    ] = Device.AUTO,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run (default: runs/CONFIG-METHOD-SEED).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's last checkpoint.")] = False,
    method: Annotated[
        Method | None,
        typer.Option(metavar="ccm|pearl|pearl-cl|pearl-dp|pearl-cl-dp|oracle|random", help="Instead of the config's."),
    ] = None,
    wandb: WandbProject = None,
) -> None:
    """Meta-train an agent; Ctrl-C saves a checkpoint and stops, --resume goes on."""
    with needs("train"):
        from ccm_runtime.commands.train import train as run

        options: dict[str, Any] = {"seed": seed, "seeds": seeds, "device": device, "run_dir": run_dir, "wandb": wandb}
        run(config, override or [], method=method, resume=resume, **options)


@app.command(short_help="Train many runs: seeds, configs, settings.")
def sweep(
    config: Annotated[list[str], typer.Option(metavar="NAME|FILE", help="A preset's name or a YAML file; repeatable.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the runs and their tables.")],
    seeds: Annotated[str, typer.Option(metavar="A..B|A,B,...", help="Seeds of each choice of settings.")] = "0",
    override: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="K=V,V,...", help="E.g. policy.discount=0.9,0.95 or method=ccm,pearl; repeatable."
        ),
    ] = None,
    address: Annotated[
        str, typer.Option(metavar="local|auto|HOST:PORT|ray://...", help="Ray cluster; local makes one here.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Runs at a time (as many as there are processors for).")
    ] = None,
    gpus: Annotated[
        float, typer.Option(min=0.0, metavar="F", help="Share of a GPU that a run takes, e.g. 0.25; 0: the CPU.")
    ] = 0.0,
    wandb: WandbProject = None,
    as_json: AsJson = False,
) -> None:
    """Train every choice of configs, settings and seeds, on Ray: on this machine, or on a cluster.

    Each is an ordinary run in a folder of DIR (on a cluster: a path that all machines share), named by what varies.
    Runs whose worker dies go on from their last checkpoint by themselves; after Ctrl-C the same command goes on. The
    scores are put together in DIR/sweep.json and DIR/sweep.md.
    """
    with needs("sweep"):
        from ccm_runtime.commands.sweep import sweep as run
        from ccm_training.ray_sweep import Cluster

        run(config, override or [], seeds, out, Cluster(address, workers, gpus), wandb=wandb, as_json=as_json)


@app.command(short_help="Score a run or a bundle in this process.")
def evaluate(
    path: Annotated[Path, typer.Argument(metavar="RUN_DIR|BUNDLE", help="A training run or an exported bundle.")],
    tasks: TaskSplit = Tasks.TEST,
    trials: Annotated[int | None, typer.Option(min=1, metavar="N", help="Trials, each on a task of its own.")] = None,
    family: FamilyName = None,
    ceiling: Annotated[
        Path | None, typer.Option(metavar="RUN_DIR", help="An oracle's run, whose return is the ceiling.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score an agent in this process: returns episode by episode, against the ceiling and the floor."""
    with needs("train"):
        from ccm_runtime.commands.evaluate import evaluate as run

        run(path, tasks=tasks, trials=trials, family=family, ceiling=ceiling, as_json=as_json)


@app.command(short_help="Write a run's agent as a bundle.")
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A training run.")],
    out: Annotated[Path, typer.Option(metavar="BUNDLE", help="Folder of the bundle.")],
) -> None:
    """Write a run's agent as a bundle; refuses unless onnxruntime agrees with torch."""
    with needs("export"):
        from ccm_runtime.commands.export import export as run

        run(run_dir, out)


@app.command(short_help="Check a bundle's digests, schema and graphs.")
def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    public_key: PublicKey = None,
) -> None:
    """Check a bundle: schema, digests, graphs against manifest, actions within bounds."""
    with needs("serve"):
        from ccm_runtime.commands.verify import verify as run

        run(bundle, public_key)


@app.command(short_help="Sign a bundle.")
def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="Folder of the bundle.")],
    key: Annotated[Path, typer.Option(metavar="FILE", help="Private key, Ed25519, PEM.")],
) -> None:
    """Check a bundle and sign it, for `ccm serve --public-key`; the signature is manifest.sig in its folder.

    A pair of keys: openssl genpkey -algorithm ed25519 -out key.pem; openssl pkey -in key.pem -pubout -out public.pem
    """
    from ccm_runtime.commands.sign import sign_bundle as run

    run(bundle, key)


@app.command(short_help="Serve bundles over gRPC.")
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
        float | None, typer.Option(metavar="MS", help="Replace a later action by the bundle's fallback (never).")
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
        Path | None, typer.Option(metavar="FILE", help="Keep sessions in this SQLite file, to outlive a crash (none).")
    ] = None,
    store_failure: Annotated[
        str | None, typer.Option(metavar="degrade|refuse", help="Go on or not while FILE cannot be written (degrade).")
    ] = None,
    store_sync: Annotated[
        str | None, typer.Option(metavar="normal|full", help="Survive a crash, or also a power cut (normal).")
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


@app.command(short_help="Run trials against a server.")
def adapt(
    server: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A running server (default: one of our own).")
    ] = None,
    family: FamilyName = None,
    tasks: TaskSplit = Tasks.TEST,
    trials: Trials = 20,
    seed: Seed = 0,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Holds the token that the server asks for.")
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Certificates to trust, PEM (default: plain text).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run trials on simulated tasks against a server and show how the return grows, episode by episode."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.adapt import adapt as run

        access = Access(token_file, tls_ca)
        run(server, access=access, family=family, tasks=tasks, trials=trials, seed=seed, as_json=as_json)


@app.command(short_help="Take a recorded session again and compare.")
def replay(
    recording: Annotated[
        Path, typer.Argument(metavar="RECORDING", help="A file that `ccm serve --record` wrote: SESSION-FIRST.ccmrec.")
    ],
    bundle: Annotated[
        Path | None, typer.Option(metavar="BUNDLE", help="Folder of the bundle (default: the embedded one).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Take the events of a recorded session again, without a server, and compare the actions with the recorded ones.

    With the bundle that answered they must be equal, bit for bit or up to rounding: else this ends with code 7 and the
    number of the first event that differs. With another bundle it tells how that one would have acted.
    """
    with needs("serve"):
        from ccm_runtime.commands.replay import replay as run

        run(recording, bundle, as_json=as_json)


@app.command(short_help="Write a video of one trial.")
def record(
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to: a name that ends in .mp4 or .gif.")],
    path: Annotated[
        Path | None,
        typer.Argument(metavar="[RUN_DIR|BUNDLE]", help="A training run or a bundle (default: the embedded one)."),
    ] = None,
    family: FamilyName = None,
    tasks: TaskSplit = Tasks.TEST,
    task: Annotated[
        str | None, typer.Option(metavar="A,B", help="This task, with commas between its entries (default: by seed).")
    ] = None,
    seed: Seed = 0,
    fps: Annotated[int, typer.Option(min=1, max=50, metavar="N", help="Environment steps a second.")] = 20,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Write a video of one trial, the exploration episodes and then execution, with return and certainty drawn in."""
    with needs("video"):
        from ccm_runtime.commands.record import record as run

        run(path, out, family=family, tasks=tasks, task=task, seed=seed, fps=fps, overwrite=force)


@app.command(short_help="List runs, or compare some of them.")
def runs(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER|RUN_DIR", help="A folder of runs (default: runs), or several runs."),
    ] = None,
    sort: Annotated[
        str,
        typer.Option(
            metavar="KEY", help="name, state, family, method, seed, or best first: score, env_steps, time_s, changed."
        ),
    ] = "name",
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder and below it: how far each has come, what it scores, and whether it is under way.

    Of several runs, show the settings that differ and what each came to, side by side.
    """
    with needs("train"):
        from ccm_runtime.commands.runs import runs as run

        run(paths or [Path("runs")], sort=sort, as_json=as_json)


@app.command(short_help="Runs as one page to look at.")
def report(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN_DIR", help="A training run, or several to compare.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page to write (RUN_DIR/report.html; of several, comparison.html beside the first)."
        ),
    ] = None,
) -> None:
    """Write a run as one HTML page: scores, curves, trajectories or frames, beliefs, settings.

    Of several runs: learning curves with intervals over seeds, adaptation curves, beliefs, and the settings that
    differ. Runs that differ by the seed alone are put together.
    """
    with needs("train"):
        from ccm_runtime.commands.report import report as run

        run(run_dirs, out)


@app.command(name="hash", short_help="SHA-256 of a run's parameters.")
def hash_(run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A training run.")]) -> None:
    """Print the SHA-256 of the last checkpoint's parameters; equal seeds give equal hashes."""
    with needs("train"):
        from ccm_runtime.commands.hash import print_hash as run

        run(run_dir)


@app.command(short_help="List the simulated task families.")
def families(as_json: AsJson = False) -> None:
    """List the task families that can be trained on and adapted to."""
    from ccm_runtime.commands.families import families as run

    run(as_json=as_json)


@app.command(name="new-family", short_help="Write the beginnings of a task family.")
def new_family(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the family, e.g. my-arm.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to (default: here).", show_default=False)] = Path(),
) -> None:
    """Write a family of your own to start from: a file that works as it is, its test, and settings to train it."""
    from ccm_runtime.commands.new_family import new_family as run

    run(name, out)


@app.command(name="check-family", short_help="Check a task family against its laws.")
def check_family(
    family: Annotated[str, typer.Argument(metavar="FAMILY", help="package.module:Family, or the name of one of ours.")],
    as_json: AsJson = False,
) -> None:
    """Check that a family obeys the laws of families: seeds, endings, bounds, splits, and that its tasks matter."""
    with needs("train"):
        from ccm_runtime.commands.check_family import check_family as run

        run(family, as_json=as_json)


@app.command(short_help="What is installed and truly active.")
def doctor(as_json: AsJson = False) -> None:
    """Say what is installed, which device and ONNX provider is truly active, and what to do about it."""
    from ccm_runtime.commands.doctor import doctor as run

    run(as_json=as_json)


agents = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(
    agents,
    name="agents",
    help="Change which versions of its agents a running `ccm serve --agents FOLDER` opens new sessions with.",
    short_help="Change a running server's agents.",
)
AgentName = Annotated[str, typer.Argument(metavar="AGENT", help="Name of the agent: its folder's.")]
ServerAddress = Annotated[str, typer.Option("--server", metavar="HOST:PORT", help="The server.")]
AdminToken = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="Holds a token of its --admin-token-file.")
]
TlsCa = Annotated[
    Path | None, typer.Option("--tls-ca", metavar="FILE", help="Certificates to trust, PEM (default: plain text).")
]
Moves = Annotated[bool, typer.Option("--move", help="Open sessions go on with it too: anew, when their episode ends.")]
_LOCAL = "127.0.0.1:7070"


@agents.command(name="list", short_help="Show every version and how it fares.")
def agents_list(
    server: ServerAddress = _LOCAL, token_file: AdminToken = None, tls_ca: TlsCa = None, as_json: AsJson = False
) -> None:
    """Show every agent with its versions: their roles, sessions, returns, mended and failed actions."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import list_agents as run

        run(server, Access(token_file, tls_ca), as_json=as_json)


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
    as_json: AsJson = False,
) -> None:
    """Check and warm up FOLDER/AGENT/VERSION, then open new sessions with it; sessions that are open stay as they are.

    A version that is damaged, wrongly signed or of another contract is refused, and nothing changes.
    """
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import load as run

        run(server, Access(token_file, tls_ca), agent, version, share=share, move=move, as_json=as_json)


@agents.command(name="promote", short_help="Open all new sessions with the candidate.")
def agents_promote(
    agent: AgentName,
    move: Moves = False,
    server: ServerAddress = _LOCAL,
    token_file: AdminToken = None,
    tls_ca: TlsCa = None,
    as_json: AsJson = False,
) -> None:
    """Open all new sessions of an agent with its candidate."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import promote as run

        run(server, Access(token_file, tls_ca), agent, move=move, as_json=as_json)


@agents.command(name="rollback", short_help="Take a candidate or the last change back.")
def agents_rollback(
    agent: AgentName,
    move: Moves = False,
    server: ServerAddress = _LOCAL,
    token_file: AdminToken = None,
    tls_ca: TlsCa = None,
    as_json: AsJson = False,
) -> None:
    """Open no more sessions with the candidate or, if there is none, go back to the version before."""
    with needs("serve"):
        from ccm_runtime.commands.access import Access
        from ccm_runtime.commands.agents import roll_back as run

        run(server, Access(token_file, tls_ca), agent, move=move, as_json=as_json)


bench = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
app.add_typer(bench, name="bench", help="Measure on this machine.", short_help="Measure on this machine.")


@bench.command(name="serve", short_help="Measure serving against its floor.")
def bench_serve(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Folder of the bundle (default: the embedded one).")
    ] = None,
    clients: Annotated[str, typer.Option(metavar="N,N,...", help="Numbers of clients at once.")] = "1,16,64,256",
    rounds: Annotated[int, typer.Option(min=1, metavar="N", help="How often everything is measured.")] = 5,
    seconds: Annotated[float, typer.Option(min=0.01, metavar="S", help="Length of each measurement.")] = 1.0,
    quick: Annotated[bool, typer.Option("--quick", help="A few clients and moments: to see that it works.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a step against an empty call of the same gRPC library and against the bare networks, in one run.

    A server, an empty server and the clients are a process each. Every round measures everything, every second one in
    the opposite order; ratios are of the same round, figures are medians over rounds.
    """
    with needs("serve"):
        from ccm_runtime.commands.bench import QUICK, bench_serve, plan_of

        bench_serve(bundle, QUICK if quick else plan_of(clients, rounds, seconds), as_json=as_json)


@app.command(short_help="Watch a server under load for anything that grows.")
def soak(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="Folder of the bundle (default: the embedded one).")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps of all sessions together.")] = 500_000,
    sessions: Annotated[int, typer.Option(min=1, metavar="N", help="Sessions at a time.")] = 64,
    store: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Let the server keep its sessions in this SQLite file (none).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Step sessions of a server of its own without a pause, trial after trial, and watch it from outside.

    Ends with 1 if a step fails, memory grows by 1 MB or more in 100,000 steps, descriptors, threads, tasks, sessions
    or the store grow, or the 99th percentile of a step's time or its processor time rise by more than 10 % (at the
    machine's pace, which the robots' own processor time tells).
    """
    with needs("serve"):
        from ccm_runtime.commands.soak import SoakPlan
        from ccm_runtime.commands.soak import soak as run

        run(bundle, SoakPlan(steps, sessions, store), as_json=as_json)


@app.command(short_help="Reproduce the paper's figures 3 to 6.")
def benchmark(
    figure: Annotated[
        PaperFigure,
        typer.Argument(
            metavar="figure3|4|5|6",
            help="Encoder strategies; overall adaptation; the regularizer's effect; t-SNE of beliefs.",
        ),
    ],
    budget: Annotated[
        Budget,
        typer.Option(
            metavar="cpu|gpu|paper", help="Two cores overnight; half an hour of an H200; the paper's environment steps."
        ),
    ] = Budget.CPU,
    families: Annotated[str | None, typer.Option(metavar="A,B", help="Only these of the figure's.")] = None,
    methods: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these of the figure's, e.g. ccm,pearl or ccm-no-gain.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="A..B|A,B,...", help="Instead of the budget's.")] = None,
    runs: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the run folders (default: runs/BUDGET).")
    ] = None,
    results: Annotated[Path, typer.Option(metavar="DIR", help="Where results are kept, to be committed.")] = Path(
        "benchmarks/results"
    ),
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the page of all figures, e.g. docs/results.md.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Runs at a time (default: one a core; 8 on an H200).")
    ] = None,
    no_train: Annotated[
        bool, typer.Option("--no-train", help="Take in the runs that are finished, and draw; train nothing.")
    ] = False,
    draw_only: Annotated[
        bool, typer.Option("--draw-only", help="Draw what is kept in --results; look at no run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Reproduce a figure of the paper: train the runs that it needs, keep their results, write tables and pictures.

    Each run is an ordinary one, as of `ccm train`. What is finished or has a result is not trained again, and what was
    stopped goes on, so that the same command can be given day after day, on several machines, until nothing is
    missing; a run is trained by one process at a time.
    """
    with needs("train"):
        from ccm_runtime.commands.benchmark import benchmark as run
        from ccm_runtime.commands.benchmark import words_of
        from ccm_runtime.commands.seeds import parse_seeds
        from ccm_training.benchmark.campaign import Folders

        run(
            figure.value,
            budget=budget.value,
            families=words_of(families),
            methods=words_of(methods),
            seeds=None if seeds is None else list(parse_seeds(seeds)),
            folders=Folders(runs or Path("runs") / budget.value, results, page),
            jobs=jobs,
            train=not (no_train or draw_only),
            take=not draw_only,
            as_json=as_json,
        )


@app.command(short_help="Print the version.")
def version() -> None:
    """Print the version."""
    from ccm_runtime import __version__

    typer.echo(__version__)


def main() -> None:
    """Entry point of `ccm`: one line on standard error and an exit code for whatever goes wrong."""
    warnings.showwarning = _warn
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # gRPC would tell standard error of what we tell in a line
    try:
        app(prog_name="ccm")
    except Exception as error:  # CCM_DEBUG=1 shows where it came from
        sys.exit(_complain(_of_a_file(error) or error))


def _warn(message: Warning | str, category: type[Warning], *where: object, **more: object) -> None:
    """A warning as one line; where it came from helps nobody who only uses the command."""
    del category, where, more
    typer.echo(f"ccm: warning: {' '.join(str(message).split())}", err=True)


def _of_a_file(error: Exception) -> ConfigError | None:
    """What is wrong with the file or folder that an error of the operating system names, if it names one."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    unusable = ConfigError(f"cannot use {error.filename}: {error.strerror}")
    unusable.__cause__ = error
    return unusable


def _complain(error: Exception) -> int:
    if os.environ.get("CCM_DEBUG", "0") not in {"", "0"}:
        traceback.print_exception(error)
    internal = "" if isinstance(error, CcmError) else f"unexpected {type(error).__name__}: "
    hint = "" if isinstance(error, CcmError) else " (CCM_DEBUG=1 shows where)"
    message = " ".join(str(error).split())
    typer.echo(f"ccm: error: {internal}{message}{hint}", err=True)
    return error.exit_code if isinstance(error, CcmError) else 1
