"""A proof whose assertion cannot fail is told, when `make test` runs its notebook."""

import sys

import pytest
import yaml

from notebooks import samples
from notebooks.plugin import BACKEND_FOLDER, LEDGER
from notebooks.test_nbval_is_strict import compare, from_cells

sys.path.append(str(BACKEND_FOLDER))
from negated import negated

GOOD = {
    "plain": "assert 1 + 1 == 2",
    "in a loop": "for n in range(3):\n    assert n < 3",
    "in a function": "def check(n):\n    assert n\n\ncheck(1)",
    "behind another": "assert 1 + 1 == 2\nassert 2 + 2 == 4",
    "with a message": "assert 1 + 1 == 2, 'that is two'",
    "of names in the kernel": "assert given == 3",
    "of arrays": "np.testing.assert_allclose([1.0], 1.0)",
    "before an announced error": "assert given == 3\n1 / 0",
}
BAD = {
    "in a loop without turns": (
        "for n in []:\n    assert n",
        "line 2: the assertion is never reached",
    ),
    "in a function that is not called": ("def check(n):\n    assert n", "never reached"),
    "behind an error": ("1 / 0\nassert given == 3", "ended with ZeroDivisionError"),
    "in a branch that is not taken": ("if given == 4:\n    assert given", "never reached"),
    "of something that is equal to nothing": (
        "class Odd:\n    def __bool__(self):\n        flips.append(1)\n"
        "        return len(flips) % 2 == 0\n\nflips = []\nassert Odd()",
        "the assertion's opposite holds as well",
    ),
    "of arrays that differ": ("np.testing.assert_allclose([1.0], 2.0)", "never reached"),
}


def namespace() -> dict:
    import numpy as np

    return {"given": 3, "np": np}


@pytest.mark.parametrize("name", GOOD)
def test_assertions_that_can_fail_pass(name):
    result = negated(GOOD[name], namespace())
    assert result["assertions"] >= 1
    assert result["problems"] == []


@pytest.mark.parametrize("name", BAD)
def test_an_assertion_that_cannot_fail_is_told(name):
    source, problem = BAD[name]
    result = negated(source, namespace())
    assert len([text for text in result["problems"] if text.startswith("line")]) == 1
    assert problem in "; ".join(result["problems"])


def test_the_namespace_stays_as_it_was():
    before = namespace()
    negated("given = 4\nassert given == 4", before)
    assert before["given"] == 3
    assert "__negated__" not in before


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """A notebook whose cells the ledger calls proofs; each is right, and not each can fail."""
    folder = tmp_path_factory.mktemp("proved")
    cells = {
        "imports": ("import numpy as np\n\nturns = []", []),
        "can-fail": ("turns.append(1)\nassert turns == [1]", []),
        "ran-once": ("print(turns)", [samples.printed("[1]\n")]),
        "prints": ("print('one')\nassert turns", [samples.printed("one\n")]),
        "never-reached": ("for n in []:\n    assert n", []),
        "asserts-nothing": (
            "np.zeros(3).sum()",
            [
                samples.new_output(
                    "execute_result", data={"text/plain": "np.float64(0.0)"}, execution_count=6
                )
            ],
        ),
        "no-proof": ("for n in []:\n    assert n", []),
    }
    proofs = ["can-fail", "prints", "never-reached", "asserts-nothing"]
    entry = {
        "id": "003-crash",
        "places": [{"document": "003", "section": "4", "quote": "X.flatten()"}],
        "kind": "crash",
        "verdict": "error",
        "wrong": "It crashes.",
        "right": "It does not.",
        "proof": [f"chapters/proofs.ipynb#{name}" for name in proofs],
    }
    (folder / LEDGER).parent.mkdir(parents=True)
    (folder / LEDGER).write_text(yaml.safe_dump([entry]), encoding="utf8")
    return compare(folder, 1, **{"chapters/proofs": from_cells(cells)})


def test_proofs_that_cannot_fail_fail_the_run(comparison):
    failed, run = comparison
    assert failed == {"never-reached", "asserts-nothing"}, run.stdout
    assert "chapters/proofs.ipynb#never-reached proves an erratum" in run.stdout
    assert "it asserts nothing" in run.stdout


def test_the_run_counts_what_it_saw_fail(comparison):
    _, run = comparison
    assert "proofs of errata: 2 cells; each of their 2 assertions" in run.stdout
