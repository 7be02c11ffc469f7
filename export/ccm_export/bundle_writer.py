"""Write a run's agent as a bundle: all of it, checked, or nothing."""

import errno
import hashlib
import platform
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from ccm_export.experience import experience
from ccm_export.golden import golden_samples
from ccm_export.graphs import build_graphs
from ccm_export.model_card import model_card
from ccm_export.parity import TOLERANCE, measure_parity, synthetic_probes
from ccm_export.training_trials import run_training_trials
from ccm_export.verify import verify_bundle
from ccm_runtime import __version__
from ccm_runtime.belief import NoveltyStats
from ccm_runtime.bundle import ASIDE, MANIFEST, Bundle
from ccm_runtime.crash_points import reach
from ccm_runtime.durable import exchange, sync_folder, write_synced
from ccm_runtime.errors import ConfigError
from ccm_runtime.inference import OnnxPolicy, load_runtime
from ccm_runtime.limits import check_rates
from ccm_runtime.machine import installed_version
from ccm_runtime.manifest import (
    GRAPHS,
    MODEL_CARD,
    BeliefSpec,
    FileDigest,
    Manifest,
    ParityReport,
    Provenance,
    SafetyLimits,
    to_bytes,
)
from ccm_runtime.signing import SIGNATURE
from ccm_training.checkpoint import LoadedRun, load_agent
from ccm_training.methods import ADAPTIVE
from ccm_training.onpolicy.memory import MemoryPolicy
from ccm_training.policy import AgentPolicy

_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "torch")


def export_run(
    run_dir: Path, out: Path, *, safety: SafetyLimits | None = None, created_at: datetime | None = None
) -> Manifest:
    """Write the agent of a run's last checkpoint to folder `out` and return its manifest.

    The folder appears only once everything in it has been checked; an older bundle there is replaced, and its
    signature goes with it.

    Args:
        run_dir: What `ccm train` wrote.
        out: The bundle's folder.
        safety: Limits of its actions beyond their bounds; `None`: no limit of their rate, and `zero` as the fallback.
        created_at: Noted in the manifest; now, if not given.

    Raises:
        CheckpointMissingError: The run has no checkpoint.
        CheckpointCorruptError: None of its checkpoints is whole.
        ConfigError: The agent does not adapt, or adapts by a gradient step; `safety` is not of its actions; `out`
            holds what is not a bundle; both builds of onnxruntime are installed.
        DependencyMissingError: onnxruntime is not installed.
        ParityError: onnxruntime and torch disagree.
    """
    return export_agent(load_agent(run_dir), out, safety=safety, created_at=created_at)


def export_agent(
    run: LoadedRun, out: Path, *, safety: SafetyLimits | None = None, created_at: datetime | None = None
) -> Manifest:
    """Write an agent that is in memory; see `export_run`."""
    if run.config.what.gradient:
        raise ConfigError(
            f"an agent of method {run.config.method!r} adapts by a gradient step, and there is no gradient step in the "
            f"field: a bundle holds forward passes only; train one of: {', '.join(ADAPTIVE)}"
        )
    if not run.config.what.encoder:
        raise ConfigError(
            f"an agent of method {run.config.method!r} does not adapt, so there is nothing to export; "
            f"train one of: {', '.join(ADAPTIVE)}"
        )
    safety = safety or SafetyLimits()
    check_rates(safety.max_rate, run.family.action)
    _check_replaceable(out)
    load_runtime()  # who lacks it is told now, and not after all those trials
    known = run_training_trials(run)
    draft = _draft(run, safety, known.novelty, created_at or datetime.now(UTC))
    graphs = build_graphs(run.agent, draft)
    exported = OnnxPolicy(Bundle(out, draft, "", graphs))
    reference = _reference(run)
    probes = [known.probe, *synthetic_probes(exported, np.random.default_rng(run.config.seed))]
    stats, plane = experience(exported, run.family, safety, seed=run.config.tasks.seed)
    checked = draft.model_copy(
        update={
            "parity": measure_parity(reference, exported, probes),
            "golden": golden_samples(exported, known.probe),
            "experience": stats,
            "belief_map": plane,
        }
    )
    return write_bundle(out, checked, graphs)


def write_bundle(out: Path, manifest: Manifest, graphs: dict[str, bytes]) -> Manifest:
    """Write, verify, then move into place; return the manifest with the digests of the files filled in.

    Raises:
        ConfigError: `out` holds something that is not a bundle, or cannot be written.
        BundleError: What was written does not verify.
    """
    _check_replaceable(out)
    contents = {**graphs, MODEL_CARD: model_card(manifest).encode()}
    complete = manifest.model_copy(update={"files": {name: _digest(data) for name, data in contents.items()}})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as workshop:
            made = Path(workshop) / "new"
            made.mkdir()
            for name, data in {**contents, MANIFEST: to_bytes(complete)}.items():
                write_synced(made / name, data)
            sync_folder(made)
            verify_bundle(made)
            reach("export.written")
            _put(made, out, aside=Path(workshop) / ASIDE)
            reach("export.put")
            sync_folder(out.parent)
    except OSError as error:
        raise ConfigError(f"{out}: no bundle can be written there ({error.strerror}); name another --out") from error
    return complete


def _put(made: Path, out: Path, aside: Path) -> None:
    """Move `made` to `out` in one step, in which a bundle that is there goes to where `made` was."""
    if not out.exists():
        made.rename(out)
        return
    try:
        exchange(made, out)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP}:
            raise
        _put_in_two_steps(made, out, aside)


def _put_in_two_steps(made: Path, out: Path, aside: Path) -> None:
    """The same on file systems that know no such step; a bundle that is there goes `aside`.

    It comes back if that fails or is interrupted. A process that is killed between the two leaves it `aside`, of which
    `load_bundle` tells.
    """
    try:
        out.rename(aside)
        reach("export.aside")
        made.rename(out)
    except BaseException:
        if aside.exists() and not out.exists():
            aside.rename(out)
        raise


def _check_replaceable(out: Path) -> None:
    """Refuse a path whose content is anything but a bundle or an empty folder."""
    if not (out.exists() or out.is_symlink()):
        return
    if out.is_dir() and not out.is_symlink():
        present = {entry.name for entry in out.iterdir()}
        if not present or (MANIFEST in present and present <= {MANIFEST, MODEL_CARD, SIGNATURE, *GRAPHS}):
            return
    raise ConfigError(f"{out} exists and is not a bundle; name another --out, or remove it")


def _draft(run: LoadedRun, safety: SafetyLimits, novelty: NoveltyStats, created_at: datetime) -> Manifest:
    """The manifest before anything was compared or written."""
    config, policy = run.config, _reference(run)
    initial = policy.initial_belief(1)
    gaussian = isinstance(policy, AgentPolicy)
    return Manifest(
        agent_id=f"{run.family.name}-{config.method}-{config.seed}-{config.digest[:8]}",
        family=run.family.name,
        observation=run.family.observation,
        action=run.family.action,
        belief=BeliefSpec(
            kind="gaussian-product" if gaussian else "gru",
            additive=gaussian,
            size=initial.shape[1],
            latent_size=policy.read(initial).mean.shape[1],
            initial=tuple(initial[0].tolist()),
        ),
        adaptation=run.adaptation,
        safety=safety,
        novelty=novelty,
        provenance=Provenance(
            created_at=created_at.isoformat(timespec="seconds"),
            method=config.method,
            seed=config.seed,
            env_steps=run.counters.env_steps,
            updates=run.counters.updates,
            config_sha256=config.digest,
            config=config.model_dump(mode="json"),
            versions=_versions(),
            scores=run.scores and {name: value for name, value in run.scores.items() if name != "task_scores"},
        ),
        parity=ParityReport(tolerance=TOLERANCE, max_abs_difference={}, num_inputs={}),
        files={},
    )


def _reference(run: LoadedRun) -> AgentPolicy | MemoryPolicy:
    """The very policy that training evaluated."""
    policy = run.policy_for()
    assert isinstance(policy, AgentPolicy | MemoryPolicy)  # noqa: S101 (there is no third kind that adapts by context)
    return policy


def _versions() -> dict[str, str]:
    packages = {name: found for name in _PACKAGES if (found := installed_version(name)) is not None}
    return {"ccm": __version__, "python": platform.python_version(), **packages}


def _digest(data: bytes) -> FileDigest:
    return FileDigest(size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
