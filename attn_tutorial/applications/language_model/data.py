"""Texts to model: the docstrings of seven libraries, and two ways to cut them into tokens.

The libraries are those of `attn_tutorial.parameter_kinds.data`, and the parts are the same: what is
trained on, chosen by and tested on comes from libraries that differ. Libraries copy from each other
and from themselves, so a text counts only where most of its lines are new.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from attn_tutorial.parameter_kinds.data import MODULES, PARTS, docstrings, printed_by

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
END = 0  # the token behind every text
LONGEST = 1000  # characters of a docstring that are read
SHORTEST_LINE = 20  # shorter ones, such as "Parameters", say nothing about copies
PIECE = r" ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\n+ *| +"  # no token reaches beyond one of these

Stream = Int[np.ndarray, " n"]


@dataclass(frozen=True)
class Document:
    """A docstring, or its beginning, and the library that it is from."""

    text: str
    library: str


def beginning(text: str, longest: int = LONGEST) -> str:
    """The first lines of a text, as many as `longest` characters hold."""
    if len(text) <= longest:
        return text
    return text[: max(text.rfind("\n", 0, longest + 1), 0)]


def read_libraries() -> list[Document]:
    """The beginnings of the docstrings of all libraries, in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            Document(beginning(text), library)
            for libraries in PARTS.values()
            for library in libraries
            for text in docstrings(MODULES.get(library, library))
        ]


def load_documents() -> list[Document]:
    """All documents, read by a fresh process, since a library may change another's docstrings."""
    return [Document(**content) for content in json.loads(printed_by(__name__))]


def lines_of(text: str) -> set[str]:
    """The lines of a text that are long enough to be recognised, without indentation."""
    lines = (line.strip() for line in text.splitlines())
    return {line for line in lines if len(line) >= SHORTEST_LINE}


def split(documents: Sequence[Document]) -> dict[str, list[Document]]:
    """Parts for training, validation and test from libraries that differ.

    Texts are gone through in the order test, validation, training. One counts where it has a long
    line, more than half of its long lines are in no text before it, and all its characters are in
    `ALPHABET`.

    Returns
    -------
    dict of list of Document
        By the names of `PARTS`.
    """
    parts: dict[str, list[Document]] = {}
    seen: set[str] = set()
    for part in ("test", "validation", "training"):
        parts[part] = []
        for document in documents:
            lines = lines_of(document.text)
            if (
                document.library in PARTS[part]
                and 2 * len(lines - seen) > len(lines)
                and set(document.text) <= set(ALPHABET)
            ):
                parts[part].append(document)
                seen |= lines
    return {part: parts[part] for part in PARTS}


class Characters:
    """One token for each character: 0 is `END`, then the characters of `ALPHABET`."""

    def __init__(self) -> None:
        self.number = {character: i for i, character in enumerate(ALPHABET, END + 1)}

    def __len__(self) -> int:
        """How many tokens there are, `END` included."""
        return len(self.number) + 1

    def encode(self, text: str) -> list[int]:
        """The numbers of the characters.

        Raises
        ------
        ValueError
            Where a character is not in `ALPHABET`.
        """
        unknown = set(text) - set(self.number)
        if unknown:
            raise ValueError(f"text must hold characters of ALPHABET; got {sorted(unknown)}")
        return [self.number[character] for character in text]

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """What each token stands for; nothing for `END`."""
        return [ALPHABET[token - 1] if token != END else "" for token in tokens]


class BytePairs:
    """Tokens of one or more characters: the most frequent pair is joined, again and again.

    Parameters
    ----------
    texts : sequence of str
        Of the training part.
    n_tokens : int
        How many tokens there shall be, `END` and the characters of `ALPHABET` included.

    References
    ----------
    Sennrich, Haddow and Birch (2016), "Neural Machine Translation of Rare Words with Subword
    Units", ACL, section 3.2.
    """

    def __init__(self, texts: Sequence[str], n_tokens: int) -> None:
        if n_tokens < len(ALPHABET) + 1:
            raise ValueError(f"n_tokens must be at least {len(ALPHABET) + 1}; got {n_tokens}")
        self.tokenizer = Tokenizer(models.BPE())
        self.tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), "isolated")
        trainer = trainers.BpeTrainer(
            vocab_size=n_tokens,
            initial_alphabet=list(ALPHABET),
            special_tokens=["<end>"],  # number 0
            show_progress=False,
        )
        self.tokenizer.train_from_iterator(texts, trainer)

    def __len__(self) -> int:
        """How many tokens there are, `END` included."""
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The numbers of the tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """What each token stands for; nothing for `END`."""
        return [self.tokenizer.id_to_token(t) if t != END else "" for t in tokens]


def stream(documents: Sequence[Document], tokens: Characters | BytePairs) -> Stream:
    """The tokens of all documents one behind the other, int64, `END` behind each."""
    return np.concatenate([[*tokens.encode(document.text), END] for document in documents])


def n_characters(documents: Sequence[Document]) -> int:
    """How many characters the documents have; the end of each counts as one."""
    return sum(len(document.text) + 1 for document in documents)


if __name__ == "__main__":
    json.dump([asdict(document) for document in read_libraries()], sys.stdout)
