"""Descriptions of parameters from the docstrings of seven libraries, and the kinds of their values.

Real text with real labels. An author of NumPy, say, wrote in a docstring

    axis : int, optional
        The axis along which to sort. The default is the last axis.

The description in the second line is the input; the kind of value, `integer`, is read off the
first. The libraries are the sources: what is trained on, validated on and tested on comes from
libraries that differ, so a model cannot do well by knowing one project's habits.
"""

from __future__ import annotations

import collections
import importlib
import inspect
import json
import os
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from attn_tutorial.fresh_process import printed_by

KINDS = ("array", "boolean", "callable", "float", "integer", "mapping", "string")

PARTS = {
    "training": ("scikit-learn", "scipy", "statsmodels"),
    "validation": ("pandas",),
    "test": ("matplotlib", "networkx", "numpy"),
}
MODULES = {"scikit-learn": "sklearn"}  # where a library's module has another name

PADDING, UNKNOWN = 0, 1
FEWEST_WORDS = 3

# What is no part of a library's interface, or cannot be imported everywhere.
LEFT_OUT = re.compile(r"\.(_|tests?\b|conftest|testing|sandbox|examples|backends|setup|f2py)")
# Words of a type that decide its kind; an array of integers is an array.
KIND_WORDS = {
    "array": r"array|matrix|matrices|ndarray|dataframe|series",
    "boolean": r"\bbool(ean)?s?\b",
    "callable": r"callable|function",
    "float": r"\bfloats?\b|\bscalars?\b|\breal\b",
    "integer": r"\bint(eger)?s?\b",
    "mapping": r"\bdict(ionary)?\b|\bmapping\b",
    "string": r"\bstr(ing)?s?\b|choice",
}
COLLECTIONS = re.compile(r"\b(list|tuple|sequence|iterable|set|iterator)s?\b")
WORD = re.compile(r"[a-z_]+|[0-9]+(?:\.[0-9]+)?|[^\sa-z0-9_]")


@dataclass(frozen=True)
class Example:
    """One parameter's description, with the kind of its value and the library that it is from."""

    text: str
    kind: str
    library: str


def kind_of(declared: str) -> str | None:
    """The kind of value that a declared type names.

    Parameters
    ----------
    declared : str
        The type as numpydoc writes it behind the colon, such as `int or None, optional`.

    Returns
    -------
    str or None
        One of `KINDS`; None where the type names no kind, or several, or a list of its values.
    """
    text = re.sub(r"\{[^}]*\}", "choice", declared.lower())
    text = re.split(r"\boptional\b|\bdefault\b|=", text)[0]
    if "{" in text or COLLECTIONS.search(text):  # a brace that does not close: the type goes on
        return None
    if re.match(r"array|ndarray|matrix", text) and " or " not in text:
        return "array"
    found = [kind for kind, words in KIND_WORDS.items() if re.search(words, text)]
    return found[0] if len(found) == 1 else None


def words_of(text: str) -> list[str]:
    """The words, numbers and signs of a description, in lower case; every number is `0`."""
    return ["0" if word[0].isdigit() else word for word in WORD.findall(text.lower())]


def docstrings(module_name: str) -> Iterator[str]:
    """Each docstring with a section of parameters that a library's public modules hold, once."""
    package = importlib.import_module(module_name)
    names = [module_name]
    walk = pkgutil.walk_packages(package.__path__, module_name + ".", onerror=lambda _: None)
    names += sorted(info.name for info in walk if not LEFT_OUT.search(info.name))
    seen = set()
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception:  # a module may want a library that is not installed
            continue
        for _, member in sorted(vars(module).items()):
            members = [member]
            if inspect.isclass(member):
                public = sorted(key for key in vars(member) if not key.startswith("_"))
                members += [vars(member)[key] for key in public]
            for item in members:
                text = getattr(item, "__doc__", None)
                home = getattr(item, "__module__", None) or name
                if (
                    isinstance(text, str)
                    and re.search(r"^\s*Parameters\n\s*---", text, flags=re.M)
                    and str(home).startswith(module_name)
                    and text not in seen
                ):
                    seen.add(text)
                    yield inspect.cleandoc(text)


def read_library(library: str) -> list[Example]:
    """All parameters of a library that have a description and a type that names one kind."""
    from numpydoc.docscrape import NumpyDocString

    examples = []
    for text in docstrings(MODULES.get(library, library)):
        try:
            parameters = NumpyDocString(text)["Parameters"]
        except ValueError:  # a section twice, say: not in numpydoc's format
            continue
        for parameter in parameters:
            kind = kind_of(parameter.type)
            description = " ".join(" ".join(parameter.desc).split())
            if kind is not None and len(words_of(description)) >= FEWEST_WORDS:
                examples.append(Example(description, kind, library))
    return examples


def read_libraries() -> list[Example]:
    """The examples of all libraries, in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [
            example
            for libraries in PARTS.values()
            for library in libraries
            for example in read_library(library)
        ]


def load_examples(cache: str | os.PathLike | None = None) -> list[Example]:
    """All examples, read by a fresh process, since a library may change another's docstrings.

    Parameters
    ----------
    cache : path, optional
        A file that keeps them with the versions read, written if it is not there.

    Returns
    -------
    list of Example

    Raises
    ------
    ValueError
        Where the cache was made from other versions of the libraries.
    """
    if cache is not None and Path(cache).exists():
        content = json.loads(Path(cache).read_text(encoding="utf8"))
        if content["versions"] != versions():
            raise ValueError(
                f"{Path(cache).name} was made from {content['versions']}, and installed are "
                f"{versions()}. Remove it to read the libraries again"
            )
        return [Example(**example) for example in content["examples"]]
    printed = printed_by(__name__)
    content = json.loads(printed)
    if cache is not None:
        partial = Path(cache).with_name(Path(cache).name + ".partial")
        partial.write_text(printed, encoding="utf8")
        os.replace(partial, cache)
    return [Example(**example) for example in content["examples"]]


def versions() -> dict[str, str]:
    """The versions of the libraries, on which the examples depend."""
    return {library: version(library) for part in PARTS.values() for library in part}


def split(examples: list[Example]) -> dict[str, list[Example]]:
    """Parts for training, validation and test whose libraries differ, and whose texts do too.

    A text that occurs in several parts stays in the test part, or else in that for validation.
    Within a part each text occurs once; one that describes values of several kinds is left out.

    Parameters
    ----------
    examples : list of Example

    Returns
    -------
    dict of list of Example
        By the names of `PARTS`.
    """
    parts: dict[str, list[Example]] = {}
    taken: set[tuple[str, ...]] = set()
    for part in ("test", "validation", "training"):
        by_text: dict[tuple[str, ...], list[Example]] = collections.defaultdict(list)
        for example in examples:
            if example.library in PARTS[part]:
                by_text[tuple(words_of(example.text))].append(example)
        parts[part] = [
            same[0]
            for words, same in by_text.items()
            if words not in taken and len({example.kind for example in same}) == 1
        ]
        taken |= by_text.keys()
    return {part: parts[part] for part in PARTS}


class Vocabulary:
    """Numbers for the words that the training part uses twice or more.

    Parameters
    ----------
    texts : list of str
        The descriptions of the training part: the other parts must not decide what is known.
    fewest : int
        How often a word must occur.
    """

    def __init__(self, texts: list[str], *, fewest: int = 2) -> None:
        counts = collections.Counter(word for text in texts for word in words_of(text))
        self.words = sorted(word for word, count in counts.items() if count >= fewest)
        self._number_them()

    @classmethod
    def of_words(cls, words: list[str]) -> Vocabulary:
        """The vocabulary whose `words` these are."""
        vocabulary = cls([])
        vocabulary.words = list(words)
        vocabulary._number_them()
        return vocabulary

    def _number_them(self) -> None:
        self.number = {word: i for i, word in enumerate(self.words, UNKNOWN + 1)}

    def __len__(self) -> int:
        """How many numbers there are, those for padding and for unknown words included."""
        return len(self.number) + UNKNOWN + 1

    def encode(self, texts: list[str], *, length: int) -> Int[Tensor, "n length"]:
        """The numbers of the words of each text, int64; longer texts are cut, shorter ones padded.

        Raises
        ------
        ValueError
            Where a text has no word.
        """
        tokens = torch.full((len(texts), length), PADDING)
        for row, text in zip(tokens, texts, strict=True):
            numbers = [self.number.get(word, UNKNOWN) for word in words_of(text)[:length]]
            if not numbers:
                raise ValueError(f"a description needs at least one word; got {text!r}")
            row[: len(numbers)] = torch.tensor(numbers)
        return tokens


def labels(examples: list[Example]) -> Int[Tensor, " n"]:
    """The numbers of the examples' kinds, in the order of `KINDS`, int64."""
    return torch.tensor([KINDS.index(example.kind) for example in examples])


if __name__ == "__main__":
    json.dump(
        {"versions": versions(), "examples": [asdict(example) for example in read_libraries()]},
        sys.stdout,
        ensure_ascii=False,
    )
