"""Recorded answers of every graph, kept in the manifest: any machine can see whether it computes the same."""

import numpy as np

from ccm_export.probes import Probe, Tensors, answer
from ccm_runtime.belief import Array, Transitions
from ccm_runtime.manifest import CONTEXT_ENCODER, EXECUTION_POLICY, EXPLORATION_POLICY, GoldenSample, RecordedTensor
from ccm_runtime.policy import Policy

ROWS, STEPS = 3, 3


def golden_samples(policy: Policy, probe: Probe) -> dict[str, GoldenSample]:
    """The first rows of `probe` and what `policy` answers, by graph."""
    few = _first(probe)
    answers = answer(policy, few)
    return {
        graph: GoldenSample(inputs=_stored(inputs), outputs=_stored(answers[graph]))
        for graph, inputs in _inputs(few).items()
    }


def golden_probe(samples: dict[str, GoldenSample]) -> tuple[Probe, dict[str, Tensors]]:
    """The stored inputs, and the answers that were recorded for them, by graph and output."""
    explorer, encoder = (_tensors(samples[graph].inputs) for graph in (EXPLORATION_POLICY, CONTEXT_ENCODER))
    probe = Probe(
        kind="recorded",
        observation=explorer["observation"],
        belief=encoder.pop("belief"),
        latent=_tensors(samples[EXECUTION_POLICY].inputs)["latent"],
        noise=explorer["noise"],
        transitions=Transitions(**encoder),
    )
    return probe, {graph: _tensors(sample.outputs) for graph, sample in samples.items()}


def _first(probe: Probe) -> Probe:
    steps = probe.transitions
    fields = (steps.observation, steps.action, steps.reward, steps.next_observation, steps.valid)
    return Probe(
        probe.kind,
        probe.observation[:ROWS],
        probe.belief[:ROWS],
        probe.latent[:ROWS],
        probe.noise[:ROWS],
        Transitions(*(field[:ROWS, :STEPS] for field in fields)),
    )


def _inputs(probe: Probe) -> dict[str, Tensors]:
    steps = probe.transitions
    seen = {"observation": probe.observation, "noise": probe.noise}
    return {
        EXPLORATION_POLICY: {**seen, "belief": probe.belief},
        CONTEXT_ENCODER: {
            "belief": probe.belief,
            "observation": steps.observation,
            "action": steps.action,
            "reward": steps.reward,
            "next_observation": steps.next_observation,
            "valid": steps.valid,
        },
        EXECUTION_POLICY: {**seen, "latent": probe.latent},
    }


def _stored(tensors: Tensors) -> dict[str, RecordedTensor]:
    """Shortest decimal numbers that read back as the same float32."""
    return {
        name: RecordedTensor(shape=array.shape, values=tuple(float(str(value)) for value in array.ravel()))
        for name, array in tensors.items()
    }


def _tensors(stored: dict[str, RecordedTensor]) -> Tensors:
    return {name: _array(tensor) for name, tensor in stored.items()}


def _array(stored: RecordedTensor) -> Array:
    return np.array(stored.values, np.float32).reshape(stored.shape)
