"""Texts with summaries by their authors: docstrings, whose first line sums up what follows it.

A docstring in the style of NumPy opens with a summary of one line. Behind it stands an extended
description, in prose, and then the sections: parameters, returns and so on. The description is the
text here, and the first line its summary. Authors wrote both; nobody wrote them for this purpose.

The libraries are those of `attn_tutorial.parameter_kinds.data`, and the parts are the same: what is
trained on, chosen by and tested on comes from libraries that differ.
"""

from __future__ import annotations

import collections
import itertools
import json
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from attn_tutorial.fresh_process import printed_by
from attn_tutorial.parameter_kinds.data import MODULES, PARTS, docstrings

PADDING, UNKNOWN, BEGIN, END = range(4)
LONGEST_TEXT = 60  # words that the generator reads

FEWEST_WORDS, FEWEST_SENTENCES, MOST_SENTENCES = 25, 2, 10
FEWEST_SUMMARY_WORDS, MOST_SUMMARY_WORDS = 3, 20
SHORTEST_TRAINING_TEXT = 10

UNDERLINED = re.compile(r"^[^\n]*\S[^\n]*\n[ \t]*[-=~]{3,}[ \t]*$", flags=re.M)  # a section's title
SIGNATURE = re.compile(r"^[\w.]+\(.*?\)(\s*->.*)?$", flags=re.S)
# What opens a paragraph that is no prose: a directive, a list, a table, code.
NO_PROSE = re.compile(r"\.\. |>>>|[*\-+•] |\||[0-9#]+[.)] |\s|[=+]{2}|\$")
ROLE = re.compile(r":[a-z:]*math:`[^`]*`|\$[^$]*\$")
LINK = re.compile(r":[\w:]+:`(?:[^`<]*<)?[~!.]*([^`>]*)>?`")
FOOTNOTE = re.compile(r"\s*\[[\w*#]+\]_")
SENTENCE_END = re.compile(
    r"(?<![.\s]\w)(?<!\be\.g)(?<!\bi\.e)(?<!etc)(?<!\bvs)[.!?]\s+(?=[A-Z(`\"'*])"
)
# A sentence that only leads to code that was left out, or to another page.
NO_STATEMENT = re.compile(r":$|^(read more|see|refer to|for [^.]*\bsee)\b", flags=re.I)
WORD = re.compile(r"[a-z0-9]+(?:[_'][a-z0-9]+)*|[.,;:()=]")


@dataclass(frozen=True)
class Document:
    """A text, sentence by sentence, with the summary that its author gave it."""

    summary: str
    sentences: list[str]
    library: str

    @property
    def text(self) -> str:
        """All sentences."""
        return " ".join(self.sentences)


def words_of(text: str) -> list[str]:
    """The words and signs of a text in lower case; a name such as `read_csv` is one word."""
    return WORD.findall(text.lower())


def plain(text: str) -> str:
    """A text without the marks of reStructuredText; a formula becomes the word `formula`."""
    text = ROLE.sub("formula", text)
    text = LINK.sub(r"\1", text)
    text = FOOTNOTE.sub("", text)
    text = re.sub(r"`+([^`<]*?)\s*(?:<[^`]*>)?`+_*", lambda m: m[1].lstrip("~!."), text)
    return " ".join(text.replace("**", "").replace("*", "").split())


def sentences_of(paragraph: str) -> list[str]:
    """The sentences of a paragraph of prose, each with its closing sign."""
    cuts = [match.end() for match in SENTENCE_END.finditer(paragraph)]
    pieces = [paragraph[a:b].strip() for a, b in itertools.pairwise([0, *cuts, len(paragraph)])]
    return [piece for piece in pieces if piece]


def read(docstring: str, library: str) -> Document | None:
    """The summary and the text of a docstring; None where it has not both."""
    title = UNDERLINED.search(docstring)
    head = docstring[: title.start()] if title else docstring
    paragraphs = [p for p in re.split(r"\n\s*\n", head.strip()) if p.strip()]
    if paragraphs and SIGNATURE.match(paragraphs[0].strip()):
        paragraphs = paragraphs[1:]
    if len(paragraphs) < 2 or NO_PROSE.match(paragraphs[0]):
        return None
    prose = [p for p in paragraphs[1:] if not NO_PROSE.match(p)]
    sentences = [sentence for p in prose for sentence in sentences_of(plain(p))]
    sentences = [s for s in sentences if not NO_STATEMENT.search(s) and len(words_of(s)) >= 4]
    summary = plain(paragraphs[0])
    if not sentences or not summary:
        return None
    return Document(summary, sentences[:MOST_SENTENCES], library)


def read_libraries() -> list[Document]:
    """The documents of all libraries, in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = (
            read(docstring, library)
            for libraries in PARTS.values()
            for library in libraries
            for docstring in docstrings(MODULES.get(library, library))
        )
        return [document for document in found if document is not None]


def load_documents() -> list[Document]:
    """All documents, read by a fresh process, since a library may change another's docstrings."""
    return [Document(**content) for content in json.loads(printed_by(__name__))]


def split(documents: Sequence[Document]) -> dict[str, list[Document]]:
    """Parts for training, validation and test from libraries that differ.

    A document counts where its summary has 3 to 20 words, and its text has 25 words and two
    sentences or more; "short" holds those of the training's libraries whose text is shorter, with
    10 words at least, from which only the generator learns. A text, and a summary, that occurs in
    several parts stays in the first of: test, validation, training, short. Within a part no text
    occurs twice.

    Returns
    -------
    dict of list of Document
        By the names "training", "validation", "test" and "short".
    """
    parts: dict[str, list[Document]] = {}
    taken: set[tuple[str, ...]] = set()
    for part in ("test", "validation", "training", "short"):
        found: dict[tuple[str, ...], Document] = {}
        for document in documents:
            text, summary = tuple(words_of(document.text)), tuple(words_of(document.summary))
            long = len(text) >= FEWEST_WORDS and len(document.sentences) >= FEWEST_SENTENCES
            enough = len(text) >= SHORTEST_TRAINING_TEXT and not long if part == "short" else long
            if (
                document.library in PARTS["training" if part == "short" else part]
                and enough
                and FEWEST_SUMMARY_WORDS <= len(summary) <= MOST_SUMMARY_WORDS
                and not taken & {text, summary}
                and summary not in {tuple(words_of(s)) for s in document.sentences}
            ):
                found.setdefault(text, document)
        parts[part] = list(found.values())
        taken |= {tuple(words_of(d.text)) for d in parts[part]}
        taken |= {tuple(words_of(d.summary)) for d in parts[part]}
    return parts


class Words:
    """Numbers for words: first those that a model knows, then the names of all others.

    A model has an embedding for the words that occur in three documents of its training or more.
    Every other word gets a number when it is first met, so that a pointer can say which word it
    means; no parameter belongs to it. Documents are counted, not occurrences: a name that one text
    and its summary use has to stay unknown, or training would hold no unknown word to copy.

    Parameters
    ----------
    documents : sequence of Document
        Of the training alone.
    fewest : int
        In how many documents a word must occur, be it in the text or in the summary.

    Attributes
    ----------
    n_known : int
        How many numbers have an embedding, the four that are no words included.
    """

    def __init__(self, documents: Sequence[Document], *, fewest: int = 3) -> None:
        counts = collections.Counter(
            word for d in documents for word in {*words_of(d.text), *words_of(d.summary)}
        )
        self.words = ["", "<unknown>", "<begin>", "<end>"]
        self.words += sorted(word for word, count in counts.items() if count >= fewest)
        self.number = {word: i for i, word in enumerate(self.words)}
        self.n_known = len(self.words)

    def __len__(self) -> int:
        """How many numbers were given so far."""
        return len(self.words)

    def numbers(self, text: str) -> list[int]:
        """The number of each word; a new word gets a new one."""
        for word in words_of(text):
            if word not in self.number:
                self.number[word] = len(self.words)
                self.words.append(word)
        return [self.number[word] for word in words_of(text)]

    def sources(self, documents: Sequence[Document]) -> Int[Tensor, "n n_source"]:
        """The words of the texts, int64, the first 80, padded behind the end."""
        return _padded([self.numbers(document.text)[:LONGEST_TEXT] for document in documents])

    def targets(self, documents: Sequence[Document]) -> Int[Tensor, "n n_target"]:
        """The words of the summaries, int64, between `BEGIN` and `END`, padded behind it."""
        return _padded([[BEGIN, *self.numbers(document.summary), END] for document in documents])

    def text(self, numbers: Sequence[int]) -> str:
        """The words of the numbers, without padding."""
        return " ".join(self.words[number] for number in numbers if number != PADDING)


def _padded(rows: list[list[int]]) -> Int[Tensor, "n longest"]:
    table = torch.full((len(rows), max(map(len, rows))), PADDING)
    for row, numbers in zip(table, rows, strict=True):
        row[: len(numbers)] = torch.tensor(numbers)
    return table


if __name__ == "__main__":
    json.dump([asdict(document) for document in read_libraries()], sys.stdout, ensure_ascii=False)
