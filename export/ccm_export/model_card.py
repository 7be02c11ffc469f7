"""MODEL_CARD.md: what the agent is, what it was trained for and how well it did, for whoever finds the bundle."""

from ccm_runtime.manifest import Manifest
from ccm_runtime.specs import BoxSpec

_CARD = """\
# {manifest.agent_id}

An agent that adapts to one task of the family `{manifest.family}` at a time, trained by `{source.method}`.

## A trial

{plan.explore_episodes} episodes of exploration, then execution; at most {plan.horizon} steps an episode. Every
transition updates a belief about the task; no weight changes.{reward}

## What it sees and does

{observation}

{action}

## How well

{scores}

## Limits

Trained in simulation, on tasks of `{manifest.family}` alone. Where the server reports a novelty above 1, it sees
what about 97 % of trials on training tasks never show, and the figures above say nothing about it. Every action is
within the bounds above; whether that is safe is for the operator to judge.

As exported: {manifest.safety}.{unlimited}

## Origin

Seed {source.seed}, {source.env_steps:,} environment steps, {source.updates:,} updates; exported {source.created_at}.
onnxruntime and torch agree to {manifest.parity.tolerance:g}. Config SHA-256 `{source.config_sha256}`.

{versions}
"""


def model_card(manifest: Manifest) -> str:
    """Return the card's text; everything in it comes from the manifest."""
    versions = sorted(manifest.provenance.versions.items())
    return _CARD.format(
        manifest=manifest,
        plan=manifest.adaptation,
        source=manifest.provenance,
        reward=" The policies see the previous reward too." if manifest.adaptation.observe_reward else "",
        unlimited=" The figures above are without that limit." if manifest.safety.max_rate else "",
        observation=_table(manifest.observation),
        action=_table(manifest.action),
        scores=_scores(manifest),
        versions="Made with " + ", ".join(f"{name} {number}" for name, number in versions) + ".",
    )


def _table(spec: BoxSpec) -> str:
    lines = [f"| {spec.name} | unit | low | high |", "|---|---|---|---|"]
    for label, unit, low, high in zip(spec.labels, spec.units, spec.low, spec.high, strict=True):
        lines.append(f"| {label} | {unit} | {_bound(low)} | {_bound(high)} |")
    return "\n".join(lines)


def _bound(value: float | None) -> str:
    return "none" if value is None else f"{value:g}"


def _scores(manifest: Manifest) -> str:
    scores = manifest.provenance.scores or {}
    score, returns = scores.get("adaptation_score"), scores.get("returns")
    if not isinstance(returns, list):
        return "It was not evaluated before it was exported; `ccm evaluate` does so."
    curve = ", ".join(f"{value:.1f}" for value in returns)
    line = f"Mean return on held-out tasks, episode by episode: {curve}."
    if isinstance(score, float):
        line += f"\nAdaptation score (first execution episode over the ceiling): **{score:.3f}**."
    return line
