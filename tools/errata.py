"""The errata ledger, read and checked. The errata page and the tests both use this."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

DOCUMENTS = ("000", "001", "002", "003", "004")

KINDS = {
    "crash": "code that does not run",
    "computation": "code that computes something else",
    "formula": "wrong formula",
    "notation": "wrong indices or names",
    "shape": "wrong shape",
    "output": "printed output that no run gives",
    "statement": "false statement",
    "overclaim": "claim that goes too far",
    "contradiction": "contradiction",
    "citation": "wrong citation",
    "label": "mislabelled thing",
    "missing": "announced and missing",
    "repetition": "repetition",
    "interface": "interface of another library or decade",
    "practice": "bad practice in training or evaluation",
}

VERDICTS = {
    "error": "false as it stands",
    "overclaim": "true only in part",
    "style": "not false, but bad practice",
}

ENTRY_ID = re.compile(r"(00[0-4])(-[a-z0-9]+)+")
PROOF = re.compile(r"(chapters/[\w/-]+\.ipynb)#([a-z0-9]+(?:-[a-z0-9]+)*)")
COVERAGE = re.compile(r"(?:00[0-4]|X)-\d+")
CHINESE = re.compile(r"[\u3400-\u9fff]")

ENTRY_FIELDS = {
    "required": {"id", "places", "kind", "verdict", "wrong", "right"},
    "optional": {"proof", "sources"},
}
PLACE_FIELDS = {"required": {"document", "section", "quote"}, "optional": {"coverage"}}


@dataclass(frozen=True)
class Place:
    """Where a document makes the mistake."""

    document: str
    section: str
    quote: str
    coverage: tuple[str, ...] = ()

    @property
    def is_chinese(self) -> bool:
        return bool(CHINESE.search(self.quote))


@dataclass(frozen=True)
class Proof:
    """A cell that shows the mistake and its correction."""

    path: str
    cell: str

    @property
    def docname(self) -> str:
        return self.path.removesuffix(".ipynb")


@dataclass(frozen=True)
class Entry:
    """One mistake."""

    id: str
    places: tuple[Place, ...]
    kind: str
    verdict: str
    wrong: str
    right: str
    proof: tuple[Proof, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    def documents(self) -> tuple[str, ...]:
        """The documents that make the mistake, each once, in order."""
        return tuple(sorted({place.document for place in self.places}))


def load(path: str | Path) -> list[Entry]:
    """Read the ledger; a ValueError names every entry that is wrong and what was wanted."""
    path = Path(path)
    try:
        content = yaml.safe_load(path.read_text(encoding="utf8"))
    except OSError as error:
        raise ValueError(f"cannot read the errata ledger: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {error}") from error
    if content is None:
        return []
    if not isinstance(content, list):
        raise ValueError(f"{path.name}: wanted a list of entries, got {type(content).__name__}")

    problems = []
    names = [name_of(raw, number) for number, raw in enumerate(content, 1)]
    for raw, name in zip(content, names, strict=True):
        problems += [f"{name}: {problem}" for problem in entry_problems(raw)]
    problems += [
        f"{name}: the id is used {names.count(name)} times; ids are unique"
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ValueError(f"{path.name}:\n  " + "\n  ".join(problems))
    return [build(raw) for raw in content]


def name_of(raw: object, number: int) -> str:
    """How to call an entry in a message."""
    named = isinstance(raw, dict) and isinstance(raw.get("id"), str)
    return raw["id"] if named else f"entry number {number}"


def entry_problems(raw: object) -> list[str]:
    if not isinstance(raw, dict):
        return [f"wanted a mapping with the fields of an entry, got {raw!r}"]
    problems = field_problems(raw, ENTRY_FIELDS)
    for field in ("wrong", "right"):
        problems += text_problems(raw, field)
    problems += choice_problems(raw, "kind", KINDS)
    problems += choice_problems(raw, "verdict", VERDICTS)
    problems += list_problems(raw, "proof", PROOF, "path#cell-id, such as chapters/a/b.ipynb#c-d")
    problems += list_problems(raw, "sources", re.compile(r"\S+"), "a key of references.bib")
    if not raw.get("proof") and not raw.get("sources"):
        problems.append("wanted at least one proof, or else at least one source")

    places = raw.get("places")
    if not isinstance(places, list) or not places:
        problems.append(f"places: wanted a list of at least one place, got {places!r}")
        places = []
    for number, place in enumerate(places, 1):
        problems += [f"place {number}: {problem}" for problem in place_problems(place)]

    identifier = ENTRY_ID.fullmatch(str(raw.get("id", "")))
    documents = [place.get("document") for place in places if isinstance(place, dict)]
    if not identifier:
        problems.append(
            f"id: wanted a document and words, such as 003-crash-flattened, got {raw.get('id')!r}"
        )
    elif documents and identifier[1] not in documents:
        problems.append(f"id: starts with {identifier[1]}, which is the document of no place")
    return problems


def place_problems(place: object) -> list[str]:
    if not isinstance(place, dict):
        return [f"wanted a mapping with the fields of a place, got {place!r}"]
    problems = field_problems(place, PLACE_FIELDS)
    problems += choice_problems(place, "document", DOCUMENTS)
    problems += text_problems(place, "section")
    problems += text_problems(place, "quote")
    problems += list_problems(place, "coverage", COVERAGE, "an id of coverage.md, such as 003-21")
    return problems


def field_problems(raw: dict, fields: dict[str, set[str]]) -> list[str]:
    missing = sorted(fields["required"] - raw.keys())
    unknown = sorted(raw.keys() - fields["required"] - fields["optional"], key=str)
    known = ", ".join(sorted(fields["required"] | fields["optional"]))
    return [f"{name}: the field is missing" for name in missing] + [
        f"{name}: no such field; the fields are {known}" for name in unknown
    ]


def text_problems(raw: dict, field: str) -> list[str]:
    """A text that YAML took for a number needs quotes around it."""
    value = raw.get(field)
    if field not in raw or (isinstance(value, str) and value.strip()):
        return []
    return [f"{field}: wanted a text (so a number needs quotes), got {value!r}"]


def choice_problems(raw: dict, field: str, choices) -> list[str]:
    value = raw.get(field)
    if field not in raw or (isinstance(value, str) and value in choices):
        return []
    hint = "" if isinstance(value, str) else " (a text, so a number needs quotes)"
    return [f"{field}: wanted one of {', '.join(choices)}{hint}, got {value!r}"]


def list_problems(raw: dict, field: str, pattern: re.Pattern, wanted: str) -> list[str]:
    values = raw.get(field) or []
    if not isinstance(values, list):
        return [f"{field}: wanted a list, got {values!r}"]
    return [
        f"{field}: wanted {wanted}, got {value!r}"
        for value in values
        if not (isinstance(value, str) and pattern.fullmatch(value))
    ]


def build(raw: dict) -> Entry:
    """An entry from fields that have been checked."""
    return Entry(
        id=raw["id"],
        places=tuple(
            Place(
                document=place["document"],
                section=place["section"],
                quote=place["quote"],
                coverage=tuple(place.get("coverage") or ()),
            )
            for place in raw["places"]
        ),
        kind=raw["kind"],
        verdict=raw["verdict"],
        wrong=raw["wrong"],
        right=raw["right"],
        proof=tuple(Proof(*PROOF.fullmatch(text).groups()) for text in raw.get("proof") or ()),
        sources=tuple(raw.get("sources") or ()),
    )
