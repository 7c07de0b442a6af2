"""The glossary as a deck of flash cards for Anki.

The numbers below and the ids of the terms stay for ever: Anki knows its notes by them, and an
import of a newer deck then changes the cards and keeps what a learner has achieved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from pathlib import Path

import genanki
from markdown_it import MarkdownIt

from tools.glossary import Term

DECK = 1_784_205_631
KIND = 1_290_458_377
NAME = "Attention, Proved"
FIELDS = ("Id", "Term", "Chinese", "Definition", "Shown in")
STYLE = """.card { font: 20px/1.5 sans-serif; text-align: center; max-width: 34em; margin: auto }
.chinese, .shown { color: #555; font-size: 16px }
.nightMode .chinese, .nightMode .shown { color: #bbb }"""
# What stands between dollar signs, for MathJax, which Anki has.
FORMULA = re.compile(r"\$([^$]+)\$")


def model() -> genanki.Model:
    """Two cards a term: what does it mean, and what is it called?"""
    back = '{{FrontSide}}<hr id="answer">'
    shown = '<p class="shown">{{Shown in}}</p>'
    return genanki.Model(
        KIND,
        "Term of the book",
        fields=[{"name": name} for name in FIELDS],
        templates=[
            {
                "name": "What does it mean?",
                "qfmt": '{{Term}}<p class="chinese">{{Chinese}}</p>',
                "afmt": f"{back}{{{{Definition}}}}{shown}",
            },
            {
                "name": "What is it called?",
                "qfmt": "{{Definition}}",
                "afmt": f'{back}{{{{Term}}}}<p class="chinese">{{{{Chinese}}}}</p>{shown}',
            },
        ],
        css=STYLE,
    )


def deck(terms: Iterable[Term], titles: dict[str, str]) -> genanki.Deck:
    """All terms; a title for each page that shows one, by its path."""
    found = genanki.Deck(DECK, NAME, description="The terms of the book, in English and Chinese.")
    kind = model()
    for term in terms:
        found.add_note(
            genanki.Note(
                model=kind,
                guid=genanki.guid_for(NAME, term.id),
                fields=[
                    term.id,
                    escape(term.term),
                    escape(term.chinese),
                    as_html(term.says),
                    escape(titles[term.shown.path]),
                ],
                tags=[Path(term.shown.path).parent.name],
            )
        )
    return found


def as_html(text: str) -> str:
    """A definition as Anki shows it: its formulas are kept from Markdown."""
    formulas = FORMULA.findall(text)
    html = MarkdownIt().renderInline(FORMULA.sub("\N{OBJECT REPLACEMENT CHARACTER}", text))
    for formula in formulas:
        shown = rf"\({escape(formula)}\)"
        html = html.replace("\N{OBJECT REPLACEMENT CHARACTER}", shown, 1)
    return html


def write(terms: Iterable[Term], titles: dict[str, str], path: Path) -> None:
    """Write the deck to a file that Anki imports."""
    path.parent.mkdir(parents=True, exist_ok=True)
    genanki.Package(deck(terms, titles)).write_to_file(path)
