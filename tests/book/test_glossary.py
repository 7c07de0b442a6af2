"""The glossary is complete in each entry, and points at what is there."""

import re
from pathlib import Path

import pytest
import yaml

from errata import ledger
from errata.test_errata import DOCUMENTS, ROOT, assert_none, needs_documents
from tools import glossary

PATH = ROOT / "chapters" / "faq" / "glossary.yml"
LONGEST = 330  # characters of a definition, so that it fits on a card


@pytest.fixture(scope="module")
def terms():
    return glossary.load(PATH)


def long_ones(terms):
    for term in terms:
        if len(term.says) > LONGEST:
            yield f"{term.id}: {len(term.says)} characters; at most {LONGEST} fit on a card"
        if not term.says.endswith("."):
            yield f"{term.id}: the definition is no sentence: {term.says!r}"


def foreign(terms, folder: Path):
    """Words that the documents do not have."""
    texts = {path.name[:3]: path.read_text(encoding="utf8") for path in folder.glob("00?_*.txt")}
    for term in terms:
        for one in term.documents:
            if one.words not in texts[one.document]:
                yield f"{term.id}: document {one.document} does not say {one.words}"


def test_what_is_shown_is_there(terms):
    assert len(terms) >= 100
    assert_none(ledger.target_problems([(term.id, term.shown) for term in terms], ROOT))


def test_the_definitions_fit_on_a_card(terms):
    assert_none(long_ones(terms))


@needs_documents
def test_the_documents_words_are_theirs(terms):
    assert_none(foreign(terms, DOCUMENTS))


def test_every_reference_to_a_term_has_its_name(terms):
    """Between asterisks, after "compare", stands another term of the glossary."""
    names = {term.term for term in terms}
    for term in terms:
        for name in re.findall(r"compare \*([^*]+)\*", term.says):
            assert name in names, f"{term.id} names {name}, which is no term"


# Each check is shown to fail.


def with_first(**fields) -> list[dict]:
    """The glossary with other fields in its first entry; None takes a field away."""
    raw = yaml.safe_load(PATH.read_text(encoding="utf8"))
    raw[0] = {key: value for key, value in (raw[0] | fields).items() if value is not None}
    return raw


def load(folder: Path, raw: object):
    path = folder / "glossary.yml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf8")
    return glossary.load(path)


REFUSED = {
    "no list": ({}, "wanted a list of terms"),
    "no mapping": (["softmax"], "wanted a mapping with the fields of a term"),
    "no definition": (with_first(says=None), "says: the field is missing"),
    "empty": (with_first(says=" "), "says: wanted a text"),
    "no Chinese": (with_first(chinese="softmax"), "wanted Chinese words, got 'softmax'"),
    "bad id": (with_first(id="No Id"), "wanted words joined by hyphens"),
    "id twice": (with_first(id="value"), "id 'value': it is there more than once"),
    "term twice": (with_first(term="Value"), "term 'value': it is there more than once"),
    "no page": (with_first(shown="softmax"), "shown: wanted a page or a cell"),
    "unknown field": (with_first(colour="red"), "colour: no such field"),
    "words without a document": (
        with_first(documents=[{"words": "键"}]),
        "document: the field is missing",
    ),
    "no such document": (
        with_first(documents=[{"words": "键", "document": "009"}]),
        "document: wanted one of 000",
    ),
    "words as a text": (with_first(documents="键"), "documents: wanted a list"),
    "words in a list": (with_first(documents=["键"]), "wanted words and a document"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_malformed_glossary_is_refused(tmp_path, name):
    raw, problem = REFUSED[name]
    with pytest.raises(ValueError, match=problem):
        load(tmp_path, raw)


def test_a_glossary_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="cannot read the glossary"):
        glossary.load(tmp_path / "nothing.yml")
    (tmp_path / "broken.yml").write_text("[", encoding="utf8")
    with pytest.raises(ValueError, match="is not valid YAML"):
        glossary.load(tmp_path / "broken.yml")


def test_each_check_of_the_terms_fails(tmp_path):
    (first, *_) = load(tmp_path, with_first(shown="chapters/math/softmax.ipynb#nothing-here"))
    (problem,) = ledger.target_problems([(first.id, first.shown)], ROOT)
    assert "has no code cell nothing-here" in problem
    (first, *_) = load(tmp_path, with_first(says="Long. " * 100))
    assert len(list(long_ones([first]))) == 2


@needs_documents
def test_words_that_no_document_has_are_told(tmp_path):
    (first, *_) = load(tmp_path, with_first(documents=[{"words": "燃素", "document": "000"}]))
    (problem,) = foreign([first], DOCUMENTS)
    assert "document 000 does not say 燃素" in problem
