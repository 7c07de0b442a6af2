"""The map names every chapter after what it needs, and each way can be gone."""

from pathlib import Path

import pytest
import yaml

from errata.test_errata import ROOT, assert_none
from notebooks import samples
from tools import chapter_map
from tools.notebook import serialise

PATH = ROOT / "chapters" / "map.yml"


@pytest.fixture(scope="module")
def found():
    return chapter_map.load(PATH)


def notebooks(root: Path) -> list[str]:
    """The chapters of the table of contents that are notebooks, in its order."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf8"))
    files = [one["file"] for part in contents["parts"] for one in part["chapters"]]
    return [name.removeprefix("chapters/") for name in files if (root / f"{name}.ipynb").is_file()]


def missing(needs, chapters):
    """Chapters that the map lacks, and those that the book lacks."""
    for name in chapters:
        if name not in needs:
            yield f"{name}: the map does not say what it needs"
    for name in needs:
        if name not in chapters:
            yield f"{name}: it is in the map and not in the book"


def test_the_map_has_the_book_s_chapters_in_its_order(found):
    chapters = notebooks(ROOT)
    assert_none(missing(found.needs, chapters))
    assert list(found.needs) == chapters


def test_a_missing_chapter_is_told():
    assert len(list(missing({"a": (), "c": ()}, ["a", "b"]))) == 2


def test_there_are_three_ways_of_growing_length(found):
    lengths = [len(way.chapters) for way in found.ways]
    assert len(lengths) == 3
    assert lengths == sorted(lengths)
    for way in found.ways:
        assert len(set(way.chapters)) == len(way.chapters)


def test_minutes_are_counted(tmp_path):
    prose = "# One\n\n" + "word " * 358 + "\n\n**1.** (10 minutes) Why? **2.** (5 minutes) How?"
    notebook = samples.notebook(
        samples.text("title", prose),
        samples.code("long", "\n\n".join(["x = 1"] * 45)),
        samples.code("folded", "\n".join(["x = 1"] * 45), tags=["hide-cell"]),
    )
    path = tmp_path / "one.ipynb"
    path.write_text(serialise(notebook), encoding="utf8")
    assert chapter_map.minutes(path) == chapter_map.Minutes(reading=5, exercises=15)


STEP = {"does": "Read", "chapters": ["a", "b"]}
GOOD = {
    "needs": {"a": [], "b": ["a"]},
    "ways": [{"name": "All", "says": "For all.", "steps": [STEP]}],
}
REFUSED = {
    "a list": ([], "wanted needs and ways"),
    "no ways": ({"needs": {}}, "wanted needs and ways"),
    "needs as a list": (GOOD | {"needs": ["a"]}, "needs: wanted chapters and what each needs"),
    "a need as a text": (GOOD | {"needs": {"a": "b"}}, "a: wanted a list of chapters, got 'b'"),
    "a circle": (
        GOOD | {"needs": {"a": ["b"], "b": ["a"]}},
        "a needs b, which does not come before it",
    ),
    "ways as a text": (GOOD | {"ways": "all"}, "ways: wanted a list"),
    "no steps": (GOOD | {"ways": [{"name": "All"}]}, "way 1: wanted a name"),
    "no name": (
        GOOD | {"ways": [{"says": "For all.", "steps": [STEP]}]},
        "way 1: name: the field is missing",
    ),
    "a step as a text": (
        GOOD | {"ways": [{"name": "All", "says": "x", "steps": ["a"]}]},
        "way 1: wanted steps of what is done",
    ),
    "an empty step": (
        GOOD | {"ways": [{"name": "All", "says": "x", "steps": [STEP | {"does": ""}]}]},
        "way 1: does: wanted a text",
    ),
    "no such chapter": (
        GOOD | {"ways": [{"name": "All", "says": "x", "steps": [STEP | {"chapters": ["c"]}]}]},
        "All: there is no chapter c",
    ),
    "unread": (
        GOOD | {"ways": [{"name": "All", "says": "x", "steps": [STEP | {"chapters": ["b"]}]}]},
        "All: b needs a, which was not read before",
    ),
}


def load(folder: Path, raw: object):
    path = folder / "map.yml"
    path.write_text(yaml.safe_dump(raw), encoding="utf8")
    return chapter_map.load(path)


def test_a_good_map_is_read(tmp_path):
    found = load(tmp_path, GOOD)
    assert found.needs == {"a": (), "b": ("a",)}
    assert found.ways[0].chapters == ["a", "b"]


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_map_is_refused(tmp_path, name):
    raw, problem = REFUSED[name]
    with pytest.raises(ValueError, match=problem):
        load(tmp_path, raw)


def test_a_map_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read the map"):
        chapter_map.load(tmp_path / "nothing.yml")
    (tmp_path / "broken.yml").write_text("[", encoding="utf8")
    with pytest.raises(ValueError, match="is not valid YAML"):
        chapter_map.load(tmp_path / "broken.yml")
