"""The arithmetic of `ccm bench serve`, and its client against real servers."""

import json
import math

import grpc
import pytest
from command import ccm

from ccm_runtime.commands.bench import QUICK, Plan, plan_of
from ccm_runtime.commands.bench_load import Trial, load
from ccm_runtime.commands.bench_results import EMPTY_STREAM, STEP_STREAM, Case, Sample, sample, targets, where
from ccm_runtime.commands.bench_wire import Wire
from ccm_runtime.errors import ConfigError, ServerError
from ccm_runtime.testing import ScriptedPolicy, serve
from ccm_runtime.v1 import adaptation_pb2 as pb
from ccm_runtime.v1.adaptation_pb2_grpc import AdaptationStub

DESCRIBE = "/ccm_runtime.v1.Adaptation/DescribeAgent"


def of(p50_us, p99_us=400.0, per_s=1000.0):
    return Sample(p50_us, p99_us, per_s, cpu_us=10.0)


def test_a_sample_tells_quantiles_rate_and_processor_time():
    found = sample([0.001] * 98 + [0.1, 0.1], seconds=0.5, cpu_s=0.01)
    assert (1000.0, 200.0, pytest.approx(100.0)) == (pytest.approx(found.p50_us), found.per_s, found.cpu_us)
    assert found.p99_us > 50_000
    assert math.isnan(sample([0.001], 1.0, None).cpu_us)


def test_ratios_are_of_the_same_round_and_judged_by_their_median():
    rounds = {
        Case(STEP_STREAM, 1): [of(100.0), of(900.0), of(300.0)],
        Case(EMPTY_STREAM, 1): [of(100.0), of(300.0), of(100.0)],
        Case(STEP_STREAM, 64): [of(100.0, per_s=800.0)] * 3,
        Case(EMPTY_STREAM, 64): [of(100.0, per_s=1000.0)] * 3,
    }
    p50, both, rate, tail = targets(rounds, {1: [100.0, 0.0, 50.0]})
    assert ((3.0, 1.0, 3.0), False) == (p50.found, p50.met)
    assert (2.0, 0.5, 3.0) == both.found
    assert (0.8, True) == (rate.found.median, rate.met)
    assert (4.0, False) == (tail.found.median, tail.met)


def test_targets_for_what_was_not_measured_are_left_out():
    assert [] == targets({Case(STEP_STREAM, 4): [of(1.0)], Case(EMPTY_STREAM, 4): [of(1.0)]}, {})


def test_the_parts_of_a_step_add_up_to_it():
    rounds = {Case(STEP_STREAM, 1): [of(500.0)], Case(EMPTY_STREAM, 1): [of(100.0)]}
    parts = where(rounds, {1: [(0.25, 0.125)]})[1]
    whole = parts.pop("step")
    assert 500.0 == whole == sum(parts.values())
    assert 125.0 == parts["networks, novelty, guard"]


def test_every_second_round_runs_backwards():
    plan = Plan(clients=(1, 2))
    assert plan.cases(0) == plan.cases(1)[::-1] == plan.cases(2)


def test_numbers_of_clients_are_checked():
    assert (1, 8) == plan_of("1, 8", 2, 0.1).clients
    for wrong in ("", "0", "a", "1,,2"):
        with pytest.raises(ConfigError, match="numbers from 1 on"):
            plan_of(wrong, 2, 0.1)


@pytest.mark.parametrize("stream", [True, False])
def test_its_client_says_what_a_real_client_says(stream):
    timings = []
    with serve(ScriptedPolicy()) as address:
        scripts = [Trial([0.5, 0.5], stream, timings) for _ in range(3)]
        measured = load(lambda: Wire(address, stream=stream), scripts, warm_s=0.0, seconds=0.05)
        wire = Wire(address, stream=False)
        described = [wire.exchange(DESCRIBE, b"") for _ in range(2)]
        wire.close()
        with grpc.insecure_channel(address) as channel:
            real = AdaptationStub(channel).DescribeAgent(pb.DescribeAgentRequest(), timeout=20.0)
    assert len(measured.latencies_s) <= len(timings)
    assert 0.05 <= measured.seconds
    assert [real, real] == [pb.DescribeAgentResponse.FromString(message) for message in described]


def test_a_refused_call_ends_the_benchmark():
    with serve(ScriptedPolicy()) as address:
        wire = Wire(address, stream=False)
        with pytest.raises(ServerError, match="refused"):
            wire.exchange("/ccm_runtime.v1.Adaptation/Nothing", b"")
        wire.close()


def test_the_command_measures_a_server_against_its_floor(tiny_bundle):
    finished = ccm("bench", "serve", tiny_bundle, "--quick", "--json")
    assert 0 == finished.returncode, finished.stderr
    found = json.loads(finished.stdout)
    kinds = {"empty stream", "empty unary", "networks stream", "step stream", "step unary", "durable stream"}
    assert kinds == set(found["cases"])
    assert {str(clients) for clients in QUICK.clients} == set(found["cases"]["step stream"])
    assert 0 < found["cases"]["step stream"]["1"]["p50_us"]["median"]
    wanted = ["p50 over the empty stream call's", "p50 over empty call + onnxruntime", "durable steps/s over steps/s"]
    assert wanted == [target["name"] for target in found["targets"]]
