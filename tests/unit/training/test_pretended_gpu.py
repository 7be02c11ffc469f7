"""Training on a GPU, as far as it can be known without one: where tensors are, and what a captured update repeats."""

from contextlib import nullcontext

import pytest
import torch
from pretended_gpu import PretendedGpuError, pretended_gpu
from safetensors.torch import load_file
from tiny_run import short_config

from ccm_runtime.errors import DivergenceError
from ccm_training.capture import Step
from ccm_training.methods import METHODS
from ccm_training.train import train, train_seeds

# Updates are captured in the first iteration, and replayed in the next: after a collection, at other learning rates.
LITTLE = {
    "updates_per_iteration": 5,
    "encoder": {"pretrain_updates": 5},
    "trial": {"explore_episodes": 1, "execute_episodes": 1},
    "decay_from": 0.0,
}


@pytest.fixture
def gpu():
    with pretended_gpu():
        yield torch.device("cuda")


@pytest.fixture
def stream(gpu):
    return torch.Generator(gpu).manual_seed(0)


def trained(run_dir, device, config, seeds=None, **options):
    """Train, and return what learning has changed, by run and name."""
    with pretended_gpu() if device == "cuda" else nullcontext():
        if seeds is None:
            train(config, run_dir, device=device, progress=False, **options)
        else:
            train_seeds(config, seeds, run_dir, device=device, progress=False, **options)
    newest = {path.parents[2].name: path for path in sorted(run_dir.rglob("tensors.safetensors"))}
    found = {run: load_file(path) for run, path in newest.items()}
    return {
        f"{run}.{name}": value
        for run, tensors in found.items()
        for name, value in tensors.items()
        if name.startswith(("agent.", "replay."))
    }


@pytest.mark.parametrize("method", sorted(METHODS.keys() - {"pearl-cl", "pearl-dp", "random"}))  # parts of others
def test_every_method_learns_on_a_gpu_what_it_learns_on_a_cpu(method, tmp_path):
    config = short_config(method, **LITTLE)
    on_cpu, on_gpu = (trained(tmp_path / device / "run", device, config) for device in ("cpu", "cuda"))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)


def test_seeds_that_are_captured_together_learn_what_they_learn_alone(tmp_path):
    config = short_config("ccm", **LITTLE)
    together = trained(tmp_path / "together", "cuda", config, seeds=[0, 3])
    alone = trained(tmp_path / "alone", "cpu", config, seeds=[0, 3])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_simulations_that_live_on_the_cpu_teach_an_agent_on_a_gpu(tmp_path):
    config = short_config("ccm", **LITTLE, family="cheetah-sparse")
    on_cpu, on_gpu = (trained(tmp_path / device / "run", device, config) for device in ("cpu", "cuda"))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes", [{}, {"trial": LITTLE["trial"] | {"certain_at": 0.05}}], ids=["whole", "stops early"]
)
def test_trials_that_are_captured_go_as_they_go_on_a_cpu(changes, tmp_path):
    collections = {"updates_per_iteration": 1, "collect": {"iterations": 6, "capacity": 8, "tasks": 3}}  # 3 warm up
    config = short_config("ccm", **(LITTLE | collections | changes), family="sparse-point-robot")
    on_cpu, on_gpu = (trained(tmp_path / device, device, config, seeds=[0, 3]) for device in ("cpu", "cuda"))
    torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("method", ["ccm", "rl2"])
@pytest.mark.parametrize(("first", "second"), [("cuda", "cpu"), ("cpu", "cuda")])
def test_a_run_may_go_on_on_another_kind_of_device_and_says_what_that_means(first, second, method, tmp_path):
    shorter, whole = (short_config(method, collect={"iterations": num}, **LITTLE) for num in (2, 4))
    trained(tmp_path / "run", first, shorter)
    with pytest.warns(UserWarning, match=f"another kind of device.* of {second}: the run goes on"):
        trained(tmp_path / "run", second, whole, resume=True)


def test_a_run_goes_on_on_the_same_gpu_as_if_it_had_never_stopped(tmp_path):
    shorter, whole = (
        short_config("ccm", collect={"iterations": num}, **(LITTLE | {"decay_from": 1.0})) for num in (2, 4)
    )
    unbroken = trained(tmp_path / "unbroken" / "run", "cuda", whole)
    trained(tmp_path / "broken" / "run", "cuda", shorter)
    resumed = trained(tmp_path / "broken" / "run", "cuda", whole, resume=True)
    torch.testing.assert_close(resumed, unbroken, rtol=0.0, atol=0.0)


def test_what_diverges_on_a_gpu_is_dumped_there_too(tmp_path):
    config = short_config("ccm", **LITTLE, policy={"learning_rate": 1e30})
    with pytest.raises(DivergenceError, match="stopped being finite; its batch is in"):
        trained(tmp_path / "run", "cuda", config)


def test_a_replay_does_again_what_was_captured_with_what_is_there_then(gpu, stream):
    total, by = torch.zeros(2, device=gpu), torch.tensor(1.0, device=gpu)

    def step():
        total.add_(torch.rand(2, generator=stream, device=gpu) * by)
        return {"total": total.sum()}

    plain = torch.Generator().manual_seed(0)
    captured, expected = Step(step, streams=[stream], device=gpu), torch.zeros(2)
    for number in range(6):
        by.fill_(float(number))
        expected += torch.rand(2, generator=plain) * number
        assert float(captured()["total"]) == pytest.approx(float(expected.sum()))


def test_what_a_step_returned_is_not_overwritten_by_the_next(gpu):
    total = torch.zeros((), device=gpu)
    step = Step(lambda: {"total": total.add_(1.0)}, streams=[], device=gpu)
    assert [float(metrics["total"]) for metrics in [step() for _ in range(6)][3:]] == [4.0, 5.0, 6.0]


def test_a_number_of_python_is_frozen_by_a_capture(gpu):
    total, by = torch.zeros((), device=gpu), [1.0]
    step = Step(lambda: {"total": total.add_(by[0])}, streams=[], device=gpu)
    for _ in range(4):
        step()
    by[0] = 100.0
    assert float(step()["total"]) == 5.0


HERE = torch.ones(2)
REFUSED = {
    "of the host among those of the GPU": [
        lambda there: there + HERE,
        lambda there: there.index_select(0, HERE.long()),
        lambda there: torch.nn.functional.linear(there, HERE[None]),
    ],
    "copy it to the host first": [lambda there: there.numpy()],
    "on two devices": [lambda there: torch.rand(2, generator=torch.Generator(), device=there.device)],
}
REFUSED_IN_A_CAPTURE = {
    "waits for the GPU": [lambda there: there * float(there[0]), lambda there: there[there > 0]],
    "copied to the GPU while": [lambda there: there + HERE.to(there.device)],
    "read while a graph is captured": [lambda there: there.cpu()],
    "between host and GPU": [lambda there: there.copy_(HERE)],
}


def cases(refused):
    return pytest.mark.parametrize(
        ("fault", "message"), [(f, text) for text, faults in refused.items() for f in faults]
    )


@cases(REFUSED)
def test_what_a_gpu_refuses_is_refused(gpu, fault, message):
    with pytest.raises(PretendedGpuError, match=message):
        fault(torch.ones(2, device=gpu))


@cases(REFUSED_IN_A_CAPTURE)
def test_what_a_capture_refuses_is_refused(gpu, fault, message):
    there = torch.ones(2, device=gpu)
    step = Step(lambda: {"value": fault(there).sum()}, streams=[], device=gpu)
    for _ in range(3):
        step()  # outside of a capture all of this may be done
    with pytest.raises(PretendedGpuError, match=message):
        step()


def test_a_capture_refuses_a_random_stream_that_it_was_not_told_of(gpu, stream):
    step = Step(lambda: {"value": torch.rand((), generator=stream, device=gpu)}, streams=[], device=gpu)
    for _ in range(3):
        step()
    with pytest.raises(PretendedGpuError, match="not registered"):
        step()


def test_the_gpu_is_gone_afterwards():
    with pretended_gpu():
        left = torch.ones(2, device="cuda")
    with pytest.raises(PretendedGpuError, match="outlived"):
        left + 1
    assert torch.Generator().device.type == "cpu"
