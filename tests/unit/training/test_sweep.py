"""A sweep is every choice, once, each an ordinary run; what dies, fails or stops in it ends no other."""

import signal
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml
from tiny_run import short_config

from ccm_runtime.commands.sweep import _Watch, sweep
from ccm_runtime.errors import ConfigError, FamilyUnknownError, ServerUnreachableError
from ccm_training import cohort_folder, ray_sweep
from ccm_training.checkpoint import parameter_hash
from ccm_training.ray_sweep import Cluster, RunStoppedError, run_sweep, train_one
from ccm_training.run_folder import summarize
from ccm_training.standing import OVER_SEEDS, OVER_SEEDS_AND_TASKS
from ccm_training.sweep import Outcome, Planned, plan_sweep, show_as_markdown, table_of_sweep
from ccm_training.train import train


@pytest.fixture
def preset(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(short_config().model_dump(mode="json")))
    return str(path)


def names(planned):
    return [one.name for one in planned]


def test_a_sweep_is_every_config_with_every_value_and_every_seed():
    planned = plan_sweep(
        ["quickstart", "sparse_point_robot"], ["policy.discount=0.9,0.95", "collect.iterations=7"], (0, 3)
    )
    assert names(planned) == [
        f"{config},policy.discount={discount},seed={seed}"
        for config in ("quickstart", "sparse_point_robot")
        for discount in (0.9, 0.95)
        for seed in (0, 3)
    ]
    assert {one.config.collect.iterations for one in planned} == {7}
    last = planned[-1].config
    assert (last.family, last.policy.discount, last.seed) == ("sparse-point-robot", 0.95, 3)
    assert planned[-1].varied == {"config": "sparse_point_robot", "policy.discount": 0.95}


def test_values_are_written_as_yaml_and_named_as_words(preset):
    planned = plan_sweep([preset], ["networks.hidden=[8,8],[16]", "method=ccm,pearl"], (0,))
    assert [(one.config.networks.hidden, one.config.method) for one in planned] == [
        ((8, 8), "ccm"),
        ((8, 8), "pearl"),
        ((16,), "ccm"),
        ((16,), "pearl"),
    ]
    assert names(planned)[0] == "tiny,networks.hidden=8x8,method=ccm,seed=0"


def test_a_method_lays_its_own_settings_over_the_preset_s(preset):
    pearl = plan_sweep([preset], ["method=ccm,pearl"], (0,))[1].config
    assert pearl.encoder.contrastive_weight == 0.0


def test_a_name_does_not_change_as_the_sweep_grows_or_its_runs_become_longer(preset):
    few = names(plan_sweep([preset], ["policy.discount=0.9,0.95", "collect.iterations=2"], (0,)))
    many = names(plan_sweep([preset], ["policy.discount=0.8,0.9,0.95", "collect.iterations=9"], (0, 1)))
    assert set(few) < set(many)


def test_names_that_do_not_fit_a_folder_are_made_to_and_stay_apart(preset):
    families = "family=sparse-point-robot,hard-point-robot"
    weights = f"encoder.learning_rate={','.join(f'0.{number:0200d}1' for number in range(1, 4))}"
    planned = plan_sweep([preset], [families, weights], (0,))
    assert len(set(names(planned))) == 6
    assert all(len(name) < 200 and "/" not in name for name in names(planned))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["policy.discount"], "expected key=value"),
        (["policy.discount="], "expected key=value"),
        (["policy.discount=[0.9"], "expected key=value"),
        (["policy.discout=0.9,0.95"], "did you mean 'policy.discount'"),
        (["policy.discount=0.9,2"], r"policy\.discount: .* got 2"),
        (["policy.discount=0.9,0.9"], "two runs of the sweep would be"),
        (["policy.discount=0.9", "policy.discount=0.95"], "is there 2 times"),
        (["seed=0,1"], "by --seeds"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_runs(preset, settings, words):
    with pytest.raises(ConfigError, match=words):
        plan_sweep([preset], settings, (0,))


def test_a_family_that_there_is_not_is_refused_before_anything_runs(preset):
    with pytest.raises(FamilyUnknownError, match="sparse-point-robot"):
        plan_sweep([preset], ["family=sparse-point-robt"], (0,))


PLANNED = [
    Planned(f"tiny,policy.discount={discount},seed={seed}", {"policy.discount": discount}, short_config(seed=seed))
    for discount in (0.9, 0.95)
    for seed in (0, 1)
]
ENDED = {
    PLANNED[0].name: Outcome("finished", 0.5, 1000, 1.5, "aa"),
    PLANNED[1].name: Outcome("finished", 0.7, 1000, 2.5, "bb"),
    PLANNED[2].name: Outcome("finished", 0.9, 1000, 1.0, "cc"),
    PLANNED[3].name: Outcome("failed", error="a loss stopped being finite", exit_code=8),
}


def test_runs_that_differ_by_the_seed_alone_are_put_together(tmp_path):
    table = table_of_sweep(PLANNED, ENDED, tmp_path)
    first, second = table["over_seeds"]
    assert (first["settings"], first["seeds"], first["finished"]) == ({"policy.discount": 0.9}, [0, 1], 2)
    assert first["score"] == pytest.approx(0.6)
    assert first["interval"] == pytest.approx([0.5, 0.7])
    assert first["minutes"] == 4.0
    assert (second["finished"], second["score"], second["interval"]) == (1, 0.9, None)


def test_seeds_and_tasks_are_drawn_where_every_run_that_finished_keeps_its_tasks_scores(tmp_path):
    ended = {name: replace(one, task_scores=(one.score,) * 2 if one.score else ()) for name, one in ENDED.items()}
    table = table_of_sweep(PLANNED, ended, tmp_path)
    first, second = table["over_seeds"]
    assert ("seeds and tasks", "tasks") == (first["over"], second["over"])
    assert (pytest.approx(0.6), [0.9, 0.9]) == (first["mean"], second["interval"])
    assert all("task_scores" not in run for run in table["runs"])  # which are in the runs' own folders
    lines = show_as_markdown(table).splitlines()
    assert "| policy.discount | seeds | mean | score (IQM) | 95 % over seeds and tasks | minutes |" == lines[0]
    assert "| 0.95 | 1 of 2 | 0.900 | 0.900 | 0.900 to 0.900 (tasks alone) | 1.0 |" == lines[3]
    assert OVER_SEEDS_AND_TASKS in lines


def test_a_table_tells_of_runs_that_failed_and_of_those_that_wait(tmp_path):
    del (ended := dict(ENDED))[PLANNED[0].name]
    runs = table_of_sweep(PLANNED, ended, tmp_path)["runs"]
    assert [run["state"] for run in runs] == ["waiting", "finished", "finished", "failed"]
    assert (runs[3]["error"], runs[3]["exit_code"]) == ("a loss stopped being finite", 8)
    assert runs[3]["run_dir"] == str(tmp_path / PLANNED[3].name)


def test_tables_are_markdown(tmp_path):
    lines = show_as_markdown(table_of_sweep(PLANNED, ENDED, tmp_path)).splitlines()
    assert lines[:3] == [
        "| policy.discount | seeds | score (IQM) | 95 % over seeds | minutes |",
        "| --- | --- | --- | --- | --- |",
        "| 0.9 | 2 of 2 | 0.600 | 0.500 to 0.700 | 4.0 |",
    ]
    assert OVER_SEEDS in lines  # which says what was not resampled
    assert "| 0.95 | 1 | failed | - | 0 | 0.0 |" in lines


def test_a_run_that_was_stopped_on_its_worker_goes_on_to_what_an_undisturbed_run_gives(tmp_path, monkeypatch):
    undisturbed = train_one(short_config(), tmp_path / "undisturbed", "cpu")
    assert (undisturbed.state, undisturbed.parameters) == ("finished", parameter_hash(tmp_path / "undisturbed"))
    save = cohort_folder.save_checkpoint
    with monkeypatch.context() as patch:
        patch.setattr(
            cohort_folder, "save_checkpoint", lambda *run: (save(*run), signal.raise_signal(signal.SIGTERM))[0]
        )
        with pytest.raises(RunStoppedError):
            train_one(short_config(), tmp_path / "stopped", "cpu")
    went_on = train_one(short_config(), tmp_path / "stopped", "cpu")
    assert (undisturbed.parameters, undisturbed.score) == (went_on.parameters, went_on.score)


def test_a_run_that_came_to_its_end_is_not_done_again_unless_it_is_made_longer(tmp_path, monkeypatch):
    first = train_one(short_config(), tmp_path, "cpu")
    again = []
    monkeypatch.setattr(ray_sweep, "train", lambda config, *_, **__: again.append(config))
    assert first == train_one(short_config(), tmp_path, "cpu")
    assert again == []
    train_one(short_config(collect={"iterations": 3}), tmp_path, "cpu")
    assert len(again) == 1


def test_a_finished_run_that_is_older_than_a_setting_is_not_done_again(tmp_path, monkeypatch):
    first = train_one(short_config(), tmp_path, "cpu")
    before = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del before["collect"]["simulation_limit_s"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(before))
    monkeypatch.setattr(ray_sweep, "train", lambda *_, **__: pytest.fail("it is trained again"))
    assert first == train_one(short_config(), tmp_path, "cpu")


@pytest.mark.parametrize(
    ("raised", "exit_code", "words"),
    [(ConfigError("no such thing"), 2, "no such thing"), (ZeroDivisionError("by zero"), 1, "unexpected ZeroDivision")],
)
def test_a_run_that_fails_says_why_and_ends_nothing_else(tmp_path, monkeypatch, raised, exit_code, words):
    def fail(*_, **how):
        raise raised

    monkeypatch.setattr(ray_sweep, "train", fail)
    outcome = train_one(short_config(), tmp_path, "cpu")
    assert (outcome.state, outcome.exit_code) == ("failed", exit_code)
    assert words in outcome.error


def test_a_cluster_that_does_not_answer_is_said_not_to(tmp_path):
    pytest.importorskip("ray")
    with pytest.raises(ServerUnreachableError, match=r"no Ray cluster at '127\.0\.0\.1:1' .*ray start --head"):
        run_sweep(PLANNED, tmp_path, Cluster("127.0.0.1:1"), lambda *_: None)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:redis", "ray://127.0.0.1:65536"])
def test_what_is_no_address_of_a_cluster_is_refused(tmp_path, address):
    pytest.importorskip("ray")
    with pytest.raises(ConfigError, match=f"--address {address}: expected local, auto, HOST:PORT"):
        run_sweep(PLANNED, tmp_path, Cluster(address), lambda *_: None)


class Ray:
    """Stands in for Ray: begins what it is asked for, and ends the first of it whenever somebody waits."""

    exceptions = SimpleNamespace(TaskCancelledError=InterruptedError, RayError=ConnectionResetError)

    def __init__(self, end) -> None:
        self._end, self.begun, self.cancelled, self.most, self.now = end, [], [], 0, 0

    def remote(self, **how):
        return lambda _: SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._begin))

    def _begin(self, config, run_dir, device, wandb):
        self.begun.append(run_dir.name)
        self.now += 1
        self.most = max(self.most, self.now)
        return run_dir.name

    def wait(self, references, timeout):
        return references[:1], references[1:]

    def get(self, name):
        self.now -= 1
        if name in self.cancelled:
            raise InterruptedError
        return self._end(name)

    def cancel(self, name):
        self.cancelled.append(name)


def sweep_with(monkeypatch, tmp_path, end, watch=lambda *_: None):
    ray = Ray(end)
    monkeypatch.setattr(ray_sweep, "_connected", lambda *_: nullcontext(ray))
    return ray, *run_sweep(PLANNED, tmp_path, Cluster(workers=2), watch)


def test_no_more_runs_than_asked_are_under_way_and_each_is_done_once(tmp_path, monkeypatch):
    ray, ended, stopped_by = sweep_with(monkeypatch, tmp_path, lambda name: ENDED[name])
    assert (ray.most, ray.begun, stopped_by) == (2, names(PLANNED), None)
    assert ended == ENDED


def test_a_worker_that_dies_every_time_is_a_failed_run_and_ends_no_other(tmp_path, monkeypatch):
    def end(name):
        if name == PLANNED[1].name:
            raise ConnectionResetError("the worker died\nand more")
        return ENDED[name]

    _, ended, _ = sweep_with(monkeypatch, tmp_path, end)
    assert ended[PLANNED[1].name] == Outcome("failed", error="its worker died 11 times: the worker died", exit_code=1)
    assert [ended[one.name].state for one in PLANNED] == ["finished", "failed", "finished", "failed"]


def test_a_sweep_that_is_interrupted_lets_runs_under_way_save_themselves_and_begins_no_other(tmp_path, monkeypatch):
    def interrupt(ended, running):
        if len(ended) == 1:
            signal.raise_signal(signal.SIGINT)

    ray, ended, stopped_by = sweep_with(monkeypatch, tmp_path, lambda name: ENDED[name], interrupt)
    assert stopped_by == signal.SIGINT
    assert ray.begun == names(PLANNED)[:3]
    assert [ended[name].state for name in ray.begun] == ["finished", "finished", "stopped"]


def test_an_interrupted_sweep_says_what_is_finished_and_how_far_the_others_came(tmp_path, monkeypatch, capsys):
    under_way = tmp_path / PLANNED[2].name
    train(short_config(collect={"iterations": 1}), under_way, device="cpu", progress=False)  # the first of its 2

    def interrupt(ended, running):
        if len(ended) == 1:
            signal.raise_signal(signal.SIGINT)
        watch.look(ended, running)

    watch = _Watch(PLANNED, tmp_path)
    _, ended, _ = sweep_with(monkeypatch, tmp_path, lambda name: ENDED[name], interrupt)
    (bar,) = watch.display.tasks
    assert (5, 8) == (bar.completed, bar.total)
    assert "2 of 4 runs finished, 1 stopped, 0 under way" == bar.fields["note"]
    found = summarize(under_way)
    assert Outcome("stopped", None, found.env_steps, found.time_s / 60) == ended[PLANNED[2].name]


def test_without_ray_one_is_told_before_anything_is_written(preset, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_sweep, "find_spec", lambda _: None)
    with pytest.raises(ModuleNotFoundError, match="ray"):
        sweep([preset], [], "0", tmp_path / "out", Cluster(), wandb=None, as_json=False)
    assert not (tmp_path / "out").exists()
