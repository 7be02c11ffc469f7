"""Check a bundle on this machine: its digests, its graphs, and the laws that every agent must obey. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ccm_export.golden import golden_probe
from ccm_export.probes import Probe, answer, initial_beliefs, made_up
from ccm_runtime.belief import Array, Folded, Transitions
from ccm_runtime.bundle import Bundle, load_bundle
from ccm_runtime.errors import BundleSchemaError, ParityError
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY, GRAPHS
from ccm_runtime.policy import Policy

LAW_TOLERANCE = 1e-4
GOLDEN_TOLERANCE = 1e-4
SCALES = (0.0, 1.0, 1e3, 1e6)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was checked and held.

    Attributes:
        checks: Name of each check, and what it looked at.
    """

    checks: dict[str, str]

    def __str__(self) -> str:
        """One line a check."""
        width = max(map(len, self.checks))
        return "\n".join(f"  {name:<{width}}  {detail}" for name, detail in self.checks.items())


def verify_bundle(path: Path | str) -> VerifyReport:
    """Check everything that can be known of a bundle without the run that made it.

    Raises:
        BundleMissingError: No bundle is there.
        BundleCorruptError: A file is not the one that the manifest describes.
        BundleSchemaError: The manifest, a graph or what a graph computes breaks a rule.
        ParityError: The graphs answer otherwise here than where they were exported.
    """
    bundle = load_bundle(path)
    policy = OnnxPolicy(bundle)
    size = sum(file.size_bytes for file in bundle.manifest.files.values())
    checks = {
        "digests": f"{len(bundle.manifest.files)} files, {size:,} bytes, as the manifest lists them",
        "signatures": f"{len(bundle.graphs)} graphs take and answer what the manifest says",
    }
    for check in _CHECKS:
        checks[check.__name__.removeprefix("_").replace("_", " ")] = check(policy)
    checks["limits"] = str(bundle.manifest.safety)
    checks["golden answers"] = _golden(policy, bundle)
    return VerifyReport(checks)


def _sane_answers(policy: Policy) -> str:
    """Finite everywhere, actions within their bounds, deviations not negative, on ordinary and absurd inputs."""
    for scale in SCALES:
        answers = answer(policy, made_up(policy, "extreme", scale=scale, rng=np.random.default_rng(1)))
        for graph in GRAPHS:
            for name, values in answers[graph].items():
                _demand(np.isfinite(values), f"{graph}: {name} is not finite on inputs of size {scale:g}")
        for graph in (EXPLORATION_POLICY, EXECUTION_POLICY):
            action = answers[graph]["action"]
            inside = (action >= policy.action.low_array) & (action <= policy.action.high_array)
            _demand(inside, f"{graph}: an action leaves its bounds on inputs of size {scale:g}")
        deviations = answers[CONTEXT_ENCODER]["latent_std"]
        _demand(deviations >= 0.0, f"{CONTEXT_ENCODER}: latent_std is negative on inputs of size {scale:g}")
    sizes = ", ".join(f"{scale:g}" for scale in SCALES)
    return f"finite, actions within bounds, deviations not negative, on inputs of size {sizes}"


def _independent_rows(policy: Policy) -> str:
    """A row's answer does not depend on the others of its batch: sessions share batches."""
    probe = _ordinary(policy)
    together = answer(policy, probe)
    alone = [answer(policy, _row(probe, index)) for index in range(len(probe.observation))]
    for graph, outputs in together.items():
        for name, values in outputs.items():
            single = np.concatenate([one[graph][name] for one in alone])
            _demand(_close(values, single), f"{graph}: {name} of one row depends on the others of its batch")
    return f"batches of {len(probe.observation)} and of 1 agree"


def _fold_in_chunks(policy: Policy) -> str:
    """Folding one transition after the other gives what folding all at once gives."""
    probe = _ordinary(policy)
    steps = probe.transitions
    whole = policy.fold(probe.belief, steps)
    belief = probe.belief
    length = steps.valid.shape[1]
    for index in range(length):
        part = policy.fold(belief, _steps(steps, slice(index, index + 1)))
        belief = part.belief
    _demand(_same(whole, part), "context_encoder.onnx: the belief depends on how its transitions are cut into chunks")
    return f"{length} transitions at once and one by one give one belief"


def _padding(policy: Policy) -> str:
    """Rows that are not valid change nothing, whatever is in them."""
    probe = _ordinary(policy)
    blank = replace(probe.transitions, valid=np.zeros_like(probe.transitions.valid))
    unchanged = policy.fold(probe.belief, blank).belief
    _demand(_close(unchanged, probe.belief), "context_encoder.onnx: padding changes the belief")
    return "rows that are not valid change nothing"


def _any_order(policy: Policy) -> str:
    """An additive belief does not know the order of its transitions, and two of them add up."""
    if not policy.belief.additive:
        return "not claimed (the belief is not additive)"
    probe = _ordinary(policy)
    steps = probe.transitions
    start = initial_beliefs(policy, len(probe.belief))
    forth = policy.fold(start, steps)
    back = policy.fold(start, _steps(steps, slice(None, None, -1)))
    _demand(_same(forth, back), "context_encoder.onnx: the belief depends on the order, though it is called additive")
    both = policy.fold(probe.belief, steps).belief
    added = probe.belief + forth.belief - start
    _demand(_close(both, added), "context_encoder.onnx: beliefs do not add up, though they are called additive")
    return "transitions forth and back give one belief, and beliefs add up"


def _golden(policy: Policy, bundle: Bundle) -> str:
    """The answers that were recorded at export come out again here."""
    samples = bundle.manifest.golden
    if not samples:
        return "none stored"
    if set(samples) != set(GRAPHS):
        raise BundleSchemaError(f"manifest.json holds golden answers of {sorted(samples)}, expected {sorted(GRAPHS)}")
    try:
        probe, recorded = golden_probe(samples)
        answers = answer(policy, probe)
    except Exception as error:
        raise BundleSchemaError(f"manifest.json: the golden inputs do not fit the graphs: {error}") from error
    worst = 0.0
    for graph, outputs in recorded.items():
        for name, wanted in outputs.items():
            found = answers[graph][name]
            difference = float(np.abs(found - wanted).max())
            worst = max(worst, difference)
            if not bool(np.all(_close(found, wanted, GOLDEN_TOLERANCE))):
                raise ParityError(
                    f"{graph}: {name} differs by {difference:.1e} from what it was at export; this machine's "
                    "onnxruntime computes something else: do not serve this bundle with it"
                )
    return f"as recorded at export, to {worst:.1e}"


_CHECKS: tuple[Callable[[Policy], str], ...] = (
    _sane_answers,
    _independent_rows,
    _fold_in_chunks,
    _padding,
    _any_order,
)


def _ordinary(policy: Policy) -> Probe:
    return made_up(policy, "random", scale=1.0, rng=np.random.default_rng(2), num=16, steps=6)


def _row(probe: Probe, index: int) -> Probe:
    at = slice(index, index + 1)
    return Probe(
        probe.kind,
        probe.observation[at],
        probe.belief[at],
        probe.latent[at],
        probe.noise[at],
        Transitions(*(getattr(probe.transitions, field.name)[at] for field in fields(Transitions))),
    )


def _steps(transitions: Transitions, at: slice) -> Transitions:
    # Contiguous: not every runtime takes reversed views.
    return Transitions(
        *(np.ascontiguousarray(getattr(transitions, field.name)[:, at]) for field in fields(Transitions))
    )


def _same(first: Folded, second: Folded) -> NDArray[np.bool_]:
    parts = [
        _close(first.belief, second.belief),
        _close(first.latent_mean, second.latent_mean),
        _close(first.latent_std, second.latent_std),
    ]
    return np.concatenate(parts, 1)


def _close(first: Array, second: Array, tolerance: float = LAW_TOLERANCE) -> NDArray[np.bool_]:
    """Where two arrays agree, relative to the largest entry of the row."""
    rows = np.maximum(np.abs(first), np.abs(second)).max(-1, keepdims=True)
    close: NDArray[np.bool_] = np.abs(first - second) <= tolerance * (1.0 + rows)
    return close


def _demand(holds: NDArray[np.bool_], otherwise: str) -> None:
    if not bool(np.all(holds)):
        raise BundleSchemaError(otherwise)
