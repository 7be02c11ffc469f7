"""Which runs a figure needs, what a budget lets them spend, and what of it is missing."""

import re

import pytest
from kept import result, run_of

from ccm_runtime.commands.benchmark import jobs_of
from ccm_runtime.errors import ConfigError, RunError
from ccm_training.benchmark.budgets import BUDGETS, PAPER_STEPS
from ccm_training.benchmark.equal_steps import env_steps
from ccm_training.benchmark.plan import FIGURES, runs_of
from ccm_training.benchmark.result import has_result, path_of, read_result, rounded, write_result
from ccm_training.config import load_config
from ccm_training.envs.registry import get_family
from ccm_training.methods import METHODS, ON_POLICY_GROUPS


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("figure", FIGURES)
def test_every_run_of_a_figure_has_settings_of_its_own_family_method_and_seed(figure, budget):
    runs = runs_of(figure, budget)
    assert len({run.name for run in runs}) == len(runs)
    for run in runs[:: max(1, len(runs) // 12)]:
        assert (run.family, run.arm.method, run.seed) == (run.config.family, run.config.method, run.config.seed)
        assert {arm.name for arm in FIGURES[figure].arms} >= set(sum(FIGURES[figure].against, ()))


def test_the_point_robots_run_as_their_presets_say_at_budget_cpu():
    for family in ("sparse-point-robot", "hard-point-robot"):
        assert load_config(family.replace("-", "_")) == run_of("ccm", 0, family=family).config


def test_an_oracle_is_given_fewer_iterations_and_nobody_else():
    assert {"ccm": 640, "pearl": 640, "oracle": 120} == {
        arm: run_of(arm, 0).config.collect.iterations for arm in ("ccm", "pearl", "oracle")
    }


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("family", FIGURES["figure4"].families)
@pytest.mark.parametrize("arm", ["pearl", "maml", "promp"])
def test_every_method_is_given_the_same_environment_steps(budget, family, arm):
    steps = [env_steps(run_of(name, 0, family=family, budget=budget).config) for name in ("ccm", arm)]
    assert steps[0] == pytest.approx(steps[1], rel=0.02 if budget != "paper" else 0.07)


def test_env_steps_are_those_that_runs_counted():
    assert env_steps(run_of("ccm", 0).config) == 5_216_000  # as the kept results say
    assert env_steps(run_of("maml", 0).config) == 1 * 100 * 4 * 20 + 163 * 40 * 2 * 20 * 20


@pytest.mark.parametrize("family", PAPER_STEPS)
def test_budget_paper_spends_the_papers_environment_steps(family):
    figure = "figure4" if family in FIGURES["figure4"].families else "figure3"
    config = run_of("pearl", 0, family=family, figure=figure, budget="paper").config
    explore = get_family(family).explore_episodes
    trial = (explore + config.trial.execute_episodes) * get_family(family).horizon
    trials = config.collect.warmup_trials * config.tasks.num_train + config.collect.iterations * config.collect.tasks
    assert pytest.approx(PAPER_STEPS[family], rel=0.03) == trial * trials


def test_a_variant_sets_what_it_says_and_the_method_as_it_is_belongs_to_two_figures():
    runs = {run.arm.variant: run for run in runs_of("figure5", "cpu", families=["sparse-point-robot"], seeds=[3])}
    rewards = {variant: run.config.policy.exploration_reward.value for variant, run in runs.items()}
    assert {"": "telescoping", "paper": "paper", "positive-only": "positive-only", "no-gain": "telescoping"} == rewards
    assert runs["no-gain"].config.policy.information_weight == 0.0
    assert runs[""].name == "sparse-point-robot-ccm-3" == run_of("ccm", 3).name
    assert runs["paper"].name == "sparse-point-robot-ccm-paper-3"


@pytest.mark.parametrize("family", FIGURES["asymptotes"].families)
def test_methods_come_to_their_asymptote_at_three_times_the_steps(family):
    for run in runs_of("asymptotes", "cpu", families=[family], seeds=[0]):
        usual = run_of(run.arm.method, 0, family=family).config
        assert (3 if run.arm.variant else 1) * usual.collect.iterations == run.config.collect.iterations
        assert run.config == usual.model_copy(update={"collect": run.config.collect})


def test_runs_come_seed_by_seed_and_can_be_chosen():
    runs = runs_of("figure4", "cpu", families=["hard-point-robot"], methods=["ccm", "pearl"], seeds=[4, 7])
    assert [
        "hard-point-robot-ccm-4",
        "hard-point-robot-pearl-4",
        "hard-point-robot-ccm-7",
        "hard-point-robot-pearl-7",
    ] == [run.name for run in runs]


@pytest.mark.parametrize(
    ("chosen", "words"),
    [({"families": ["ant-mass"]}, "--families: figure4 has no 'ant-mass'"), ({"methods": ["rv"]}, "it has: ccm, ")],
)
def test_what_a_figure_does_not_have_is_refused_with_what_it_has(chosen, words):
    with pytest.raises(ConfigError, match=words):
        runs_of("figure4", "cpu", **chosen)


def test_a_run_is_trained_on_the_budgets_device_by_a_command_that_a_person_can_type():
    run = run_of("oracle", 1, budget="gpu")
    assert run.command("runs/x") == (
        "ccm train --config sparse_point_robot --method oracle --seed 1 --device cuda --run-dir runs/x "
        "--set collect.iterations=120"
    )
    assert "--device cpu" in run_of("random", 1, budget="gpu").command("runs/x")
    assert not METHODS["random"].learns
    assert "--device auto" in run_of("ccm", 1, budget="paper").command("runs/x")


@pytest.mark.parametrize(("gpu", "at_a_time"), [(True, [3, 8, 4]), (False, [3, 3, 3])])
def test_runs_are_as_many_at_a_time_as_a_gpu_or_else_the_cores_hold(monkeypatch, gpu, at_a_time):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    assert at_a_time == [jobs_of(budget) for budget in ("cpu", "gpu", "paper")]


def test_a_result_is_read_as_it_was_written(tmp_path):
    kept = result("ccm", 1, [0.5, 1.0])
    path = path_of(run_of("ccm", 1), tmp_path)
    write_result(kept, path)
    assert tmp_path / "runs" / "cpu" / "sparse-point-robot-ccm-1.json" == path
    assert kept == read_result(path)
    assert len(path.read_text().splitlines()) == len(type(kept).model_fields) + 2


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"format": 2}'])
def test_a_file_that_is_no_result_is_refused_by_name(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(RunError, match="not a result of `ccm benchmark`"):
        read_result(path)


def test_a_result_of_another_format_is_refused(tmp_path):
    write_result(result("ccm", 1, [0.5], format=9), tmp_path / "x.json")
    with pytest.raises(RunError, match="of format 9, expected 1"):
        read_result(tmp_path / "x.json")


def test_a_result_counts_if_its_settings_are_the_budgets_where_they_matter(tmp_path):
    run = run_of("ccm", 1)
    assert not has_result(run, tmp_path)
    config = run.config.model_copy(update={"checkpoint_every": 1, "threads": 2})
    write_result(result("ccm", 1, [0.5], config=config.model_dump(mode="json")), path_of(run, tmp_path))
    assert has_result(run, tmp_path)
    config = run.config.model_copy(update={"updates_per_iteration": 1})
    write_result(result("ccm", 1, [0.5], config=config.model_dump(mode="json")), path_of(run, tmp_path))
    with pytest.raises(RunError, match="updates_per_iteration was 1, is 30"):
        has_result(run, tmp_path)


def check_matters(folder, method, group, name, value, *, matters):
    """Keep a result of a method with another value of a setting: it counts, unless the setting matters to it."""
    run = run_of(method, 1)
    changed = getattr(run.config, group).model_copy(update={name: value})
    config = run.config.model_copy(update={group: changed})
    write_result(result(method, 1, [0.5], config=config.model_dump(mode="json")), path_of(run, folder))
    if matters:
        shown = list(value) if isinstance(value, tuple) else value
        with pytest.raises(RunError, match=re.escape(f"{group}.{name} was {shown}, is ")):
            has_result(run, folder)
    else:
        assert has_result(run, folder)


@pytest.mark.parametrize(
    ("method", "groups"),
    [("ccm", ()), ("rl2", ("on_policy",)), ("varibad", ("on_policy", "variational")), ("maml", ("gradient",))],
)
def test_settings_that_a_method_does_not_read_do_not_matter_to_its_result(tmp_path, method, groups):
    for group in ON_POLICY_GROUPS:
        name, value = next(iter(getattr(run_of(method, 1).config, group)))
        other = (7,) if isinstance(value, tuple) else value + 1
        check_matters(tmp_path, method, group, name, other, matters=group in groups)


@pytest.mark.parametrize(
    ("setting", "readers"),
    [
        ("policy.own_rows", {"ccm"}),
        ("policy.information_weight", {"ccm"}),
        ("encoder.value_weight", {"ccm", "pearl", "pearl-cl", "rl2"}),
        ("policy.discount", {"ccm", "pearl", "pearl-cl", "rl2", "oracle", "random"}),
    ],
)
def test_a_setting_matters_to_the_results_of_those_who_read_it(tmp_path, setting, readers):
    group, name = setting.split(".")
    for method in ("ccm", "pearl", "pearl-cl", "rl2", "oracle", "random"):
        check_matters(tmp_path, method, group, name, 0.123, matters=method in readers)


def test_numbers_are_kept_to_four_significant_digits():
    assert [[12350.0, 0.001235], [-1.0, 0.0]] == rounded([[12345.6, 0.00123456], [-1.00001, 0.0]])
