"""The checks catch every broken attention, and each check is of use."""

import numpy as np

from package.broken import BROKEN, four_steps
from package.conformance import CHECKS, package_api
from package.zoo import Zoo, ZooTests, replaced


class TestAttention(ZooTests):
    zoo = Zoo(CHECKS, replaced(package_api, BROKEN), BROKEN)


def test_there_are_enough():
    assert len(BROKEN) >= 50


def test_a_right_one_is_not_caught():
    some = [check for check in CHECKS if not hasattr(check, "generated")]
    assert not Zoo(some, lambda name: package_api(), ["right"]).catches("right")


def test_the_frame_is_right():
    """What catches the broken ones is their mistake, not the frame that they are built on."""
    api = package_api()
    api.attention = four_steps()
    for check in CHECKS:
        with np.errstate(invalid="ignore"):
            check(api)
