"""The map of the chapters and the ways through the book, read and checked.

The YAML file has `needs`, for each chapter the chapters that it needs, and `ways`, each with a
name, what it is for, and steps of some chapters each. A chapter is named by its path within
chapters/, without its ending.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from tools.errata import field_problems, text_problems

WORDS_A_MINUTE = 180
LINES_A_MINUTE = 15
FOLDED = {"hide-cell", "hide-input"}
WAY_FIELDS = {"required": {"name", "says", "steps"}, "optional": set()}
STEP_FIELDS = {"required": {"does", "chapters"}, "optional": set()}


@dataclass(frozen=True)
class Step:
    """Some chapters that are read one after the other."""

    does: str
    chapters: tuple[str, ...]


@dataclass(frozen=True)
class Way:
    """A selection of chapters, in an order that their needs allow."""

    name: str
    says: str
    steps: tuple[Step, ...]

    @property
    def chapters(self) -> list[str]:
        return [chapter for step in self.steps for chapter in step.chapters]


@dataclass(frozen=True)
class Map:
    """What each chapter needs, and the ways."""

    needs: dict[str, tuple[str, ...]]
    ways: tuple[Way, ...]


def load(path: str | Path) -> Map:
    """Read the map; a ValueError says everything that is wrong and what was wanted."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError as error:
        raise ValueError(f"cannot read the map: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    if not isinstance(content, dict) or content.keys() != {"needs", "ways"}:
        raise ValueError(f"{path.name}: wanted needs and ways, got {content!r}"[:200])
    problems = needs_problems(content["needs"]) + ways_problems(content["ways"])
    if not problems:
        found = Map(
            needs={chapter: tuple(needed) for chapter, needed in content["needs"].items()},
            ways=tuple(
                Way(
                    way["name"],
                    way["says"],
                    tuple(Step(step["does"], tuple(step["chapters"])) for step in way["steps"]),
                )
                for way in content["ways"]
            ),
        )
        problems = order_problems(found)
    if problems:
        raise ValueError(f"{path.name}:\n  " + "\n  ".join(problems))
    return found


def needs_problems(needs: object) -> list[str]:
    if not isinstance(needs, dict):
        return [f"needs: wanted chapters and what each needs, got {needs!r}"[:200]]
    problems = []
    before: set[str] = set()
    for chapter, needed in needs.items():
        if not isinstance(needed, list):
            problems.append(f"{chapter}: wanted a list of chapters, got {needed!r}")
            continue
        problems += [
            f"{chapter} needs {one}, which does not come before it"
            for one in needed
            if one not in before
        ]
        before.add(chapter)
    return problems


def ways_problems(ways: object) -> list[str]:
    if not isinstance(ways, list):
        return [f"ways: wanted a list, got {ways!r}"[:200]]
    problems = []
    for number, way in enumerate(ways, 1):
        if not isinstance(way, dict) or not isinstance(way.get("steps"), list):
            problems.append(f"way {number}: wanted a name, what it is for, and steps")
            continue
        found = field_problems(way, WAY_FIELDS)
        found += text_problems(way, "name") + text_problems(way, "says")
        for step in way["steps"]:
            if not isinstance(step, dict) or not isinstance(step.get("chapters"), list):
                found.append(f"wanted steps of what is done and chapters, got {step!r}"[:200])
                continue
            found += field_problems(step, STEP_FIELDS) + text_problems(step, "does")
        problems += [f"way {number}: {problem}" for problem in found]
    return problems


def order_problems(found: Map) -> list[str]:
    """Whoever goes a way has read what each chapter needs."""
    problems = []
    for way in found.ways:
        read: set[str] = set()
        for chapter in way.chapters:
            if chapter not in found.needs:
                problems.append(f"{way.name}: there is no chapter {chapter}")
                continue
            problems += [
                f"{way.name}: {chapter} needs {one}, which was not read before"
                for one in found.needs[chapter]
                if one not in read
            ]
            read.add(chapter)
    return problems


@dataclass(frozen=True)
class Minutes:
    """How long a chapter takes: estimates."""

    reading: int
    exercises: int


@cache
def minutes(path: Path) -> Minutes:
    """From a notebook's words, its lines of code that are not folded, and its exercises' times."""
    cells = json.loads(path.read_text(encoding="utf8"))["cells"]
    prose = " ".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    lines = sum(
        bool(line.strip())
        for cell in cells
        if cell["cell_type"] == "code" and not FOLDED & set(cell["metadata"].get("tags", []))
        for line in cell["source"]
    )
    words = len(re.findall(r"\w+", prose))
    return Minutes(
        reading=round(words / WORDS_A_MINUTE + lines / LINES_A_MINUTE),
        exercises=sum(map(int, re.findall(r"\((\d+) minutes\)", prose))),
    )
