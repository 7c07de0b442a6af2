"""Every notebook of the book keeps the house rules."""

from pathlib import Path

import pytest

from notebooks import house_rules

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "chapters").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: str(path.relative_to(ROOT)))
def test_notebook_keeps_the_house_rules(path):
    found = house_rules.problems(path)
    assert not found, "\n" + "\n".join(found)
