"""What is counted in the documents agrees with them, and holds none of their sentences."""

import json
import re

import pytest

from errata.test_errata import DOCUMENTS, needs_documents
from tools.experiments import document_fingerprints as fingerprints

STORED = json.loads(fingerprints.RESULTS.read_text(encoding="utf8"))


@needs_documents
def test_the_record_is_that_of_the_documents():
    assert fingerprints.record_of(DOCUMENTS) == STORED


def test_all_documents_are_there_and_none_of_their_sentences():
    assert list(STORED["documents"]) == ["000", "001", "002", "003", "004"]
    for sections in STORED["documents"].values():
        for section in sections:
            for mark in section["sentences"] + section["clauses"]:
                assert re.fullmatch(r"[0-9a-f]{10}", mark)
            assert len(section["heading"]) < 40


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("注意力 机制", "注意力机制", True), ("注意力机制", "注意力机", False)],
)
def test_blanks_do_not_tell_sentences_apart(one, other, same):
    assert (fingerprints.fingerprint(one) == fingerprints.fingerprint(other)) is same
