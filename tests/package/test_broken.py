"""The checks catch every broken attention, and each check is of use."""

import numpy as np
import pytest

from package.broken import BROKEN, four_steps
from package.conformance import CHECKS, package_api
from package.zoo import Zoo, replaced

ZOO = Zoo(CHECKS, replaced(package_api, BROKEN), BROKEN)


@pytest.mark.parametrize("name", BROKEN)
def test_the_checks_catch(name):
    assert ZOO.catches(name), f"{name}: {BROKEN[name][1].__doc__} No check noticed it."


def test_there_are_enough():
    assert len(BROKEN) >= 50


def test_no_check_is_idle():
    assert not ZOO.idle()


def test_a_right_one_is_not_caught():
    assert not Zoo(CHECKS, lambda name: package_api(), ["right"]).catches("right")


def test_the_frame_is_right():
    """What catches the broken ones is their mistake, not the frame that they are built on."""
    api = package_api()
    api.attention = four_steps()
    for check in CHECKS:
        with np.errstate(invalid="ignore"):
            check(api)
