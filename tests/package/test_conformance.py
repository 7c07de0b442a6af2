"""The package passes every check that broken attentions fail."""

import pytest

from package.conformance import CHECKS, package_api


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_conforms(check):
    check(package_api())
