"""The map of the chapters and the ways through the book, rendered from their YAML file.

``{chapter-map}`` shows for each chapter of the table of contents what it needs and how long it
takes; ``{ways}`` shows the ways. Setting: ``chapter_map``, the YAML file.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from tools.chapter_map import Map, Minutes, Way, load, minutes

logger = logging.getLogger(__name__)


class FromMap(SphinxDirective):
    """Content made of the map, as MyST text."""

    def run(self) -> list[nodes.Node]:
        root = Path(self.env.srcdir)
        path = root / self.config.chapter_map
        self.env.note_dependency(str(path))
        try:
            found = load(path)
        except ValueError as error:
            logger.warning("%s", error, location=self.get_location(), type="chapter_map")
            return []
        for chapter in found.needs:
            self.env.note_dependency(str(self.path(chapter)))
        return self.parse_text_to_nodes(self.text(found))

    def text(self, found: Map) -> str:
        raise NotImplementedError

    def path(self, chapter: str) -> Path:
        return Path(self.env.srcdir) / "chapters" / f"{chapter}.ipynb"

    def minutes(self, chapter: str) -> Minutes:
        path = self.path(chapter)
        return minutes(path) if path.is_file() else Minutes(0, 0)


class ChapterMap(FromMap):
    """A table for each part of the book."""

    def text(self, found: Map) -> str:
        contents = yaml.safe_load((Path(self.env.srcdir) / "_toc.yml").read_text(encoding="utf8"))
        tables = []
        for part in contents["parts"]:
            names = [one["file"].removeprefix("chapters/") for one in part["chapters"]]
            rows = [self.row(name, found.needs[name]) for name in names if name in found.needs]
            head = [
                f"**{part['caption']}**\n",
                "| chapter | needs | minutes |",
                "|---|---|---|",
            ]
            tables.append("\n".join([*head, *rows]))
        return "\n\n".join(tables) + "\n"

    def row(self, name: str, needs: tuple[str, ...]) -> str:
        found = self.minutes(name)
        needed = ", ".join(map(link, needs)) or "–"
        return f"| {link(name)} | {needed} | {found.reading} + {found.exercises} |"


class Ways(FromMap):
    """Each way with its steps."""

    def text(self, found: Map) -> str:
        return "\n\n".join(map(self.way, found.ways)) + "\n"

    def way(self, way: Way) -> str:
        times = [self.minutes(chapter) for chapter in way.chapters]
        reading, exercises = (
            sum(getattr(time, kind) for time in times) / 60 for kind in ("reading", "exercises")
        )
        steps = "\n".join(
            f"{number}. {step.does}: {', '.join(map(link, step.chapters))}."
            for number, step in enumerate(way.steps, 1)
        )
        return (
            f"**{way.name}.** {way.says} About {reading:.0f} hours of reading, and "
            f"{reading + exercises:.0f} with all exercises.\n\n{steps}"
        )


def link(chapter: str) -> str:
    """To a chapter, by its title."""
    return f"{{doc}}`/chapters/{chapter}`"


def setup(app):
    app.add_config_value("chapter_map", "chapters/map.yml", "env", str)
    app.add_directive("chapter-map", ChapterMap)
    app.add_directive("ways", Ways)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
