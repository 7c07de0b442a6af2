"""Each house rule is shown to fail: a good chapter is broken in one way, and only that is said."""

import nbformat
import pytest

from notebooks import house_rules, samples
from tools.notebook import serialise


def find(notebook, name):
    return next(cell for cell in notebook.cells if cell.id == name)


def without(notebook, name):
    """Leave out a cell, and count the others anew."""
    return samples.notebook(*(cell for cell in notebook.cells if cell.id != name))


def with_cell(notebook, cell):
    """Put a code cell behind the imports."""
    return samples.notebook(*notebook.cells[:2], cell, *notebook.cells[2:])


def change(name, **fields):
    """A way of breaking: give a cell other fields."""

    def breaking(notebook):
        find(notebook, name).update(nbformat.from_dict(fields))

    return breaking


def change_metadata(name, **fields):
    def breaking(notebook):
        find(notebook, name).metadata.update(nbformat.from_dict(fields))

    return breaking


def change_notebook(**fields):
    def breaking(notebook):
        notebook.metadata.update(nbformat.from_dict(fields))

    return breaking


def add(source, *outputs, **options):
    """A way of breaking: a further code cell, `added-cell`."""
    return lambda notebook: with_cell(
        notebook, samples.code("added-cell", source, *outputs, **options)
    )


def add_figure(**changes):
    return lambda notebook: with_cell(
        without(notebook, "rising-line"), samples.figure("added-cell", **changes)
    )


def rename(name, new):
    return change(name, id=new)


def leave_out(name):
    return lambda notebook: without(notebook, name)


def show_two_images(notebook):
    find(notebook, "rising-line").outputs.append(samples.shown("image/png", samples.IMAGE))


def swap_last_sections(notebook):
    find(notebook, "summary").source = "## Exercises"
    find(notebook, "exercises").source = "## Summary"


FIGURE = {"caption": "The identity.", "name": "fig-identity"}
A_PATH = "/" + "home/someone/course"  # in two parts, for those who look for paths in this file
AN_ERROR = samples.error("ValueError", "no")

# A way of breaking the chapter, and the beginning of each problem that must be told.
BREAKS = {
    "old format": (
        lambda notebook: notebook.update(nbformat_minor=4),
        ["the format is 4.4"],
    ),
    "metadata of a machine": (
        change_notebook(widgets={}),
        ["the notebook's metadata holds widgets"],
    ),
    "another kernel": (
        change_notebook(kernelspec={"name": "my-env", "display_name": "My"}),
        ["the notebook's kernelspec is not"],
    ),
    "the language's version": (
        change_notebook(language_info={"name": "python", "version": "3.11.7"}),
        ["the notebook's language_info is not"],
    ),
    "time of execution": (
        change_metadata("imports", execution={"iopub.execute_input": "…"}),
        ["cell imports: metadata execution"],
    ),
    "unknown tag": (
        change_metadata("imports", tags=["hide-imput"]),
        ["cell imports: unknown tag hide-imput"],
    ),
    "nbval's other name for a tag": (
        change_metadata("imports", tags=["nbval-raises-exception"]),
        ["cell imports: unknown tag nbval-raises-exception"],
    ),
    "hash for an id": (
        rename("summary", "3f2a9c1b"),
        ["cell 3f2a9c1b (number 7): the id is not"],
    ),
    "long hash for an id": (
        rename("imports", "3f2a9c1b-77aa-4b1c"),
        ["cell 3f2a9c1b-77aa-4b1c (number 2): the id is not"],
    ),
    "letters of a hash": (
        rename("imports", "deadbeef"),
        ["cell deadbeef (number 2): the id is not"],
    ),
    "capital in an id": (
        rename("imports", "Imports"),
        ["cell Imports (number 2): the id is not"],
    ),
    "never run": (
        change("sum-is-two", execution_count=None, outputs=[]),
        ["cell sum-is-two: the execution count is None", "cell sum-is-two: it prints"],
    ),
    "run again": (
        change("imports", execution_count=7),
        ["cell imports: the execution count is 7, not 1"],
    ),
    "empty cell": (add(" \n"), ["cell added-cell: the code cell is empty"]),
    "magic": (add("%matplotlib inline"), ["cell added-cell: line 1 is not plain Python"]),
    "stderr": (
        add("np.log(0)", samples.printed("RuntimeWarning", "stderr")),
        ["cell added-cell: it wrote to stderr"],
    ),
    "error without a tag": (
        add("raise ValueError('no')", AN_ERROR),
        ["cell added-cell: it holds an error"],
    ),
    "tag without an error": (
        change("division-fails", source="one = 1", outputs=[]),
        ["cell division-fails: it has the tag raises-exception"],
    ),
    "print without output": (
        change("sum-is-two", outputs=[]),
        ["cell sum-is-two: it prints or ends in a value"],
    ),
    "value without output": (
        add("one = 1\none"),
        ["cell added-cell: it prints or ends in a value"],
    ),
    "ignored output": (
        add("one = 1", tags=["nbval-ignore-output"]),
        ["cell added-cell: nbval leaves it out"],
    ),
    "skipped cell": (
        add("one = 1", tags=["nbval-skip"]),
        ["cell added-cell: nbval leaves it out"],
    ),
    "ignored output, by a comment": (
        add("# NBVAL_IGNORE_OUTPUT\none = 1"),
        ["cell added-cell: nbval leaves it out"],
    ),
    "exemption without a reason": (
        add("# exempt: no\none = 1", tags=["nbval-skip"]),
        ["cell added-cell: nbval leaves it out"],
    ),
    "semicolon": (
        add("one = 1\none;  # quiet", samples.shown("text/plain", "1")),
        ["cell added-cell: it ends in ';'"],
    ),
    "path in an output": (
        change("sum-is-two", outputs=[samples.printed(f"in {A_PATH}")]),
        ["cell sum-is-two: an absolute path in its output"],
    ),
    "path in an error": (
        change("division-fails", outputs=[samples.error("OSError", f"{A_PATH} is missing")]),
        ["cell division-fails: an absolute path in its output"],
    ),
    "path in a table": (
        change("sum-is-two", outputs=[samples.shown("text/html", f"<td>\n{A_PATH}</td>")]),
        ["cell sum-is-two: an absolute path in its output"],
    ),
    "path in the code": (
        add(f"folder = '{A_PATH}'"),
        ["cell added-cell: an absolute path in its source"],
    ),
    "path in the prose": (
        change("summary", source=f"## Summary\n\nSee `{A_PATH}`."),
        ["cell summary: an absolute path in its source"],
    ),
    "path on Windows": (
        add(r"folder = r'C:\Users\someone'"),
        ["cell added-cell: an absolute path in its source"],
    ),
    "path of a library": (
        change("sum-is-two", outputs=[samples.printed("lib/site-packages/numpy")]),
        ["cell sum-is-two: an absolute path in its output"],
    ),
    "memory address": (
        change("sum-is-two", outputs=[samples.printed("<object at 0x7f12ab34cd56>")]),
        ["cell sum-is-two: a memory address in its output"],
    ),
    "time stamp": (
        change("sum-is-two", outputs=[samples.printed("2026-01-02 03:04:05")]),
        ["cell sum-is-two: a time in its output"],
    ),
    "widget": (
        change(
            "sum-is-two",
            outputs=[samples.shown("application/vnd.jupyter.widget-view+json", "{}")],
        ),
        ["cell sum-is-two: an output of type application/vnd.jupyter.widget-view+json"],
    ),
    "long output": (
        change("sum-is-two", outputs=[samples.printed("two " * 3000)]),
        ["cell sum-is-two: a text of 12,000 letters"],
    ),
    "heavy image": (
        change("rising-line", outputs=[samples.shown("image/png", "A" * 400_000)]),
        ["cell rising-line: an image of 400,000 bytes"],
    ),
    "late import": (
        add("def load():\n    import json\n    return json"),
        ["cell added-cell: 'import json' belongs in the first code cell"],
    ),
    "nothing asserted": (
        change("sum-is-two", source="print('two')"),
        ["no cell holds an assertion"],
    ),
    "no alternative text": (
        add_figure(image={}),
        ["cell added-cell: mystnb image.alt is ''"],
    ),
    "no metadata on a figure": (
        lambda notebook: find(notebook, "rising-line").update(metadata={}),
        [
            "cell rising-line: mystnb image.alt is ''",
            "cell rising-line: mystnb figure.caption is missing",
            "cell rising-line: mystnb figure.name is ''",
        ],
    ),
    "short alternative text": (
        add_figure(image={"alt": "A line."}),
        ["cell added-cell: mystnb image.alt is 'A line.'"],
    ),
    "alternative text that repeats the caption": (
        add_figure(figure={"caption": samples.ALTERNATIVE, "name": "fig-line"}),
        ["cell added-cell: mystnb image.alt repeats the caption"],
    ),
    "no caption": (
        add_figure(figure={"name": "fig-line"}),
        ["cell added-cell: mystnb figure.caption is missing"],
    ),
    "no figure name": (
        add_figure(figure={"caption": "The identity."}),
        ["cell added-cell: mystnb figure.name is ''"],
    ),
    "two images": (show_two_images, ["cell rising-line: 2 images"]),
    "description without an image": (
        add("one = 1", mystnb={"figure": FIGURE}),
        ["cell added-cell: a figure is described and no image is stored"],
    ),
    "figure without show": (
        change("rising-line", source="plt.plot([1, 2])"),
        ["cell rising-line: a figure's cell ends in plt.show()"],
    ),
    "no title": (
        change("title", source="Words."),
        ["0 first-level headings", "cell smallest-example: 'The smallest example' is of level 2"],
    ),
    "table without a header": (
        change("summary", source="## Summary\n\n| | what |\n|---|---|\n| 1 | 2 |"),
        ["cell summary: a table's header '' has no word"],
    ),
    "mathematics for a header": (
        change("summary", source="## Summary\n\n| size $n|k$ | $x_i$ |\n|:---|---:|\n| 1 | 2 |"),
        ["cell summary: a table's header '$' has no word"],
    ),
    "two titles": (change("summary", source="# Summary"), ["2 first-level", "the last sections"]),
    "title in a later cell": (
        lambda notebook: notebook.cells.insert(0, samples.text("words", "Words.")),
        ["1 first-level headings; wanted one, in the first cell"],
    ),
    "skipped level": (
        change("smallest-example", source="#### The smallest example"),
        ["cell smallest-example: 'The smallest example' is of level 4 after level 1"],
    ),
    "no summary": (leave_out("summary"), ["the last sections are"]),
    "no further reading": (leave_out("further-reading"), ["the last sections are"]),
    "sections in another order": (swap_last_sections, ["the last sections are", "0 exercises"]),
    "three exercises": (
        lambda notebook: without(without(notebook, "exercise-4"), "solution-4"),
        ["3 exercises"],
    ),
    "no solution": (leave_out("solution-2"), ["exercise 2: no solution"]),
    "open solution": (
        change("solution-4", metadata={}),
        ["exercise 4: no solution"],
    ),
    "exercises counted wrongly": (
        change("exercise-2", source="**3.** Add one and one."),
        ["exercise 3: wanted the number 2"],
    ),
}


def test_good_chapter_has_no_problem():
    assert house_rules.notebook_problems(samples.chapter()) == []


@pytest.mark.parametrize("name", BREAKS)
def test_broken_chapter_is_told(name):
    breaking, wanted = BREAKS[name]
    notebook = samples.chapter()
    notebook = breaking(notebook) or notebook  # some change it, some make another
    found = house_rules.notebook_problems(notebook)
    assert len(found) == len(wanted), found
    for problem, beginning in zip(found, wanted, strict=True):
        assert problem.startswith(beginning)


def test_every_rule_is_broken_once():
    """A rule that no break above makes speak could be a rule that cannot fail."""
    silent = set(house_rules.RULES)
    for breaking, _ in BREAKS.values():
        notebook = samples.chapter()
        notebook = breaking(notebook) or notebook
        if not list(house_rules.cells_are_plain_python(notebook)):
            silent = {rule for rule in silent if not list(rule(notebook))}
    assert not silent


def test_page_needs_no_exercises():
    page = samples.notebook(samples.text("title", "# Glossary"))
    assert house_rules.notebook_problems(page)
    page.metadata["course"] = {"kind": "page"}
    assert house_rules.notebook_problems(page) == []


def test_exemption_with_a_reason_passes():
    source = "# exempt: the number of cores is the machine's\none = 1"
    notebook = add(source, tags=["nbval-skip"])(samples.chapter())
    assert house_rules.notebook_problems(notebook) == []


def test_file_is_read_as_it_stands(tmp_path):
    path = tmp_path / "chapter.ipynb"
    path.write_text(serialise(samples.chapter()), encoding="utf8")
    assert house_rules.problems(path) == []

    twice = path.read_text(encoding="utf8").replace('"id": "summary"', '"id": "exercises"')
    path.write_text(twice, encoding="utf8")
    assert "not a valid notebook" in house_rules.problems(path)[0]

    path.write_text("{", encoding="utf8")
    assert "not a valid notebook" in house_rules.problems(path)[0]


def test_large_file_is_told(tmp_path):
    notebook = samples.chapter()
    notebook.cells[0].source += " words" * 200_000
    path = tmp_path / "chapter.ipynb"
    path.write_text(serialise(notebook), encoding="utf8")
    assert house_rules.problems(path)[0].startswith("the file has 1,")
