"""The checks catch every broken attention, and each check is of use."""

import warnings

import numpy as np
import pytest

from package.broken import BROKEN, four_steps
from package.conformance import CHECKS, package_api

# The checks that have failed a broken implementation so far.
OF_USE: set[str] = set()


def fails(check, api) -> bool:
    """Whether an implementation fails a check, by a wrong result or by an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(api)
    except Exception:
        return True
    return False


def caught(name: str) -> bool:
    """Whether any check fails a broken implementation; those that failed go into OF_USE.

    To save time, checks that have been of use already run only until one fails.
    """
    replaces, function = BROKEN[name]
    api = package_api()
    setattr(api, replaces, function)
    fresh = {
        check.__name__ for check in CHECKS if check.__name__ not in OF_USE and fails(check, api)
    }
    quick_first = sorted(CHECKS, key=lambda check: hasattr(check, "generated"))
    proven = (check for check in quick_first if check.__name__ in OF_USE)
    found = bool(fresh) or any(fails(check, api) for check in proven)
    OF_USE.update(fresh)
    return found


@pytest.mark.parametrize("name", BROKEN)
def test_the_checks_catch(name):
    assert caught(name), f"{name}: {BROKEN[name][1].__doc__} No check noticed it."


def test_there_are_enough():
    assert len(BROKEN) >= 50


def test_no_check_is_idle():
    """A check that no broken attention fails proves nothing."""
    if not OF_USE:  # this test was run alone
        for name in BROKEN:
            caught(name)
    assert {check.__name__ for check in CHECKS} == OF_USE


def test_the_frame_is_right():
    """What catches the broken ones is their mistake, not the frame that they are built on."""
    api = package_api()
    api.attention = four_steps()
    for check in CHECKS:
        with np.errstate(invalid="ignore"):
            check(api)
