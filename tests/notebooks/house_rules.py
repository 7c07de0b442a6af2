"""The rules for notebooks that a machine can check.

A rule takes a notebook as parsed from its file and yields its problems in words, each with the name
of the cell. `problems(path)` asks every rule.
"""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
import tokenize
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from nbformat import NotebookNode
from nbval.plugin import find_comment_markers, find_metadata_tags

from tools.notebook import (
    A_NAME,
    CELL_METADATA,
    KERNELSPEC,
    LANGUAGE_INFO,
    NOTEBOOK_METADATA,
    RAISES,
    TERMINAL_COLOURS,
    has_error,
    is_name,
)

Problems = Iterator[str]

FOLDED = {"hide-cell", "hide-input"}
KNOWN_TAGS = FOLDED | {
    "hide-output",
    "remove-cell",
    "remove-input",
    "remove-output",
    "full-width",
    "scroll-output",
    RAISES,
    "nbval-ignore-output",
    "nbval-skip",
}
# What the site shows and nbval compares; a widget would be neither.
KNOWN_MEDIA = {"text/plain", "text/html", "text/latex", "text/markdown", "image/png"}
CLOSING_SECTIONS = ["Summary", "Exercises", "Further reading"]
FEWEST_EXERCISES = 4
SHORTEST_ALTERNATIVE = 30
SHORTEST_REASON = 10
TABLE_RULE = re.compile(r"\|?(\s*:?-+:?\s*\|)*\s*:?-+:?\s*\|?")
MATHEMATICS = re.compile(r"\$[^$]*\$")
LARGEST_TEXT = 10_000
LARGEST_IMAGE = 300_000
LARGEST_NOTEBOOK = 1_000_000

# A slash that begins a path, and none that divides, closes a tag or stands in an address.
ABSOLUTE_PATH = re.compile(
    r"(?<![\w/.:<>~)\]}$*%|\\-])/[\w.-]+/[\w.-]+|~/\w|\b[A-Za-z]:\\\w+\\|(?:site|dist)-packages"
)
BOOK_LINK = re.compile(r"\]\(/chapters/[^)]*\)")  # Sphinx's links from the book's root
MEMORY_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{7,}")
TIME_STAMP = re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d|\b\d{1,2}:\d\d:\d\d\b|Wall time:")
EXERCISE = re.compile(r"\*\*(\d+)\.\*\*")
EXEMPTION = re.compile(r"^\s*# exempt: (.*)$", re.MULTILINE)


def problems(path: Path) -> list[str]:
    """Everything that is wrong with the notebook in the file."""
    text = path.read_text(encoding="utf8")
    found = list(size_of_notebook(text))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nbformat repairs double ids, with a warning
            notebook = nbformat.v4.reads(text)
            nbformat.validate(notebook)
    except (json.JSONDecodeError, nbformat.ValidationError, Warning) as error:
        return [*found, f"not a valid notebook: {str(error).splitlines()[0]}"]
    return found + notebook_problems(notebook)


def notebook_problems(notebook: NotebookNode) -> list[str]:
    """Everything that is wrong with the parsed notebook."""
    if (notebook.nbformat, notebook.nbformat_minor) < (4, 5):
        version = f"{notebook.nbformat}.{notebook.nbformat_minor}"
        return [f"the format is {version}; wanted 4.5 or later, where cells have ids"]
    broken = list(cells_are_plain_python(notebook))
    if broken:  # the rules on code read its syntax tree
        return broken
    return [problem for rule in RULES for problem in rule(notebook)]


# What the rules look at


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def is_page(notebook: NotebookNode) -> bool:
    """Whether this is a landing or reference page, which has no exercises."""
    return notebook.metadata.get("course", {}).get("kind") == "page"


def is_exempt(cell: NotebookNode) -> bool:
    """Whether nbval leaves the cell's outputs uncompared, by a tag or by a comment."""
    options = dict(find_metadata_tags(cell.metadata)) | dict(find_comment_markers(cell.source))
    return options.get("skip", False) or not options.get("check", True)


def is_assertion(node: ast.AST) -> bool:
    """An `assert`, or a call of a function of a testing module whose name starts with assert."""
    if isinstance(node, ast.Assert):
        return True
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    return node.func.attr.startswith("assert_") and "testing" in ast.unparse(node.func.value)


def holds_assertion(cell: NotebookNode) -> bool:
    return any(is_assertion(node) for node in ast.walk(ast.parse(cell.source)))


def is_import(node: ast.AST) -> bool:
    return isinstance(node, ast.Import | ast.ImportFrom)


def images(cell: NotebookNode) -> list[str]:
    """The images among the cell's outputs, as base64 text."""
    return [
        data
        for output in cell.outputs
        for media, data in output.get("data", {}).items()
        if media.startswith("image/")
    ]


def output_texts(cell: NotebookNode) -> Iterator[str]:
    """Every stored text, streams and errors included, without the terminal's colours."""
    for output in cell.get("outputs", []):
        if output.output_type == "stream":
            yield output.text
        elif output.output_type == "error":
            yield TERMINAL_COLOURS.sub("", "\n".join([output.evalue, *output.traceback]))
        for media, data in output.get("data", {}).items():
            if not media.startswith("image/"):
                yield data if isinstance(data, str) else json.dumps(data)


def blocks(cell: NotebookNode) -> Iterator[tuple[int, str]]:
    """The headings and paragraphs of a Markdown cell, each with its level; a paragraph's is 0."""
    levels = {f"h{level}": level for level in range(1, 7)} | {"p": 0}
    for opening, content in itertools.pairwise(MarkdownIt().parse(cell.source)):
        if opening.type in {"heading_open", "paragraph_open"}:
            yield levels[opening.tag], content.content


def headings(notebook: NotebookNode) -> Iterator[tuple[int, str, int]]:
    """Each heading's level, its text, and the number of its cell."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            yield from ((level, text, number) for level, text in blocks(cell) if level)


def last_line_of_code(source: str) -> str:
    """The last line that is not empty, without its comment."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    kept = [token for token in tokens if token.type not in IGNORED_TOKENS]
    return kept[-1].string if kept else ""


IGNORED_TOKENS = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.DEDENT,
    tokenize.INDENT,
    tokenize.ENDMARKER,
}


# The rules on the file, its metadata and its names


def size_of_notebook(text: str) -> Problems:
    size = len(text.encode())
    if size > LARGEST_NOTEBOOK:
        yield f"the file has {size:,} bytes; wanted at most {LARGEST_NOTEBOOK:,}"


def metadata_is_minimal(notebook: NotebookNode) -> Problems:
    """Editors and kernels store what belongs to one machine or one run."""
    unknown = sorted(set(notebook.metadata) - NOTEBOOK_METADATA)
    if unknown:
        yield f"the notebook's metadata holds {', '.join(unknown)}; make notebook removes it"
    wanted = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
    for field, value in wanted.items():
        if notebook.metadata.get(field) != value:
            yield f"the notebook's {field} is not {value}; make notebook writes it"
    for cell in notebook.cells:
        unknown = sorted(set(cell.metadata) - CELL_METADATA)
        if unknown:
            yield f"cell {cell.id}: metadata {', '.join(unknown)}; make notebook removes it"
        for tag in tags(cell):
            if tag not in KNOWN_TAGS:
                yield f"cell {cell.id}: unknown tag {tag}; known are {sorted(KNOWN_TAGS)}"


def ids_are_names(notebook: NotebookNode) -> Problems:
    for number, cell in enumerate(notebook.cells, 1):
        if not is_name(cell.id):
            yield f"cell {cell.id} (number {number}): the id is not {A_NAME}"


# The rules on running


def cells_are_plain_python(notebook: NotebookNode) -> Problems:
    """No empty cell, and no magic: what a cell holds runs as a program, too."""
    for cell in code_cells(notebook):
        if not cell.source.strip():
            yield f"cell {cell.id}: the code cell is empty"
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            yield f"cell {cell.id}: line {error.lineno} is not plain Python: {error.msg}"


def executed_in_order(notebook: NotebookNode) -> Problems:
    """nbval passes a cell that was never run, so this must not."""
    for count, cell in enumerate(code_cells(notebook), 1):
        if cell.execution_count != count:
            yield (
                f"cell {cell.id}: the execution count is {cell.execution_count}, not {count}; "
                "run the whole notebook from a fresh kernel (make notebook)"
            )


def nothing_on_stderr(notebook: NotebookNode) -> Problems:
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                yield f"cell {cell.id}: it wrote to stderr: {output.text.strip()[:80]!r}"


def errors_are_announced(notebook: NotebookNode) -> Problems:
    for cell in code_cells(notebook):
        if has_error(cell) and RAISES not in tags(cell):
            yield f"cell {cell.id}: it holds an error and lacks the tag {RAISES}"
        if not has_error(cell) and RAISES in tags(cell):
            yield f"cell {cell.id}: it has the tag {RAISES} and holds no error"


def prints_are_stored(notebook: NotebookNode) -> Problems:
    """A cell that obviously shows something has an output to compare."""
    for cell in code_cells(notebook):
        statements = ast.parse(cell.source).body
        shown = cell.outputs or has_error(cell)
        if not shown and any(shows_something(statements, node) for node in statements):
            yield f"cell {cell.id}: it prints or ends in a value, and no output is stored"


def shows_something(statements: list[ast.stmt], node: ast.stmt) -> bool:
    """A call of print, or a value (not a call, which may give None) at the end."""
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Call):
        return isinstance(node.value.func, ast.Name) and node.value.func.id == "print"
    return node is statements[-1]


def exemptions_have_reasons(notebook: NotebookNode) -> Problems:
    for cell in code_cells(notebook):
        reason = EXEMPTION.search(cell.source)
        if is_exempt(cell) and not (reason and len(reason[1].strip()) >= SHORTEST_REASON):
            yield f"cell {cell.id}: nbval leaves it out; wanted a comment '# exempt: ' and why"


def no_trailing_semicolon(notebook: NotebookNode) -> Problems:
    for cell in code_cells(notebook):
        if last_line_of_code(cell.source) == ";":
            yield f"cell {cell.id}: it ends in ';', which hides nothing from nbval"


def nothing_of_this_machine(notebook: NotebookNode) -> Problems:
    """No path, address or time, which another machine or run would change."""
    for cell in notebook.cells:
        texts = [("source", BOOK_LINK.sub("", cell.source))]
        texts += [("output", text) for text in output_texts(cell)]
        for where, text in texts:
            for kind, pattern in MACHINE_TRACES.items():
                found = pattern.search(text)
                if found:
                    yield f"cell {cell.id}: {kind} in its {where}: {found[0]!r}"


MACHINE_TRACES = {
    "an absolute path": ABSOLUTE_PATH,
    "a memory address": MEMORY_ADDRESS,
    "a time": TIME_STAMP,
}


def outputs_are_small_and_shown(notebook: NotebookNode) -> Problems:
    for cell in code_cells(notebook):
        for output in cell.outputs:
            for media in sorted(set(output.get("data", {})) - KNOWN_MEDIA):
                yield f"cell {cell.id}: an output of type {media}; wanted {sorted(KNOWN_MEDIA)}"
        for text in output_texts(cell):
            if len(text) > LARGEST_TEXT:
                yield f"cell {cell.id}: a text of {len(text):,} letters; at most {LARGEST_TEXT:,}"
        for image in images(cell):
            if len(image) > LARGEST_IMAGE:
                yield f"cell {cell.id}: an image of {len(image):,} bytes; at most {LARGEST_IMAGE:,}"


# The rules on the code


def imports_come_first(notebook: NotebookNode) -> Problems:
    """A program under test, which is meant to raise, may import where it likes."""
    for cell in code_cells(notebook)[1:]:
        imports = [node for node in ast.walk(ast.parse(cell.source)) if is_import(node)]
        if imports and RAISES not in tags(cell):
            yield f"cell {cell.id}: {ast.unparse(imports[0])!r} belongs in the first code cell"


def something_is_asserted(notebook: NotebookNode) -> Problems:
    cells = code_cells(notebook)
    computes = any(not is_import(node) for cell in cells for node in ast.parse(cell.source).body)
    if computes and not any(holds_assertion(cell) for cell in cells):
        yield "no cell holds an assertion"


# The rules on figures


def figures_are_described(notebook: NotebookNode) -> Problems:
    """One figure a cell, with text for those who cannot see it."""
    for cell in code_cells(notebook):
        description = cell.metadata.get("mystnb", {})
        alternative = description.get("image", {}).get("alt", "").strip()
        caption = description.get("figure", {}).get("caption", "").strip()
        name = description.get("figure", {}).get("name", "")
        if not images(cell):
            if alternative or caption or name:
                yield f"cell {cell.id}: a figure is described and no image is stored"
            continue
        if len(images(cell)) > 1:
            yield f"cell {cell.id}: {len(images(cell))} images; wanted one figure a cell"
        if len(alternative) < SHORTEST_ALTERNATIVE:
            yield f"cell {cell.id}: mystnb image.alt is {alternative!r}; wanted a sentence"
        if not caption:
            yield f"cell {cell.id}: mystnb figure.caption is missing"
        elif alternative == caption:
            yield f"cell {cell.id}: mystnb image.alt repeats the caption; say what is to be seen"
        if not is_name(name):
            yield f"cell {cell.id}: mystnb figure.name is {name!r}; wanted {A_NAME}"


def figure_cells_end_in_show(notebook: NotebookNode) -> Problems:
    """So that every figure goes through the check of its labels (kernel/checked_figures.py)."""
    for cell in code_cells(notebook):
        last = ast.parse(cell.source).body[-1:]
        if images(cell) and [ast.unparse(statement) for statement in last] != ["plt.show()"]:
            yield f"cell {cell.id}: a figure's cell ends in plt.show()"


# The rules on the chapter's shape


def one_title(notebook: NotebookNode) -> Problems:
    titles = [number for level, _, number in headings(notebook) if level == 1]
    if titles != [0]:
        yield f"{len(titles)} first-level headings; wanted one, in the first cell"


def headings_skip_no_level(notebook: NotebookNode) -> Problems:
    previous = 0
    for level, text, number in headings(notebook):
        if level > previous + 1:
            cell = notebook.cells[number]
            yield f"cell {cell.id}: {text!r} is of level {level} after level {previous}"
        previous = level


def table_headers_have_words(notebook: NotebookNode) -> Problems:
    """An empty header, or one of mathematics alone, is none for those who hear the page."""
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for head, rule in itertools.pairwise(cell.source.splitlines()):
            if "|" not in head or not TABLE_RULE.fullmatch(rule.strip()):
                continue
            for text in MATHEMATICS.sub(
                "$", head.strip().removeprefix("|").removesuffix("|")
            ).split("|"):
                if not re.search(r"\w", text):
                    yield f"cell {cell.id}: a table's header {text.strip()!r} has no word"


def chapter_closes(notebook: NotebookNode) -> Problems:
    sections = [text for level, text, _ in headings(notebook) if level == 2]
    if not is_page(notebook) and sections[-3:] != CLOSING_SECTIONS:
        yield f"the last sections are {sections[-3:]}; wanted {CLOSING_SECTIONS}"


def exercises_are_solved(notebook: NotebookNode) -> Problems:
    """Each paragraph of the section Exercises that starts with **1.**, **2.** … is solved."""
    if is_page(notebook):
        return
    exercises = exercise_cells(notebook)
    if len(exercises) < FEWEST_EXERCISES:
        yield (
            f"{len(exercises)} exercises (paragraphs in Exercises that start with **1.** and so "
            f"on); wanted {FEWEST_EXERCISES} at least"
        )
    for wanted, (number, cells) in enumerate(exercises, 1):
        if number != wanted:
            yield f"exercise {number}: wanted the number {wanted}"
        if not any(FOLDED & set(tags(cell)) for cell in cells):
            yield f"exercise {number}: no solution, a code cell with a tag of {sorted(FOLDED)}"


def exercise_cells(notebook: NotebookNode) -> list[tuple[int, list[NotebookNode]]]:
    """Each exercise's number with the code cells between it and the next."""
    exercises: list[tuple[int, list[NotebookNode]]] = []
    inside = False
    for cell in notebook.cells:
        if cell.cell_type == "code" and inside and exercises:
            exercises[-1][1].append(cell)
        for level, text in blocks(cell) if cell.cell_type == "markdown" else ():
            if level in (1, 2):
                inside = text == "Exercises"
            elif level == 0 and inside and (start := EXERCISE.match(text)):
                exercises.append((int(start[1]), []))
    return exercises


RULES: list[Callable[[NotebookNode], Problems]] = [
    metadata_is_minimal,
    ids_are_names,
    executed_in_order,
    nothing_on_stderr,
    errors_are_announced,
    prints_are_stored,
    exemptions_have_reasons,
    no_trailing_semicolon,
    nothing_of_this_machine,
    outputs_are_small_and_shown,
    imports_come_first,
    something_is_asserted,
    figures_are_described,
    figure_cells_end_in_show,
    one_title,
    table_headers_have_words,
    headings_skip_no_level,
    chapter_closes,
    exercises_are_solved,
]
