"""A user's family is imported because its user names it; what is wrong with the name is told."""

import sys

import pytest

from ccm_runtime.errors import CcmError, DependencyMissingError, FamilyError, FamilyUnknownError
from ccm_training.envs.registry import get_family, get_listed_family, list_families

GOOD = """
from ccm_runtime.specs import BoxSpec
from ccm_training.envs.point_robot import SparsePointRobot

class Robots(SparsePointRobot):
    pass

class Longer(Robots):
    def __init__(self, horizon):
        super().__init__(horizon=horizon)

longer = Longer(50)
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a module into the working directory; it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in {"", str(tmp_path)}])
    before = set(sys.modules)

    def module(text, name="robots_of_mine.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    yield module
    for name in set(sys.modules) - before:
        if "of_mine" in name:
            del sys.modules[name]


def refused(name, kind=FamilyError):
    with pytest.raises(CcmError) as error:
        get_family(name)
    assert type(error.value) is kind
    return str(error.value)


def test_a_class_in_the_working_directory_is_a_family(write):
    write(GOOD)
    family = get_family("robots_of_mine:Robots")
    assert (family.name, family.horizon) == ("robots_of_mine:Robots", 20)
    assert family.sample_tasks("train", 3, 0).shape == (3, 1)
    assert family.simulate(family.sample_tasks("train", 3, 0)).num_envs == 3


def test_an_object_is_a_family_too_under_the_name_that_it_was_given(write):
    write(GOOD, "package_of_mine/robots.py")
    write("", "package_of_mine/__init__.py")
    family = get_family("package_of_mine.robots:longer")
    assert (family.name, family.horizon) == ("package_of_mine.robots:longer", 50)


def test_families_of_ours_are_listed_and_those_of_users_are_not(write):
    write(GOOD)
    before = list_families()
    get_family("robots_of_mine:Robots")
    assert before == list_families()


@pytest.mark.parametrize("name", [":Robots", "robots:", "a b:C", "a:b:c", "a..b:C", "../robots:Robots", "a.py:b-c"])
def test_what_cannot_name_a_family_is_refused(write, name):
    assert refused(name, FamilyUnknownError) == (
        f"family {name!r}: expected package.module:Family, for instance pendulums:Pendulums"
    )


def test_a_missing_simulator_is_told_with_its_extra(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    write("import mujoco")
    assert refused("robots_of_mine:Robots", DependencyMissingError) == (
        "family 'robots_of_mine:Robots' needs mujoco, which is not installed; install it with: pip install 'ccm[gym]'"
    )


def test_a_missing_module_is_told_with_where_it_was_looked_for(write, tmp_path):
    assert refused("lost_of_mine.robots:Robots", FamilyUnknownError) == (
        f"family 'lost_of_mine.robots:Robots': no module 'lost_of_mine' in {tmp_path} or among the installed packages; "
        "run the command in the folder that holds lost_of_mine.py, or install its package"
    )


def test_a_missing_attribute_is_told_with_the_nearest_name(write, tmp_path):
    write(GOOD)
    assert refused("robots_of_mine:Robot", FamilyUnknownError) == (
        f"family 'robots_of_mine:Robot': {tmp_path / 'robots_of_mine.py'} has no 'Robot' (did you mean 'Robots'?)"
    )


def test_a_module_may_make_its_family_when_it_is_asked_for(write):
    write(f"{GOOD}\ndef __getattr__(name): return {{'Late': Robots, 'Lost': 0}}[name] or 1 / 0\n")
    assert get_family("robots_of_mine:Late").horizon == 20
    assert "importing Lost failed at " in refused("robots_of_mine:Lost")


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("x = 1\ny = x / 0", "robots_of_mine.py:2: ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)", "2: SystemExit: 3"),
        ("import lost_of_mine", "1: ModuleNotFoundError: No module named 'lost_of_mine'"),
        ("x = 1\ndef (", "robots_of_mine.py:2: SyntaxError: "),
    ],
)
def test_a_module_that_cannot_be_imported_is_told_with_the_cause(write, text, cause):
    write(text)
    told = refused("robots_of_mine:Robots")
    assert told.startswith("family 'robots_of_mine:Robots': importing robots_of_mine failed")
    assert cause in told


def test_what_is_no_family_is_told_what_it_lacks(write):
    write("class Robots:\n    horizon = 3\n    def simulate(self, tasks, seed=0): ...")
    assert refused("robots_of_mine:Robots") == (
        "family 'robots_of_mine:Robots': Robots is no family, it lacks task, observation, action, explore_episodes, "
        "sample_tasks, task_features, make, ceiling; subclass ccm_training.envs.gymnasium_family.GymnasiumFamily, or "
        "see ccm_training.envs.family.Family"
    )


def test_a_class_that_wants_arguments_is_refused(write):
    write(GOOD)
    assert "it must be made without arguments: " in refused("robots_of_mine:Longer")


def test_a_class_that_leaves_out_what_its_base_asks_for_is_told_what(write):
    write("from ccm_training.envs.gymnasium_family import GymnasiumFamily\nclass Robots(GymnasiumFamily): ...")
    assert refused("robots_of_mine:Robots") == (
        "family 'robots_of_mine:Robots': Robots lacks draw_tasks, make_env, which its base class asks for"
    )


def test_a_folder_without_an_init_holds_no_family(write):
    write("", "folder_of_mine/robots.py")
    assert refused("folder_of_mine:Robots", FamilyUnknownError) == (
        "family 'folder_of_mine:Robots': folder_of_mine has no 'Robots'"
    )


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("len(3)", "TypeError: object of type 'int' has no len()"),
    ],
)
def test_a_class_that_cannot_be_made_is_told_with_the_cause(write, tmp_path, failure, words):
    write(f"class Wrong:\n    def __init__(self):\n        {failure}\n")
    assert refused("robots_of_mine:Wrong") == (
        f"family 'robots_of_mine:Wrong': making it failed at {tmp_path}/robots_of_mine.py:3: {words}"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("horizon = 'long'", "its horizon is 'long'; expected builtins.int"),
        ("task = None", "its task is None; expected ccm_runtime.specs.BoxSpec"),
        ("horizon = True", "its horizon is True; expected builtins.int"),
        ("horizon = 0", "horizon is 0; expected at least 1 step"),
        ("ceiling = None", "its ceiling is None; expected a method"),
        ("observation = property(lambda self: 1 / 0)", "_of_mine.py:15: ZeroDivisionError: division by zero"),
    ],
)
def test_an_attribute_of_the_wrong_kind_is_told(write, change, words):
    write(f"{GOOD}\nclass Wrong(Robots):\n    {change}\n    def __init__(self): pass\n")
    assert words in refused("robots_of_mine:Wrong")


def test_what_its_methods_do_wrong_is_told_too(write, tmp_path):
    write(f"{GOOD}\nclass Wrong(Robots):\n    def sample_tasks(self, split, num, seed): return {{'test': 3}}[split]\n")
    family = get_family("robots_of_mine:Wrong")
    with pytest.raises(FamilyError) as failed:
        family.sample_tasks("ood", 3, 0)
    assert str(failed.value) == (
        f"robots_of_mine:Wrong: sample_tasks('ood', 3, 0) failed at {tmp_path}/robots_of_mine.py:15: KeyError: 'ood'"
    )
    with pytest.raises(FamilyError, match=r"is int; expected an array \[3, 1\] of float32"):
        family.sample_tasks("test", 3, 0)


def test_a_method_that_takes_something_else_is_told_without_a_line_of_ours(write):
    write(f"{GOOD}\nclass Wrong(Robots):\n    def ceiling(self): ...\n")
    words = r"ceiling\(\) failed: TypeError: Wrong.ceiling\(\) takes 1 positional argument but 2 were given"
    with pytest.raises(FamilyError, match=words):
        get_family("robots_of_mine:Wrong").ceiling(None)


MARKED = "import pathlib\npathlib.Path('imported').touch()\n" + GOOD


def test_nothing_is_imported_because_a_bundle_or_a_server_says_so(write, tmp_path):
    write(MARKED)
    with pytest.raises(FamilyUnknownError) as error:
        get_listed_family("robots_of_mine:Robots", origin="the server")
    assert str(error.value) == (
        "the server names the family 'robots_of_mine:Robots', which is not part of ccm and is not imported unasked; "
        "if you have it and trust it, add --family robots_of_mine:Robots"
    )
    assert not (tmp_path / "imported").exists()
    get_family("robots_of_mine:Robots")
    assert (tmp_path / "imported").exists()


def test_ours_need_not_be_named():
    assert get_listed_family("sparse-point-robot", origin="the server").name == "sparse-point-robot"
