"""Settings are laid over each other in order; one that cannot be is refused by name, with the nearest."""

from typing import get_args

import pytest
import yaml
from pydantic import ValidationError

from ccm_runtime.cli_train import Method
from ccm_runtime.errors import ConfigError
from ccm_training.config import PRESETS, Config, load_config, parse_config
from ccm_training.envs.registry import get_family
from ccm_training.experiment import adaptation_of
from ccm_training.methods import ADAPTIVE, METHODS, MethodName

SHIPPED = sorted(path.stem for path in PRESETS.glob("*.yaml"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("family: sparse-point-robot\npolicy: {discount: 0.9}\n")
    return str(path)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_preset_loads_and_names_a_family(name):
    config = load_config(name)
    assert get_family(config.family).name == config.family
    assert config.meta_batch <= config.tasks.num_train


def test_a_wrong_setting_is_told_with_the_config_and_the_overrides_it_came_from():
    told = r"^point_robot_debug --set policy\.discount=2: policy\.discount: expected a number less than or equal to 1"
    with pytest.raises(ConfigError, match=told):
        load_config("point_robot_debug", ["policy.discount=2"])


@pytest.mark.parametrize("name", SHIPPED)
def test_resolved_settings_survive_a_round_trip(name):
    config = load_config(name)
    again = parse_config(yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json"))), where="again")
    assert config == again
    assert config.digest == again.digest


def test_the_small_run_ships():
    assert "point_robot_debug" in SHIPPED


def test_an_unknown_preset_is_told_the_nearest_and_all():
    with pytest.raises(ConfigError, match=r"no config 'point_robot_debg' \(did you mean 'point_robot_debug'\?\)"):
        load_config("point_robot_debg")


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"no config '/nowhere/mine\.yaml'"):
        load_config("/nowhere/mine.yaml")


def test_a_file_that_is_not_named_as_yaml_is_told_so(tmp_path):
    (tmp_path / "settings.txt").write_text("family: sparse-point-robot")
    with pytest.raises(ConfigError, match=r"settings\.txt: expected a YAML file, whose name ends in \.yaml or \.yml"):
        load_config(str(tmp_path / "settings.txt"))


def test_a_file_is_laid_over_the_defaults(file):
    config = load_config(file)
    assert config.policy.discount == 0.9
    assert config.trial == Config(family="sparse-point-robot").trial


def test_overrides_are_laid_over_the_file_in_order(file):
    config = load_config(file, ["policy.discount=0.5", "policy.discount=0.75", "networks.hidden=[8, 8]", "seed=4"])
    assert (config.policy.discount, config.networks.hidden, config.seed) == (0.75, (8, 8), 4)


def test_method_and_seed_are_laid_over_the_file_and_overrides_over_them(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("family: sparse-point-robot\nmethod: oracle\nseed: 1\n")
    for overrides, expected in (([], ("random", 2)), (["method=ccm", "seed=3"], ("ccm", 3))):
        config = load_config(str(path), overrides, method="random", seed=2)
        assert expected == (config.method, config.seed)


@pytest.fixture
def contrastive(tmp_path):
    path = tmp_path / "contrastive.yaml"
    settings = "{contrastive_weight: 0.5, value_weight: 0.1, learning_rate: 0.002}"
    path.write_text(f"family: sparse-point-robot\nencoder: {settings}\ntrial: {{latent: mean, execute_episodes: 3}}\n")
    return str(path)


def test_pearl_is_taught_by_its_critic_alone_and_acts_on_samples(contrastive):
    config = load_config(contrastive, method="pearl")
    assert (config.encoder.contrastive_weight, config.encoder.value_weight) == (0.0, 1.0)
    assert config.encoder.pretrain_updates == 0
    assert (config.trial.latent, config.trial.while_executing) == ("sample", False)
    assert (config.encoder.learning_rate, config.trial.execute_episodes) == (0.002, 3)  # the preset's own


def test_a_file_that_names_its_method_is_given_its_settings(tmp_path):
    path = tmp_path / "pearl.yaml"
    path.write_text("family: sparse-point-robot\nmethod: pearl\n")
    assert load_config(str(path)) == load_config(str(path), method="pearl")


def test_the_settings_that_a_run_was_trained_with_train_another_with_them(tmp_path):
    config = load_config("point_robot_debug", ["encoder.value_weight=0.3", "trial.latent=mean"], method="pearl")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert config == load_config(str(path)) == load_config(str(path), method="pearl")
    assert load_config(str(path), method="pearl-cl").trial.latent == "sample"  # it is written for another method


@pytest.mark.parametrize("name", ["seed", "tasks.seed"])
def test_a_seed_that_nothing_can_be_drawn_from_is_refused(name):
    for seed in (-1, 2**63):
        with pytest.raises(ConfigError, match=rf"{name}: expected"):
            load_config("point_robot_debug", [f"{name}={seed}"])


def test_an_override_is_laid_over_the_methods_settings(contrastive):
    config = load_config(contrastive, ["encoder.contrastive_weight=0.25", "trial.latent=mean"], method="pearl")
    assert (config.encoder.contrastive_weight, config.encoder.value_weight) == (0.25, 1.0)
    assert (config.trial.latent, config.trial.while_executing) == ("mean", False)


def test_a_method_that_is_set_by_an_override_is_given_its_settings(contrastive):
    assert load_config(contrastive, ["method=pearl"]) == load_config(contrastive, method="pearl")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"family: [", b"- family"])
def test_a_file_that_is_no_mapping_in_yaml_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.yaml") as refused:
        load_config(str(path))
    assert "\n" not in str(refused.value)


def test_a_group_that_is_a_value_is_refused_under_any_method(tmp_path):
    path = tmp_path / "flat.yaml"
    path.write_text("family: sparse-point-robot\nencoder: 3\n")
    with pytest.raises(ConfigError, match="encoder"):
        load_config(str(path), method="pearl")


@pytest.mark.parametrize("method", ["ccm", "oracle", "random"])
def test_the_other_methods_leave_a_preset_as_it_is(contrastive, method):
    plain, config = load_config(contrastive), load_config(contrastive, method=method)
    assert config == plain.model_copy(update={"method": method})


@pytest.mark.parametrize("method", METHODS)
def test_a_methods_settings_are_settings(method):
    parse_config({"family": "sparse-point-robot", "method": method, **METHODS[method].settings}, where=method)


TAUGHT_BY = {  # contrast, value, prediction; the preset's own contrast is 0.5, its value's weight 0.1
    "ccm": (0.5, 0.1, 0.0),
    "pearl": (0.0, 1.0, 0.0),
    "pearl-cl": (0.5, 0.1, 0.0),
    "pearl-dp": (0.0, 0.0, 1.0),
    "pearl-cl-dp": (0.5, 0.0, 1.0),
}


@pytest.mark.parametrize("method", TAUGHT_BY)
def test_a_methods_encoder_is_taught_by_what_it_is_named_after(contrastive, method):
    taught = load_config(contrastive, method=method).encoder
    assert TAUGHT_BY[method] == (taught.contrastive_weight, taught.value_weight, taught.prediction_weight)
    assert (taught.pretrain_updates > 0) == (taught.contrastive_weight > 0.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_has_an_explorer_or_acts_on_samples_or_on_a_memory_or_does_not_adapt(contrastive, method):
    config = load_config(contrastive, method=method)
    explored_with = adaptation_of(config, get_family(config.family)).explore_with
    assert (explored_with == "belief") == config.what.explorer == (method == "ccm")
    by_sampling = config.what.encoder and not config.what.explorer and not config.what.on_policy
    assert (config.trial.latent == "sample") == by_sampling
    assert (config.method in ADAPTIVE) == config.what.encoder


def test_the_command_line_knows_every_method():
    assert list(METHODS) == [method.value for method in Method] == list(get_args(MethodName))


def test_a_misspelt_setting_is_named_and_not_the_one_that_is_missing_for_it(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("familly: hard-point-robot\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="unknown setting 'familly'; did you mean 'family'"):
        load_config(str(path))


def test_a_setting_that_is_missing_is_named(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("seed: 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config\.yaml: family: expected a value, got none$"):
        load_config(str(path))


def test_null_and_false_are_values(file):
    config = load_config(file, ["trial.explore_episodes=null", "trial.observe_reward=false"])
    assert config.trial.explore_episodes is None
    assert config.trial.observe_reward is False


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("policy.discont=0.9", "unknown setting 'policy.discont'; did you mean 'policy.discount'?"),
        ("encodr.momentum=0.1", "unknown setting 'encodr'; did you mean 'encoder'?"),
        ("polcy=1", "unknown setting 'polcy'; did you mean 'policy'?"),
        ("zzzz=1", "unknown setting 'zzzz'"),
        ("policy.discount", "expected key=value"),
        ("=1", "expected key=value"),
        ("family.x=1", "'family' is a value, not a group of settings"),
        ("policy.discount=[", "is not a YAML value"),
        ("policy.discount=2", "policy.discount: expected a number less than or equal to 1, got 2"),
        ("policy.discount=.nan", "policy.discount: "),
        ("method=sarsa", "method: expected 'ccm'"),
        ("networks.hidden=[]", "networks.hidden: expected a list of 1 or more, got []"),
        ("networks.hidden=32", "networks.hidden: expected a list, for instance [1, 2], got 32"),
        ("collect=3", "collect: expected a group of settings, got 3"),
        ("trial.observe_reward=many", "trial.observe_reward: expected true or false, got 'many'"),
        ("meta_batch=2.5", "meta_batch: expected an integer, got 2.5"),
        ("meta_batch=many", "meta_batch: expected an integer, got 'many'"),
        ("meta_batch=1", "meta_batch: expected a number greater than or equal to 2, got 1"),
        ("threads=100000", "threads: expected a number less than or equal to 1024, got 100000"),
        ("trial.certain_at=2", "trial.certain_at: expected a number less than or equal to 1, got 2"),
        ("policy.reward_scale=0", "policy.reward_scale: expected a number greater than 0, got 0"),
        ("networks.hidden=[0]", "networks.hidden.0: expected a number greater than or equal to 1, got 0"),
    ],
)
def test_a_bad_override_is_told_what_is_wrong_with_it(file, override, message):
    with pytest.raises(ConfigError) as refused:
        load_config(file, [override])
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("a: 1\n\tb: 2", r":2:1: not valid YAML in UTF-8: found character '\\t' that cannot start any token"),
        ("[1, 2]", "expected a mapping"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(str(path))


def test_the_digest_is_of_what_the_settings_are_and_not_of_how_they_were_given(file):
    plain = load_config(file)
    assert plain.digest == load_config(file, ["policy.discount=0.90", "seed=0"]).digest
    assert plain.digest != load_config(file, ["seed=1"]).digest
    assert len(plain.digest) == 64


def test_settings_cannot_be_changed(file):
    with pytest.raises(ValidationError):
        load_config(file).seed = 3
