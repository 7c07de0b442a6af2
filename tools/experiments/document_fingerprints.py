"""Count what can be counted in the five documents, without storing their text.

  python -m tools.experiments.document_fingerprints FOLDER            read the documents, and store
  python -m tools.experiments.document_fingerprints FOLDER --check    only say whether it agrees

FOLDER holds the documents, whose names begin with their numbers. For each section of each document
the record says on what level its heading stands, which sentences and clauses it has (by
fingerprint: the first ten digits of a SHA-256, so that a reader who has a sentence finds it, and
nobody can read it off), how often each of some words occurs, how many displayed formulas,
programs, diagrams and pictures there are, and which numbers stand in it outside the programs.
Results: chapters/faq/results/documents.json. The chapter "What the documents claim" shows them.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "chapters/faq/results/documents.json"
DIGITS = 10

WORDS = {
    "score": ["得分", "分数"],
    "weight": ["权重"],
    "importance value": ["重要性值"],
    "allocation": ["注意力分配"],
    "similarity": ["相似度", "相似性"],
    "relation": ["相关性"],
    "visualization": ["可视化"],
    "people": ["人类"],
    "learning efficiency": ["学习效率"],
    "retention of knowledge": ["知识保留"],
    "challenge": ["挑战"],
    "speech": ["语音"],
    "video": ["视频"],
    "raise": ["提高"],
    "performance": ["性能"],
    "efficiency": ["效率"],
    "accuracy": ["准确"],
    "overfitting": ["过拟合"],
    "mask": ["掩码"],
    "position": ["位置编码"],
    "dot product": ["点积"],
    "heads": ["多头"],
    "author": ["作者："],
}
HEADING = re.compile(r"\s*(#+)\s*(.*\S)")
PROGRAM = re.compile(r"^[ ]*```(\w*)\n(.*?)^[ ]*```[ ]*$", re.DOTALL | re.MULTILINE)
MARKER = re.compile(r"^\s*(?:\d+\.|[-*>](?=\s))\s*")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def fingerprint(text: str) -> str:
    """Of a text without its blanks and list markers."""
    return hashlib.sha256("".join(text.split()).encode()).hexdigest()[:DIGITS]


def pieces(lines: list[str], ends: str) -> list[str]:
    """The sentences or clauses of lines, without blanks, each with at least six signs."""
    found = [
        "".join(piece.split()).strip("*")
        for line in lines
        for piece in re.split(f"[{ends}]", MARKER.sub("", line))
    ]
    return [piece for piece in found if len(piece) >= 6]


def section_of(level: int, heading: str, text: str) -> dict:
    """What is counted in one section."""
    kinds = [kind for kind, _ in PROGRAM.findall(text)]
    prose = PROGRAM.sub("", text)
    lines = [line for line in prose.splitlines() if line.strip()]
    unnumbered = "\n".join(MARKER.sub("", line) for line in lines)
    counts = {name: sum(prose.count(form) for form in forms) for name, forms in WORDS.items()}
    return {
        "level": level,
        "heading": heading,
        "sentences": [fingerprint(piece) for piece in pieces(lines, "。？！；")],
        "clauses": [fingerprint(piece) for piece in pieces(lines, "。？！；，：")],
        "words": {name: count for name, count in counts.items() if count},
        "formulas": prose.count("$$") // 2,
        "programs": sum(kind == "python" for kind in kinds),
        "diagrams": sum(kind == "mermaid" for kind in kinds),
        "pictures": prose.count("!["),
        "numbers": sorted(set(NUMBER.findall(unnumbered)), key=float),
    }


def sections_of(text: str) -> list[dict]:
    """The sections of a document; what stands before the first heading has level 0."""
    parts: list[tuple[int, str, list[str]]] = [(0, "", [])]
    inside = False
    for line in text.splitlines():
        inside ^= line.strip().startswith("```")
        match = None if inside else HEADING.fullmatch(line)
        if match:
            parts.append((len(match[1]), match[2], []))
        else:
            parts[-1][2].append(line)
    found = [section_of(level, heading, "\n".join(lines)) for level, heading, lines in parts]
    return found if found[0]["sentences"] else found[1:]


def record_of(folder: Path) -> dict:
    """The record of all documents."""
    paths = sorted(folder.glob("00[0-4]*.txt"))
    if [path.name[:3] for path in paths] != ["000", "001", "002", "003", "004"]:
        raise ValueError(f"{folder.name}: wanted five documents, 000 to 004, got {len(paths)}")
    return {
        "words": WORDS,
        "documents": {
            path.name[:3]: sections_of(path.read_text(encoding="utf8")) for path in paths
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    record = record_of(arguments.folder)
    if arguments.check:
        agrees = json.loads(RESULTS.read_text(encoding="utf8")) == record
        raise SystemExit(0 if agrees else "the stored record differs from the documents")
    RESULTS.parent.mkdir(exist_ok=True)
    text = json.dumps(record, ensure_ascii=False, indent=1)
    # one line for each list of fingerprints or numbers
    text = re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + " ".join(m[1].split()) + "]", text)
    RESULTS.write_text(text + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
