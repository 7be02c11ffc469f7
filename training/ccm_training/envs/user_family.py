"""A user's own family, `package.module:Family`, imported because its user named it."""

import difflib
import importlib
import inspect
import os
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

from ccm_runtime.errors import DependencyMissingError, FamilyError, FamilyUnknownError
from ccm_runtime.specs import BoxSpec
from ccm_training.envs.called import called
from ccm_training.envs.checked import check_specs, checked
from ccm_training.envs.failing import blamed, faulty
from ccm_training.envs.family import Family

_KINDS = {"task": BoxSpec, "observation": BoxSpec, "action": BoxSpec, "horizon": int, "explore_episodes": int}
_METHODS = ("sample_tasks", "task_features", "simulate", "make", "ceiling")
_SIMULATORS = ("gymnasium", "mujoco")  # of the extra `gym`


def is_reference(name: str) -> bool:
    """Whether a family's name is code to import, and not one of ours."""
    return ":" in name


def import_family(reference: str) -> Family:
    """The family that `package.module:Family` names: an object, or a class that is made without arguments.

    The working directory can be imported from, as where a run's config and its family lie side by side. Runs, bundles
    and servers know it by this name, and whatever it does wrong is told under it.

    Raises:
        FamilyUnknownError: There is no such module, or nothing of that name in it.
        DependencyMissingError: It needs a simulator of ours that is not installed.
        FamilyError: The module cannot be imported, or what it holds is no family.
    """
    module_name, _, attribute = reference.partition(":")
    if not (attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise FamilyUnknownError(
            f"family {reference!r}: expected package.module:Family, for instance pendulums:Pendulums"
        )
    return _checked(reference, _made(reference, _found(reference, _module(reference, module_name), attribute)))


def _module(reference: str, name: str) -> ModuleType:
    here = os.getcwd()  # noqa: PTH109  (an entry of sys.path is text)
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    with faulty(f"family {reference!r}: importing {name}"):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
                raise FamilyUnknownError(
                    f"family {reference!r}: no module {error.name!r} in {here} or among the installed packages; run "
                    f"the command in the folder that holds {name.partition('.')[0]}.py, or install its package"
                ) from error
            if error.name in _SIMULATORS:
                raise DependencyMissingError(
                    f"family {reference!r} needs {error.name}, which is not installed; install it with: "
                    "pip install 'ccm[gym]'"
                ) from error
            raise


def _found(reference: str, module: ModuleType, attribute: str) -> Any:
    with faulty(f"family {reference!r}: importing {attribute}"), suppress(AttributeError):
        return getattr(module, attribute)  # which a module may make when it is asked for
    near = difflib.get_close_matches(attribute, [name for name in vars(module) if not name.startswith("_")], n=1)
    hint = f" (did you mean {near[0]!r}?)" if near else ""
    where = getattr(module, "__file__", None) or module.__name__
    raise FamilyUnknownError(f"family {reference!r}: {where} has no {attribute!r}{hint}")


def _made(reference: str, found: Any) -> Any:
    if not isinstance(found, type):
        return found
    if lacks := getattr(found, "__abstractmethods__", None):
        raise FamilyError(
            f"family {reference!r}: {found.__name__} lacks {', '.join(sorted(lacks))}, which its base class asks for"
        )
    with faulty(f"family {reference!r}: making it"):
        try:
            return found()
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
                raise  # in its own code
            raise FamilyError(f"family {reference!r}: it must be made without arguments: {error}") from error


def _checked(reference: str, family: Any) -> Family:
    missing = object()
    lacks = [name for name in (*_KINDS, *_METHODS) if inspect.getattr_static(family, name, missing) is missing]
    if lacks:
        raise FamilyError(
            f"family {reference!r}: {type(family).__name__} is no family, it lacks {', '.join(lacks)}; subclass "
            "ccm_training.envs.gymnasium_family.GymnasiumFamily, or see ccm_training.envs.family.Family"
        )
    told = {name: _value(reference, family, name) for name in (*_KINDS, *_METHODS)}
    for name, kind in _KINDS.items():
        if not isinstance(told[name], kind) or isinstance(told[name], bool):
            raise FamilyError(
                f"family {reference!r}: its {name} is {told[name]!r}; expected {kind.__module__}.{kind.__qualname__}"
            )
    for name in _METHODS:
        if not callable(told[name]):
            raise FamilyError(f"family {reference!r}: its {name} is {told[name]!r}; expected a method")
    own = checked(family, reference, {name: told[name] for name in _KINDS})
    check_specs(own)
    return called(own, reference, blamed)


def _value(reference: str, family: Any, name: str) -> Any:
    """An attribute, which may be made by the user's code: anything may happen there."""
    with faulty(f"family {reference!r}: its {name}"):
        return getattr(family, name)
