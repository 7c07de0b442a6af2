"""The deck holds every term, Anki can read it, and its ids stay."""

import sqlite3
import zipfile
from html import unescape

import pytest

from book.test_glossary import PATH, ROOT
from tools import flash_cards, glossary

TERMS = glossary.load(PATH)
TITLES = glossary.titles(TERMS, ROOT)
# What an import goes by. A change here would lose what learners have achieved.
GUIDS = {"softmax": "orVh|re8i+", "query": "A19x}wCe!A"}


@pytest.fixture(scope="module")
def notes(tmp_path_factory):
    """The notes in a written deck, as Anki stores them: guid, model, tags, fields."""
    folder = tmp_path_factory.mktemp("deck")
    flash_cards.write(TERMS, TITLES, folder / "new" / "deck.apkg")
    with zipfile.ZipFile(folder / "new" / "deck.apkg") as package:
        package.extract("collection.anki2", folder)
    with sqlite3.connect(folder / "collection.anki2") as database:
        rows = database.execute("select guid, mid, tags, flds from notes").fetchall()
        (n_cards,) = database.execute("select count(*) from cards").fetchone()
    assert n_cards == 2 * len(rows)
    return {fields.split("\x1f")[0]: (guid, mid, tags, fields) for guid, mid, tags, fields in rows}


def test_every_term_is_a_note(notes):
    assert notes.keys() == {term.id for term in TERMS}
    for term in TERMS:
        _, kind, tags, fields = notes[term.id]
        assert kind == flash_cards.KIND
        assert tags.split() == [term.shown.path.split("/")[1]]
        _, name, chinese, definition, shown = fields.split("\x1f")
        assert (name, chinese) == (term.term, term.chinese)
        assert definition
        assert unescape(shown) == TITLES[term.shown.path]


def test_the_ids_stay(notes):
    assert (flash_cards.DECK, flash_cards.KIND) == (1_784_205_631, 1_290_458_377)
    for name, guid in GUIDS.items():
        assert notes[name][0] == guid
    assert len({guid for guid, *_ in notes.values()}) == len(notes)


def test_another_definition_is_the_same_note():
    (one,) = [term for term in TERMS if term.id == "softmax"]
    changed = glossary.build(
        {
            "id": "softmax",
            "term": "Softmax",
            "chinese": one.chinese,
            "says": "Another definition.",
            "shown": one.shown.path,
        }
    )
    guids = {flash_cards.deck([term], TITLES).notes[0].guid for term in (one, changed)}
    assert guids == {GUIDS["softmax"]}


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("A *weight* of $w_j$.", r"A <em>weight</em> of \(w_j\)."),
        ("$a < b$ and $*c*$", r"\(a &lt; b\) and \(*c*\)"),
        ("1 < 2 & `x`", "1 &lt; 2 &amp; <code>x</code>"),
    ],
)
def test_definitions_become_html(text, html):
    assert flash_cards.as_html(text) == html


def test_no_dollar_sign_is_left(notes):
    for _, _, _, fields in notes.values():
        assert "$" not in fields
        assert "\N{OBJECT REPLACEMENT CHARACTER}" not in fields


def test_titles_are_those_of_the_pages(tmp_path):
    (tmp_path / "page.md").write_text("text\n\n# A title\n", encoding="utf8")
    assert glossary.title(tmp_path / "page.md") == "A title"
    assert glossary.title(tmp_path / "none.md") is None
    assert TITLES["chapters/math/softmax.ipynb"] == "Softmax"
