"""`ccm replay`: take a recorded session again, and say where its actions differ."""

import json
from dataclasses import asdict
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from ccm_runtime.bundle import Bundle, load_bundle
from ccm_runtime.embedded import embedded_bundle
from ccm_runtime.errors import ParityError
from ccm_runtime.hosting import ServedAgent
from ccm_runtime.inference import OnnxPolicy
from ccm_runtime.manifest import Manifest
from ccm_runtime.recording import Recording, read_recording
from ccm_runtime.replay import Comparison, compare
from ccm_runtime.specs import counted

_SHOWN = 12  # digits of a digest


def replay(path: Path, folder: Path | None, *, as_json: bool) -> None:
    """Replay a recording with a bundle and print how its actions differ.

    Raises:
        ParityError: It is the bundle that answered, and an action differs by more than rounding.
    """
    recording = read_recording(path)
    bundle = load_bundle(folder or embedded_bundle())
    agent = ServedAgent(OnnxPolicy(bundle), _under_limits(bundle, recording), bundle.digest)
    found = compare(recording, agent.adapter(), bundle.digest)
    if as_json:
        told = asdict(found) | {"equal": found.equal, "bundle": bundle.digest, "agent_id": bundle.manifest.agent_id}
        recorded = {"session_id": recording.session_id, "bundle": recording.bundle_digest, "damage": recording.damage}
        typer.echo(json.dumps(told | {"recorded": recorded | {"num_events": len(recording.steps)}}))
    else:
        _show(recording, found, f"{bundle.manifest.agent_id} ({bundle.digest[:_SHOWN]})")
    if found.same_bundle and not found.equal:
        raise ParityError(f"{path} does not come out again: {found.stopped or _where(found)}")


def _under_limits(bundle: Bundle, recording: Recording) -> Manifest:
    """Return the bundle's contract; if it is the one that answered, under the limits that the server held it to."""
    if recording.safety is None or recording.bundle_digest != bundle.digest:
        return bundle.manifest
    return bundle.manifest.model_copy(update={"safety": recording.safety})


def _show(recording: Recording, found: Comparison, agent: str) -> None:
    console = Console(highlight=False)
    recorded = f"{recording.agent_id} ({recording.bundle_digest[:_SHOWN]})"
    first, last = recording.first_sequence, recording.first_sequence + len(recording.steps) - 1
    console.print(f"session {recording.session_id}, events {first} to {last}, answered by {recorded}", soft_wrap=True)
    if recording.damage:
        console.print(f"damaged: {recording.damage}; what is before is replayed", soft_wrap=True)
    if not found.same_bundle:
        console.print(f"replayed with another bundle: {agent}", soft_wrap=True)
    if found.stopped:
        console.print(f"stopped: {found.stopped}", soft_wrap=True)
    table = Table("episode", "actions", "mean difference (share of the range)", box=None, pad_edge=False)
    for episode in found.episodes:
        table.add_row(str(episode.episode + 1), str(episode.num_actions), f"{episode.mean_difference:.2e}")
    if found.episodes and not found.bit_for_bit:
        console.print(table)
    console.print(_verdict(found), soft_wrap=True)


def _verdict(found: Comparison) -> str:
    actions = counted(found.num_actions, "action")
    if found.bit_for_bit:
        return f"equal: {actions}, bit for bit"
    if found.equal:
        return f"equal up to rounding: {actions}, largest difference {found.largest_difference:.1e}"
    return f"different: {found.stopped or _where(found)}"


def _where(found: Comparison) -> str:
    return (
        f"event {found.first_difference} is the first whose action differs; the largest difference is "
        f"{found.largest_difference:.3g} of the action's range"
    )
