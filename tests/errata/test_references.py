"""Every reference is complete, and docs/references_checked.md says how it was checked."""

import re
from collections import Counter
from collections.abc import Iterator

import pytest
from pybtex.database import BibliographyData, parse_file, parse_string

from errata.test_errata import ROOT, assert_none

BIBLIOGRAPHY = ROOT / "references.bib"
RECORD = ROOT / "docs" / "references_checked.md"

VENUES = {"journal", "booktitle", "publisher", "eprint", "url", "howpublished"}
KEY = re.compile(r"[a-z]+(\d{4})[a-z]*")
# TensorFlow's documentation was cited before its keys had years.
KEYS_WITHOUT_YEAR = {"tensorflow2", "tensorflowplaceholder", "tensorflowsqrt"}
# A paper that the book cited in the year before it appeared, under the title it then had.
KEYS_OF_ANOTHER_YEAR = {"velickovic2024"}
LINE = re.compile(r"- `(\S+)`: (?:checked against|corrected:|not checked:) .*\w")
PROTECTED = re.compile(r"\{[^{}]*\}")
CAPITAL_INSIDE = re.compile(r"[\w.]*[\w.][A-Z][\w.]*")


def record_problems(keys: list[str], text: str) -> Iterator[str]:
    """Each key has one line that says how it was checked; the lines are in the keys' order."""
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    for line in lines:
        if not LINE.fullmatch(line):
            yield f"{line!r}: wanted a key and 'checked against', 'corrected:' or 'not checked:'"
    recorded = [match[1] for line in lines if (match := LINE.fullmatch(line))]
    counts = Counter(recorded)
    for key in keys:
        if counts[key] != 1:
            yield f"{key}: {counts[key]} lines say how it was checked; wanted one"
    for key in counts:
        if key not in keys:
            yield f"{key}: a line without an entry in the bibliography"
    if recorded != sorted(recorded):
        yield "the lines are not in alphabetical order"


def entry_problems(bibliography: BibliographyData) -> Iterator[str]:
    """Each entry says who wrote what, when and where, in a form that the site shows well."""
    for key, entry in bibliography.entries.items():
        if not entry.persons.get("author"):
            yield f"{key}: no author"
        for field in ("title", "year"):
            if not entry.fields.get(field):
                yield f"{key}: no {field}"
        if not any(entry.fields.get(venue) for venue in VENUES):
            yield f"{key}: no venue: one of {', '.join(sorted(VENUES))}"
        if "\\url" in entry.fields.get("howpublished", ""):
            yield f"{key}: howpublished shows a raw \\url on the page; wanted the field url"
        if entry.type == "article" and "volume" in entry.fields and "pages" not in entry.fields:
            yield f"{key}: without pages the page does not show the volume either"


def key_problems(bibliography: BibliographyData) -> Iterator[str]:
    """Each key is a name and the year, and letters where that is not enough."""
    for key, entry in bibliography.entries.items():
        match = KEY.fullmatch(key)
        year = entry.fields.get("year", "")[:4]
        if match is None:
            if key not in KEYS_WITHOUT_YEAR:
                yield f"{key}: wanted a name, a year and perhaps letters, as in cho2014properties"
        elif year and match[1] != year and key not in KEYS_OF_ANOTHER_YEAR:
            yield f"{key}: the entry is of {year}"


def capital_problems(bibliography: BibliographyData) -> Iterator[str]:
    """Each capital inside a word or a dotted name is in braces, else the style makes it small."""
    for key, entry in bibliography.entries.items():
        for word in CAPITAL_INSIDE.findall(unprotected(entry.fields.get("title", ""))):
            yield f"{key}: the title's {word} loses its capitals; wanted {{{word}}}"


def unprotected(title: str) -> str:
    """The title without what stands in braces."""
    while (rest := PROTECTED.sub("", title)) != title:
        title = rest
    return title


@pytest.fixture(scope="module")
def bibliography():
    return parse_file(BIBLIOGRAPHY)


def test_every_reference_says_how_it_was_checked(bibliography):
    assert_none(record_problems(list(bibliography.entries), RECORD.read_text(encoding="utf8")))


def test_every_entry_is_complete(bibliography):
    assert_none(entry_problems(bibliography))


def test_every_key_is_a_name_and_a_year(bibliography):
    assert_none(key_problems(bibliography))


def test_every_capital_survives(bibliography):
    assert_none(capital_problems(bibliography))


def test_exceptions_are_needed(bibliography):
    assert set(bibliography.entries) >= KEYS_WITHOUT_YEAR | KEYS_OF_ANOTHER_YEAR


GOOD = """
@article{dao2022,
  author = {Dao, Tri and others},
  title = {{FlashAttention} for {GPT-2}: {{IO}-Aware} and Self-Made {\\'E}tudes on {BERT}'s Heads},
  journal = {Journal},
  volume = {1},
  pages = {1--2},
  year = {2022},
}
@misc{dao2022page,
  author = {{Dao Laboratory}},
  title = {A Page},
  url = {https://example.org},
  year = {2022a},
}
"""
GOOD_RECORD = """# How the references were checked

Three sentences.

- `dao2022`: corrected: the pages
- `dao2022page`: not checked: the page was not found
"""


def problems(text: str) -> list[str]:
    bibliography = parse_string(text, "bibtex")
    checks = (entry_problems, key_problems, capital_problems)
    return [problem for check in checks for problem in check(bibliography)]


def test_good_bibliography_has_no_problem():
    assert problems(GOOD) == []


ENTRIES = {
    "no author": ("  author = {Dao, Tri and others},\n", "", "dao2022: no author"),
    "empty author": ("{Dao, Tri and others}", "{}", "dao2022: no author"),
    "no title": ("  title = {A Page},\n", "", "dao2022page: no title"),
    "empty title": ("{A Page}", "{}", "dao2022page: no title"),
    "no year": ("  year = {2022a},\n", "", "dao2022page: no year"),
    "no venue": ("  url = {https://example.org},\n", "", "dao2022page: no venue"),
    "empty venue": ("{https://example.org}", "{}", "dao2022page: no venue"),
    "raw url": (
        "url = {https://example.org}",
        "howpublished = {\\url{https://example.org}}",
        "dao2022page: howpublished shows",
    ),
    "no pages": ("  pages = {1--2},\n", "", "dao2022: without pages"),
    "key without year": ("{dao2022page,", "{daopage,", "daopage: wanted a name"),
    "key without name": ("{dao2022page,", "{2022page,", "2022page: wanted a name"),
    "key with capital": ("{dao2022page,", "{Dao2022page,", "Dao2022page: wanted a name"),
    "key with hyphen": ("{dao2022page,", "{dao2022-page,", "dao2022-page: wanted a name"),
    "another year": ("year = {2022}", "year = {2021}", "dao2022: the entry is of 2021"),
    "unprotected name": (
        "{FlashAttention}",
        "FlashAttention",
        "dao2022: the title's FlashAttention loses its capitals; wanted {FlashAttention}",
    ),
    "unprotected letters": ("{GPT-2}", "GPT-2", "dao2022: the title's GPT loses"),
    "unprotected after a hyphen": ("Self-Made", "Self-MADE", "dao2022: the title's MADE loses"),
    "unprotected after a dot": ("Self-Made", "keras.Mean", "dao2022: the title's keras.Mean loses"),
    "half protected": ("{{IO}-Aware}", "{IO}-AWare", "dao2022: the title's AWare loses"),
}


@pytest.mark.parametrize(("right", "wrong", "message"), ENTRIES.values(), ids=ENTRIES)
def test_bad_entry_is_found(right, wrong, message):
    assert right in GOOD
    (problem,) = problems(GOOD.replace(right, wrong, 1))
    assert problem.startswith(message)


def test_good_record_has_no_problem():
    assert list(record_problems(["dao2022", "dao2022page"], GOOD_RECORD)) == []


FIRST, SECOND = GOOD_RECORD.splitlines(keepends=True)[-2:]
RECORDS = {
    "no line": (FIRST, "", ["dao2022: 0 lines"]),
    "two lines": (FIRST, FIRST + FIRST, ["dao2022: 2 lines"]),
    "no entry": (
        SECOND,
        SECOND + "- `zhang2023`: checked against a list\n",
        ["zhang2023: a line without"],
    ),
    "order": (FIRST + SECOND, SECOND + FIRST, ["the lines are not in alphabetical order"]),
    "no key": (SECOND, SECOND + "- checked against a list\n", ["'- checked against"]),
    "no verdict": ("corrected: the", "the", ["'- `dao2022`: the pages'", "dao2022: 0 lines"]),
}


@pytest.mark.parametrize(("right", "wrong", "messages"), RECORDS.values(), ids=RECORDS)
def test_bad_record_is_found(right, wrong, messages):
    found = list(record_problems(["dao2022", "dao2022page"], GOOD_RECORD.replace(right, wrong)))
    assert len(found) == len(messages)
    assert all(problem.startswith(start) for problem, start in zip(found, messages, strict=True))
