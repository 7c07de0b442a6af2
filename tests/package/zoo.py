"""Checks against broken implementations: each has to be caught, and no check may be idle."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import pytest

Check = Callable[[Any], None]


def fails(check: Check, implementation: Any) -> bool:
    """Whether an implementation fails a check, by a wrong result or by an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(implementation)
    except (Exception, pytest.fail.Exception):
        return True
    return False


def replaced(
    make_api: Callable[[], Any], broken: dict[str, tuple[str, Any]]
) -> Callable[[str], Any]:
    """How to build the implementation in which one public name is replaced by a broken one."""

    def build(name: str) -> Any:
        replaces, wrong = broken[name]
        api = make_api()
        setattr(api, replaces, wrong)
        return api

    return build


class Zoo:
    """Broken implementations by name, and the checks that have to catch them.

    Parameters
    ----------
    checks : functions of an implementation
        Those with an attribute `generated` take longer and run last.
    build : function of a name
        Makes the broken implementation.
    names : strings
    """

    def __init__(
        self, checks: Iterable[Check], build: Callable[[str], Any], names: Iterable[str]
    ) -> None:
        self.checks = sorted(checks, key=lambda check: hasattr(check, "generated"))
        self.build = build
        self.names = list(names)
        self.of_use: set[Check] = set()

    def catches(self, name: str) -> bool:
        """Whether any check fails a broken implementation.

        To save time, checks that have been of use already run only until one fails.
        """
        broken = self.build(name)
        fresh = {
            check for check in self.checks if check not in self.of_use and fails(check, broken)
        }
        proven = [check for check in self.checks if check in self.of_use]
        found = bool(fresh) or any(fails(check, broken) for check in proven)
        self.of_use |= fresh
        return found

    def idle(self) -> list[str]:
        """The checks that no broken implementation fails: they prove nothing."""
        if not self.of_use:  # the test that asks was run alone
            for name in self.names:
                self.catches(name)
        return [check.__name__ for check in self.checks if check not in self.of_use]
