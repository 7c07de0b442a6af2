"""The glossary, read and checked: the book's terms, from which its page and the flash cards come.

An entry of the YAML file has

- `id`: a name that stays for ever;
- `term`, `chinese`: the field's usual words in both languages;
- `says`: a definition, in Markdown, with formulas between dollar signs;
- `shown`: the page, or the cell, that shows it best (chapters/a/b.ipynb#c-d);
- `also`: other names of the same, optional;
- `documents`: words of the documents for it, each with the document's number, optional.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools.concordance import TARGET, Target, name_of
from tools.errata import CHINESE, DOCUMENTS, choice_problems, field_problems, text_problems

ENTRY_ID = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
FIELDS = {
    "required": {"id", "term", "chinese", "says", "shown"},
    "optional": {"also", "documents"},
}
WORD_FIELDS = {"required": {"words", "document"}, "optional": set()}


@dataclass(frozen=True)
class Words:
    """What a document calls a thing."""

    words: str
    document: str


@dataclass(frozen=True)
class Term:
    """One term of the book."""

    id: str
    term: str
    chinese: str
    says: str
    shown: Target
    also: str | None
    documents: tuple[Words, ...]


def load(path: str | Path) -> list[Term]:
    """Read the glossary; a ValueError names every entry that is wrong and what was wanted."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError as error:
        raise ValueError(f"cannot read the glossary: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(content, list) or not content:
        raise ValueError(f"{path.name}: wanted a list of terms, got {content!r}"[:200])
    problems = [
        f"{name_of(raw, number)}: {problem}"
        for number, raw in enumerate(content, 1)
        for problem in entry_problems(raw)
    ]
    for field in ("id", "term", "says"):
        values = [str(raw.get(field)).lower() for raw in content if isinstance(raw, dict)]
        twice = sorted({value for value in values if values.count(value) > 1})
        problems += [f"{field} {value!r}: it is there more than once" for value in twice]
    if problems:
        raise ValueError(f"{path.name}:\n  " + "\n  ".join(problems))
    return [build(raw) for raw in content]


def entry_problems(raw: object) -> list[str]:
    if not isinstance(raw, dict):
        return [f"wanted a mapping with the fields of a term, got {raw!r}"]
    problems = field_problems(raw, FIELDS)
    for field in ("term", "chinese", "says", "also"):
        problems += text_problems(raw, field)
    if not ENTRY_ID.fullmatch(str(raw.get("id", ""))):
        problems.append(f"id: wanted words joined by hyphens, got {raw.get('id')!r}")
    if "chinese" in raw and not CHINESE.search(str(raw["chinese"])):
        problems.append(f"chinese: wanted Chinese words, got {raw['chinese']!r}")
    if "shown" in raw and not TARGET.fullmatch(str(raw["shown"])):
        problems.append(f"shown: wanted a page or a cell, path or path#cell-id, got {raw['shown']}")
    words = raw.get("documents") or []
    if not isinstance(words, list):
        return [*problems, f"documents: wanted a list, got {words!r}"]
    for one in words:
        if not isinstance(one, dict):
            problems.append(f"documents: wanted words and a document, got {one!r}")
            continue
        problems += field_problems(one, WORD_FIELDS)
        problems += choice_problems(one, "document", DOCUMENTS) + text_problems(one, "words")
    return problems


def build(raw: dict) -> Term:
    """A term from fields that have been checked."""
    return Term(
        id=raw["id"],
        term=raw["term"],
        chinese=raw["chinese"],
        says=raw["says"],
        shown=Target(*TARGET.fullmatch(raw["shown"]).groups()),
        also=raw.get("also"),
        documents=tuple(Words(**one) for one in raw.get("documents") or ()),
    )


def titles(terms: Iterable[Term], root: Path) -> dict[str, str]:
    """The title of each page that shows a term; of one that is not there, its path."""
    return {path: title(root / path) or path for path in {term.shown.path for term in terms}}


def title(path: Path) -> str | None:
    """The first heading of a page."""
    if not path.is_file():
        return None
    source = path.read_text(encoding="utf8")
    if path.suffix == ".ipynb":
        source = "".join(json.loads(source)["cells"][0]["source"])
    return re.search(r"^# (.+)$", source, flags=re.MULTILINE)[1]
