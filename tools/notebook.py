"""Run notebooks from a fresh kernel and store their outputs; make notebooks from text.

  python tools/notebook.py chapters/math/softmax.ipynb            run it and store the outputs
  python tools/notebook.py --all                                  the same for every chapter
  python tools/notebook.py --check --all                          only say which would change
  python tools/notebook.py softmax.ipynb --from-text softmax.md   write it from the text, and run it
  python tools/notebook.py softmax.ipynb --to-text softmax.md     write its text, to edit

A notebook runs in its own folder, with one thread. Nothing is written unless every cell ran (a cell
that is meant to raise has the tag `raises-exception`, and then must raise). A run that gives the
same outputs writes the same bytes.

The text is Jupytext's: MyST Markdown (.md) or the percent format (.py). Each cell's name is its
field `id`: lowercase words joined by hyphens. In MyST Markdown:

  ---
  course: {kind: page}               # only for a page that is no chapter
  ---

  +++ {"id": "title"}

  # Softmax

  ```{code-cell}
  :id: imports
  import matplotlib.pyplot as plt
  ```

  A Markdown cell ends where a code cell begins, or at the next +++.

  ```{code-cell}
  ---
  id: draw-softmax
  tags: [hide-input]
  mystnb:
    image: {alt: A rising curve that is flat at both ends.}
    figure: {name: fig-softmax, caption: The softmax of two scores.}
  ---
  plt.show()
  ```

and in the percent format, where the cell's title is its name:

  # %% draw-softmax tags=["hide-input"]
  # %% [markdown] title

A Markdown cell without a name is called after the cell that follows: `before-draw-softmax`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

CHAPTERS = Path(__file__).resolve().parent.parent / "chapters"

# A kernel inherits these: the outputs must not depend on the machine's number of cores.
KERNEL_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
    "PYDEVD_DISABLE_FILE_VALIDATION": "1",
}
KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE_INFO = {"name": "python"}
NOTEBOOK_METADATA = {"kernelspec", "language_info", "course", "mystnb"}
CELL_METADATA = {"tags", "mystnb"}
RAISES = "raises-exception"
SECONDS_A_CELL = 300

CELL_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
HASH = re.compile(r"[0-9a-f]{8}|(?=.*[0-9])[0-9a-f-]+")  # what editors make up
LONGEST_NAME = 64  # the notebook format's limit
A_NAME = f"lowercase words joined by hyphens, {LONGEST_NAME} characters at most, and no hash"
TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class NotebookError(Exception):
    """What is wrong with a notebook or its text, in words for the author."""


def read(path: Path) -> NotebookNode:
    """The notebook in the file, whatever its cells hold."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nbformat would give cells other ids, with a warning
            return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise NotebookError(f"{path}: no such file") from None
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, Warning) as error:
        raise NotebookError(f"{path}: not a valid notebook: {error}") from error


def serialise(notebook: NotebookNode) -> str:
    """The notebook as it stands in its file: keys sorted, one space of indent, readable text."""
    nbformat.validate(notebook)
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Leave out what editors and kernels add to the metadata."""
    kept = {key: notebook.metadata[key] for key in NOTEBOOK_METADATA & notebook.metadata.keys()}
    notebook.metadata = nbformat.from_dict(
        kept | {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict(
            {key: cell.metadata[key] for key in CELL_METADATA & cell.metadata.keys()}
        )
    return notebook


def is_name(text: str) -> bool:
    """Whether the text can name a cell: lowercase words joined by hyphens, and no hash."""
    is_words = CELL_NAME.fullmatch(text) and re.search(r"[a-z]{2}", text)
    return bool(is_words) and not HASH.fullmatch(text) and len(text) <= LONGEST_NAME


# From text, and to text


def from_text(path: Path) -> NotebookNode:
    """The notebook, without outputs, that a Jupytext file describes."""
    if path.suffix not in {".md", ".py"}:
        raise NotebookError(f"{path}: wanted MyST Markdown (.md) or the percent format (.py)")
    try:
        notebook = jupytext.read(path, fmt={".md": "md:myst", ".py": "py:percent"}[path.suffix])
    except FileNotFoundError:
        raise NotebookError(f"{path}: no such file") from None
    except Exception as error:  # Jupytext raises its parsers' own errors
        raise NotebookError(f"{path}: Jupytext cannot read this text: {error}") from error
    for key in ("jupytext", "lines_to_next_cell"):
        notebook.metadata.pop(key, None)
    refuse_unknown(path, "the front matter", notebook.metadata, NOTEBOOK_METADATA)
    name_cells(path, notebook.cells)
    return normalise(notebook)


def name_cells(path: Path, cells: list[NotebookNode]) -> None:
    """Give each cell the name in its metadata, or `before-` and the name of the next one."""
    following = None
    for cell in reversed(cells):
        name = cell.metadata.pop("id", None) or cell.metadata.pop("title", None)
        if name is None and cell.cell_type == "markdown" and following is not None:
            name = f"before-{following}"
        start = next(iter(cell.source.splitlines()), "")
        if name is None:
            raise NotebookError(f"{path}: the cell that starts with {start!r} has no id")
        if not is_name(name):
            raise NotebookError(f"{path}: the id {name!r} is not {A_NAME}")
        cell.metadata.pop("lines_to_next_cell", None)
        refuse_unknown(path, f"cell {name}", cell.metadata, CELL_METADATA)
        cell.id = following = name
    names = [cell.id for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise NotebookError(f"{path}: ids used more than once: {', '.join(twice)}")


def refuse_unknown(path: Path, where: str, metadata: NotebookNode, known: set[str]) -> None:
    """A misspelled field would be lost without a word."""
    unknown = sorted(set(metadata) - known)
    if unknown:
        raise NotebookError(
            f"{path}: {where}: unknown metadata {', '.join(unknown)}; "
            f"known are id, {', '.join(sorted(known))}"
        )


def to_text(notebook: NotebookNode, path: Path) -> None:
    """Write the notebook, without outputs, as the text that `from_text` reads."""
    if path.suffix not in {".md", ".py"}:
        raise NotebookError(f"{path}: wanted MyST Markdown (.md) or the percent format (.py)")
    notebook = normalise(notebook)
    for cell in notebook.cells:
        cell.metadata["id"] = cell.id
    # Without the filters Jupytext leaves out fields that it does not know.
    notebook.metadata["jupytext"] = {
        "notebook_metadata_filter": "all",
        "cell_metadata_filter": "all",
    }
    jupytext.write(notebook, path, fmt={".md": "md:myst", ".py": "py:percent"}[path.suffix])


# Running


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run every cell in order in a fresh kernel, and keep what comes out."""
    os.environ.update(KERNEL_ENVIRONMENT)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    started: list[str] = []
    client = NotebookClient(
        notebook,
        timeout=SECONDS_A_CELL,
        kernel_name=KERNELSPEC["name"],
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],  # no warning about local sockets
        resources={"metadata": {"path": str(folder)}},
        on_cell_start=lambda cell, cell_index: started.append(cell.id),
    )
    try:
        client.execute()
    except CellExecutionError as error:
        raise NotebookError(f"cell {started[-1]} raised:\n{error.traceback}") from error
    except (CellTimeoutError, DeadKernelError) as error:
        raise NotebookError(f"cell {started[-1]}: {error}") from error
    check_raising(notebook)
    shorten_tracebacks(notebook)
    return normalise(notebook)


def has_error(cell: NotebookNode) -> bool:
    return any(output.output_type == "error" for output in cell.get("outputs", []))


def check_raising(notebook: NotebookNode) -> None:
    """A cell that is meant to raise must do so."""
    for cell in notebook.cells:
        if RAISES in cell.metadata.get("tags", []) and not has_error(cell):
            raise NotebookError(f"cell {cell.id} has the tag {RAISES} and raised nothing")


def shorten_tracebacks(notebook: NotebookNode) -> None:
    """Keep the cell's own lines and the message: library frames hold this machine's paths."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                output.traceback = [
                    part
                    for part in output.traceback
                    if not TERMINAL_COLOURS.sub("", part).startswith("File ")
                ]


# The command


def chosen_options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="notebooks")
    parser.add_argument("--all", action="store_true", help="every notebook in chapters/")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one changes")
    parser.add_argument("--from-text", type=Path, metavar="FILE", help="write PATH from this text")
    parser.add_argument("--to-text", type=Path, metavar="FILE", help="write PATH's text here")
    chosen = parser.parse_args(arguments)
    if chosen.all:
        chosen.paths = sorted(CHAPTERS.rglob("*.ipynb"))
    if not chosen.paths:
        parser.error("wanted the path of a notebook, or --all")
    if (chosen.from_text or chosen.to_text) and (len(chosen.paths) != 1 or chosen.all):
        parser.error("--from-text and --to-text want one notebook")
    if chosen.from_text and chosen.to_text:
        parser.error("wanted --from-text or --to-text, not both")
    return chosen


def refresh(path: Path, text: Path | None, check: bool) -> bool:
    """Run the notebook (made anew from the text, if there is one); True where it changed."""
    if path.suffix != ".ipynb" or not path.resolve().parent.is_dir():
        raise NotebookError(f"{path}: wanted a name that ends in .ipynb, in an existing folder")
    notebook = from_text(text) if text else read(path)
    fresh = serialise(execute(notebook, path.resolve().parent))
    changed = not path.exists() or path.read_text(encoding="utf8") != fresh
    if changed and not check:
        path.write_text(fresh, encoding="utf8")
    return changed


def main(arguments: list[str]) -> int:
    chosen = chosen_options(arguments)
    failures = 0
    for path in chosen.paths:
        try:
            if chosen.to_text:
                to_text(read(path), chosen.to_text)
                continue
            changed = refresh(path, chosen.from_text, chosen.check)
        except NotebookError as error:
            print(f"{path}: {error}", file=sys.stderr)
            failures += 1
            continue
        verdict = ("would change" if chosen.check else "changed") if changed else "unchanged"
        print(f"{path}: {verdict}", flush=True)
        failures += changed and chosen.check
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
