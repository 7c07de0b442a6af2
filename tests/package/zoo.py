"""Checks against broken implementations: each has to be caught, and no check may be idle."""

import inspect
import warnings
from collections.abc import Callable, Iterable
from itertools import islice
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from package.mutants import mutant, unbroken

Check = Callable[[Any], None]
Build = Callable[[str | None], Any]


def fails(check: Check, implementation: Any) -> bool:
    """Whether an implementation fails a check, by a wrong result or by an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(implementation)
    except (Exception, pytest.fail.Exception):
        return True
    return False


def replaced(make_api: Callable[[], Any], broken: dict[str, tuple[str, Any]]) -> Build:
    """How to build the implementation in which one public name is replaced by a broken one."""

    def build(name: str | None) -> Any:
        api = make_api()
        if name is not None:
            replaces, wrong = broken[name]
            setattr(api, replaces, wrong)
        return api

    return build


class Modules(SimpleNamespace):
    """Modules under short names; one set of them is one implementation."""

    __hash__ = object.__hash__


def rewritten(modules: ModuleType | dict[str, ModuleType], broken: dict[str, tuple]) -> Build:
    """How to build the implementation with one mistake in its source.

    Parameters
    ----------
    modules : module, or dict of modules by short names
    broken : dict
        By name what is right and what is wrong, as `mutant` takes them; of several modules, the
        short name of the one that it happens to first.

    Returns
    -------
    function of a name
        For a module, its broken version, or for None an unbroken one that is as much a copy: what
        the checks catch is the mistake. For several, all of them with one broken, or none.
    """

    def build(name: str | None) -> Any:
        if isinstance(modules, ModuleType):
            return unbroken(modules) if name is None else mutant(modules, *broken[name])
        if name is None:
            return Modules(**modules)
        module, right, wrong = broken[name]
        return Modules(**modules | {module: mutant(modules[module], right, wrong)})

    return build


def merged(modules: Iterable[ModuleType], broken: dict[str, tuple[ModuleType, str, str]]) -> Build:
    """As `rewritten`, with the names of all modules in one; each mistake names its module."""

    def build(name: str | None) -> Any:
        found, own = {}, {}
        for module in modules:
            public = {key: value for key, value in vars(module).items() if key[0] != "_"}
            if name is not None and module is broken[name][0]:
                wrong = vars(mutant(*broken[name]))
                public |= {key: wrong[key] for key in public}
                # What a later module imported from the right one does not count.
                own = {key: public[key] for key in public if _is_of(module, key)}
            found |= public
        return Modules(**found | own)

    return build


def _is_of(module: ModuleType, name: str) -> bool:
    return inspect.getmodule(vars(module)[name]) is module


class Zoo:
    """Broken implementations by name, and the checks that have to catch them.

    Parameters
    ----------
    checks : functions of an implementation
        Those with an attribute `generated` take longer and run last.
    build : function of a name
        Makes the broken implementation, and for None the right one.
    names : strings
    """

    def __init__(self, checks: Iterable[Check], build: Build, names: Iterable[str]) -> None:
        self.checks = sorted(checks, key=lambda check: hasattr(check, "generated"))
        self.build = build
        self.names = list(names)
        self.of_use: list[Check] = []  # which caught something, the last one first

    def catches(self, name: str) -> bool:
        """Whether any check fails a broken implementation.

        To save time, checks that have been of use already run only until one fails: first the one
        that caught the last mistake, since mistakes of a kind stand together.
        """
        broken = self.build(name)
        found = [
            check for check in self.checks if check not in self.of_use and fails(check, broken)
        ]
        if not found:
            proven = (check for check in self.of_use if fails(check, broken))
            found = list(islice(proven, 1))
        self.of_use = found + [check for check in self.of_use if check not in found]
        return bool(found)

    def idle(self) -> list[str]:
        """The checks that no broken implementation fails: they prove nothing."""
        if not self.of_use:  # the test that asks was run alone
            for name in self.names:
                self.catches(name)
        return [check.__name__ for check in self.checks if check not in self.of_use]


class ZooTests:
    """What every zoo has to stand: a test module has a subclass, Test…, with its `zoo`."""

    zoo: Zoo

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "check" in metafunc.fixturenames:
            metafunc.parametrize("check", self.zoo.checks, ids=lambda check: check.__name__)
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.zoo.names)

    def test_the_right_one_passes(self, check: Check) -> None:
        check(self.zoo.build(None))

    def test_a_broken_one_is_caught(self, name: str) -> None:
        assert self.zoo.catches(name)

    def test_no_check_is_idle(self) -> None:
        assert self.zoo.idle() == []
