"""The errata ledger agrees with the notebooks, the bibliography and the documents."""

from pathlib import Path

import pytest
from pybtex.database import parse_file

from errata import ledger
from tools import errata

ROOT = Path(__file__).resolve().parents[2]
LEDGER = ROOT / "chapters" / "faq" / "errata.yml"
# The documents are not ours to publish: they lie beside the repository, where there are any.
DOCUMENTS = ROOT.parent / "shared" / "documents"

needs_documents = pytest.mark.skipif(
    not DOCUMENTS.is_dir(),
    reason="the documents do not lie beside this copy, in ../shared/documents",
)


@pytest.fixture(scope="module")
def entries():
    return errata.load(LEDGER)


def assert_none(problems):
    found = list(problems)
    assert not found, "\n" + "\n".join(found)


def test_ledger_has_entries(entries):
    assert entries


def test_every_proof_proves(entries):
    assert_none(ledger.proof_problems(entries, ROOT))


def test_every_source_is_in_the_bibliography(entries):
    keys = set(parse_file(ROOT / "references.bib").entries)
    assert_none(ledger.source_problems(entries, keys))


@needs_documents
def test_every_quotation_is_verbatim(entries):
    assert_none(ledger.quote_problems(entries, ledger.read_documents(DOCUMENTS)))


@needs_documents
def test_every_coverage_line_exists(entries):
    assert_none(ledger.coverage_problems(entries, ledger.read_coverage(DOCUMENTS)))
