"""The concordance, read and checked: where the course treats each line of the documents' contents.

The page and the tests both use this. An entry of the YAML file has

- `id`: the line, such as 003-21, or X-01 for what concerns several documents;
- `kind`: what the line is (KINDS);
- `says`: what it says, in a few words;
- `treated`: where, as pages (chapters/a/b.ipynb) or cells (chapters/a/b.ipynb#c-d).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from tools.errata import DOCUMENTS, choice_problems, field_problems, list_problems, text_problems

# How many lines each document's contents have, and those that concern several documents.
LINES = {"000": 33, "001": 30, "002": 31, "003": 37, "004": 73, "X": 8}

KINDS = (
    "announcement",
    "background",
    "challenge",
    "claim",
    "code",
    "concept",
    "conclusion",
    "disadvantage",
    "advantage",
    "example",
    "figure",
    "formula",
    "application",
    "output",
    "question",
    "resource",
    "step",
    "structure",
    "trend",
    "across documents",
)
# What these treat must be shown by a cell, not only told on a page.
SHOWN_BY_A_CELL = {"code", "example", "formula", "output", "step"}

LINE = re.compile(r"(00[0-4]|X)-(\d\d)")
TARGET = re.compile(r"(chapters/[\w/-]+\.(?:ipynb|md))(?:#([a-z0-9]+(?:-[a-z0-9]+)*))?")
FIELDS = {"required": {"id", "kind", "says", "treated"}, "optional": set()}


@dataclass(frozen=True)
class Target:
    """A page, or a code cell of it."""

    path: str
    cell: str | None

    @property
    def docname(self) -> str:
        return self.path.rpartition(".")[0]


@dataclass(frozen=True)
class Line:
    """One line of the documents' contents."""

    id: str
    kind: str
    says: str
    treated: tuple[Target, ...]

    @property
    def document(self) -> str:
        return self.id.partition("-")[0]


def wanted_ids() -> list[str]:
    """The ids of all lines, in order."""
    return [f"{name}-{number:02}" for name, n in LINES.items() for number in range(1, n + 1)]


def load(path: str | Path) -> list[Line]:
    """Read the concordance; a ValueError names every entry that is wrong and what was wanted."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError as error:
        raise ValueError(f"cannot read the concordance: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(content, list):
        raise ValueError(f"{path.name}: wanted a list of lines, got {type(content).__name__}")

    problems = [
        f"{name_of(raw, number)}: {problem}"
        for number, raw in enumerate(content, 1)
        for problem in line_problems(raw)
    ]
    ids = [raw.get("id") for raw in content if isinstance(raw, dict)]
    problems += [f"{name}: the line is missing" for name in wanted_ids() if name not in ids]
    if not problems and ids != wanted_ids():
        problems.append("the lines are not each there once, in order")
    if problems:
        raise ValueError(f"{path.name}:\n  " + "\n  ".join(problems))
    return [build(raw) for raw in content]


def name_of(raw: object, number: int) -> str:
    """How to call an entry in a message."""
    named = isinstance(raw, dict) and isinstance(raw.get("id"), str)
    return raw["id"] if named else f"entry number {number}"


def line_problems(raw: object) -> list[str]:
    if not isinstance(raw, dict):
        return [f"wanted a mapping with the fields of a line, got {raw!r}"]
    problems = field_problems(raw, FIELDS)
    problems += text_problems(raw, "says")
    problems += choice_problems(raw, "kind", KINDS)
    problems += list_problems(raw, "treated", TARGET, "a page or a cell, path or path#cell-id")
    if raw.get("id") not in wanted_ids():
        problems.append(f"id: there is no line {raw.get('id')!r}")
    if "treated" in raw and not raw["treated"]:
        problems.append("treated: wanted at least one page or cell")
    shown = any("#" in str(target) for target in raw.get("treated") or [])
    if raw.get("kind") in SHOWN_BY_A_CELL and raw.get("treated") and not shown:
        problems.append(f"a line of kind {raw['kind']} needs a cell that shows it")
    return problems


def build(raw: dict) -> Line:
    """A line from fields that have been checked."""
    return Line(
        id=raw["id"],
        kind=raw["kind"],
        says=raw["says"],
        treated=tuple(Target(*TARGET.fullmatch(text).groups()) for text in raw["treated"]),
    )


def documents() -> list[str]:
    """The names of the groups, in order: the documents, and X for what concerns several."""
    return [*DOCUMENTS, "X"]
