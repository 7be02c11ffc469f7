"""For tests of clients, environments and policies: a scripted agent, and a real server on a free port.

with serve(ScriptedPolicy()) as address:
    ...  # any client of ccm_runtime.v1
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ccm_runtime.belief import Array, Folded, Transitions
from ccm_runtime.bundle import Bundle, load_bundle
from ccm_runtime.config import ServerConfig
from ccm_runtime.errors import CcmError
from ccm_runtime.hosting import ServedAgent
from ccm_runtime.manifest import Adaptation, BeliefSpec, Manifest, ParityReport, Provenance, SafetyLimits
from ccm_runtime.policy import Policy
from ccm_runtime.specs import BoxSpec

START_LIMIT_S = 30.0


def box(name: str, size: int, bound: float | None = None) -> BoxSpec:
    """Return a spec of `size` entries without units, within plus or minus `bound`."""
    low = None if bound is None else -bound
    labels = tuple(f"{name}_{index}" for index in range(size))
    return BoxSpec(name=name, labels=labels, units=("1",) * size, low=(low,) * size, high=(bound,) * size)


@dataclass(frozen=True)
class ScriptedPolicy:
    """A small, deterministic agent in numpy whose belief is a product of Gaussians, as a trained one's is.

    The explorer runs from what it believes, the executor runs to it; noise adds a tenth. Actions lie in -1 to 1.

    Attributes:
        adaptation: How its trials run.
        size: Length of an observation, an action and a latent.
    """

    adaptation: Adaptation = field(default_factory=lambda: Adaptation(explore_episodes=2, episodes=4, horizon=5))
    size: int = 2

    @property
    def observation(self) -> BoxSpec:
        """What it sees: `size` unbounded entries."""
        return box("observation", self.size)

    @property
    def action(self) -> BoxSpec:
        """What it does: `size` entries in -1 to 1."""
        return box("action", self.size, bound=1.0)

    @property
    def belief(self) -> BeliefSpec:
        """What it remembers: a precision and a precision-weighted mean for each latent entry."""
        initial = (1.0,) * self.size + (0.0,) * self.size
        return BeliefSpec(
            kind="gaussian-product", additive=True, size=2 * self.size, latent_size=self.size, initial=initial
        )

    def explore(self, observation: Array, belief: Array, noise: Array) -> Array:
        """Run from what is believed, `[n, act]`."""
        mean = belief[:, self.size :] / belief[:, : self.size]
        action: Array = np.tanh(observation[:, : self.size] - mean + np.float32(0.1) * noise)
        return action

    def execute(self, observation: Array, latent: Array, noise: Array) -> Array:
        """Run to the latent, `[n, act]`."""
        action: Array = np.tanh(latent - observation[:, : self.size] + np.float32(0.1) * noise)
        return action

    def fold(self, belief: Array, transitions: Transitions) -> Folded:
        """Add one Gaussian for each transition."""
        before, after = transitions.observation[..., : self.size], transitions.next_observation[..., : self.size]
        with np.errstate(over="ignore"):  # of what overflows it is 1 too
            factor = np.tanh(after - np.float32(0.5) * before + transitions.action + transitions.reward)
        added = np.concatenate([np.full_like(factor, 0.5), np.float32(0.5) * factor], -1) * transitions.valid
        folded = belief + added.sum(1)
        precision, weighted = folded[:, : self.size], folded[:, self.size :]
        return Folded(folded, weighted / precision, 1.0 / np.sqrt(precision))


def manifest_of(policy: Policy, family: str = "scripted", safety: SafetyLimits | None = None) -> Manifest:
    """Return a manifest for a policy that comes from no training run."""
    provenance = Provenance(
        created_at="2026-01-01T00:00:00Z",
        method="scripted",
        seed=0,
        env_steps=0,
        updates=0,
        config_sha256="0" * 64,
        config={},
        versions={},
    )
    return Manifest(
        agent_id=f"{family}-0",
        family=family,
        observation=policy.observation,
        action=policy.action,
        belief=policy.belief,
        adaptation=policy.adaptation,
        safety=safety or SafetyLimits(),
        provenance=provenance,
        parity=ParityReport(tolerance=0.0, max_abs_difference={}, num_inputs={}),
        files={},
    )


def served(agent: "Policy | Bundle | Path | str | ServedAgent") -> ServedAgent:
    """Return what a server serves, of a policy, a bundle or a bundle's folder."""
    if isinstance(agent, ServedAgent):
        return agent
    if isinstance(agent, (Path, str)):
        agent = load_bundle(agent)
    if isinstance(agent, Bundle):
        from ccm_runtime.inference import OnnxPolicy  # noqa: PLC0415 (a scripted agent needs no onnxruntime)

        return ServedAgent(OnnxPolicy(agent), agent.manifest, agent.digest)
    return ServedAgent(agent, manifest_of(agent), "5c" * 32)


@asynccontextmanager
async def serving(
    agent: "Policy | Bundle | Path | str | ServedAgent", config: ServerConfig | None = None
) -> AsyncIterator[str]:
    """Serve an agent in the running event loop; yield its address, `host:port`."""
    from ccm_runtime.server import Server  # noqa: PLC0415 (needs the `serve` extra)

    settings = config or ServerConfig(port=0, log_level="warning")
    server = Server(served(agent), settings)
    await server.start()
    try:
        yield f"{settings.host}:{server.port}"
    finally:
        await server.stop()


@contextmanager
def serve(agent: "Policy | Bundle | Path | str | ServedAgent", config: ServerConfig | None = None) -> Iterator[str]:
    """Serve an agent from a thread of its own; yield its address, `host:port`.

    Args:
        agent: A policy, a bundle, a bundle's folder, or an agent with its manifest.
        config: Settings; the default listens on a free port of 127.0.0.1.
    """
    ready, stop = threading.Event(), threading.Event()
    outcome: list[str | BaseException] = []

    async def live() -> None:
        async with serving(agent, config) as address:
            outcome.append(address)
            ready.set()
            await asyncio.to_thread(stop.wait)

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:  # handed to the caller
            outcome.append(error)
            ready.set()

    thread = threading.Thread(target=run, name="ccm-serve", daemon=True)
    thread.start()
    try:
        if not ready.wait(START_LIMIT_S):
            raise CcmError(f"the server did not start within {START_LIMIT_S:g} s")
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        yield outcome[0]
    finally:
        stop.set()
        thread.join(START_LIMIT_S)
    if isinstance(outcome[-1], BaseException):
        raise outcome[-1]


__all__ = ["ScriptedPolicy", "box", "manifest_of", "serve", "served", "serving"]
