"""tools/notebook.py runs notebooks faithfully, and refuses what is wrong."""

import nbformat
import pytest

from tools import notebook as tool

MYST = """---
course: {kind: page}
---

+++ {"id": "title"}

# 注意力 and *attention*

```{code-cell}
:id: imports
import os
```

One thread:

```{code-cell}
---
id: one-thread
tags: [hide-input]
mystnb:
  figure: {caption: "With: a colon"}
---
print(os.environ["OMP_NUM_THREADS"])
```

```{code-cell}
:id: open-nothing
:tags: [raises-exception]
os.listdir("nothing here")
import json
json.loads("{")
```

```{code-cell}
:id: library-raises
:tags: [raises-exception]
import json
json.loads("{")
```
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A notebook made from text, with the text beside it."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "a.md").write_text(MYST, encoding="utf8")
    assert tool.main([f"{folder}/a.ipynb", "--from-text", f"{folder}/a.md"]) == 0
    return folder / "a.ipynb"


def cells(path):
    return {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}


def test_text_becomes_a_notebook(made):
    found = cells(made)
    names = ["title", "imports", "before-one-thread", "one-thread", "open-nothing"]
    assert list(found) == [*names, "library-raises"]
    assert found["one-thread"].metadata.tags == ["hide-input"]
    assert found["one-thread"].metadata.mystnb.figure.caption == "With: a colon"
    assert found["one-thread"].outputs[0].text == "1\n"
    metadata = nbformat.read(made, as_version=4).metadata
    assert metadata.course.kind == "page"
    assert metadata.keys() == {"course", "kernelspec", "language_info"}
    assert "注意力" in made.read_text(encoding="utf8")  # no escapes


def test_tracebacks_hold_no_library_frames(made):
    traceback = "\n".join(cells(made)["library-raises"].outputs[0].traceback)
    assert "JSONDecodeError" in traceback
    assert "decoder.py" not in traceback


def test_second_run_changes_nothing(made, capsys):
    before = made.read_bytes()
    assert tool.main([str(made)]) == 0
    assert "unchanged" in capsys.readouterr().out
    assert made.read_bytes() == before


@pytest.mark.parametrize("suffix", [".md", ".py"])
def test_text_and_back(made, tmp_path, suffix):
    text = tmp_path / f"a{suffix}"
    tool.to_text(tool.read(made), text)
    again = tool.from_text(text)
    for cell, other in zip(tool.read(made).cells, again.cells, strict=True):
        assert (cell.id, cell.source, cell.metadata) == (other.id, other.source, other.metadata)


def test_percent_titles_are_names(tmp_path):
    text = tmp_path / "a.py"
    text.write_text('# %% [markdown] title\n# # A\n\n# %% add-one tags=["hide-cell"]\n1\n')
    found = tool.from_text(text).cells
    assert [cell.id for cell in found] == ["title", "add-one"]
    assert found[1].metadata == {"tags": ["hide-cell"]}


def test_check_tells_and_writes_nothing(made, tmp_path, capsys):
    changed = tmp_path / "a.ipynb"
    text = made.read_text(encoding="utf8").replace('"1\\n"', '"2\\n"')
    changed.write_text(text, encoding="utf8")
    assert tool.main(["--check", str(changed)]) == 1
    assert "would change" in capsys.readouterr().out
    assert changed.read_text(encoding="utf8") == text


def test_what_editors_add_is_left_out():
    notebook = tool.nbformat.v4.new_notebook(
        metadata={"widgets": {}, "language_info": {"name": "python", "version": "3"}},
        cells=[tool.nbformat.v4.new_code_cell("1", id="one", metadata={"execution": {}})],
    )
    tool.normalise(notebook)
    assert notebook.metadata == {
        "kernelspec": tool.KERNELSPEC,
        "language_info": tool.LANGUAGE_INFO,
    }
    assert notebook.cells[0].metadata == {}


def code_cell(fields, source="1"):
    return f"```{{code-cell}}\n{fields}\n{source}\n```\n"


BAD_TEXTS = {
    "no id": (code_cell(":tags: [hide-cell]"), "the cell that starts with '1' has no id"),
    "a hash": (code_cell(":id: 3f2a9c1b"), "the id '3f2a9c1b' is not lowercase words"),
    "an id twice": (code_cell(":id: one") * 2, "ids used more than once: one"),
    "a misspelled field": (code_cell(":id: one\n:tgas: [x]"), "cell one: unknown metadata tgas"),
    "a misspelled front matter": (
        "---\ncuorse: {kind: page}\n---\n" + code_cell(":id: one"),
        "the front matter: unknown metadata cuorse",
    ),
}


@pytest.mark.parametrize("name", BAD_TEXTS)
def test_bad_text_is_refused(name, tmp_path):
    text, problem = BAD_TEXTS[name]
    (tmp_path / "a.md").write_text(text, encoding="utf8")
    with pytest.raises(tool.NotebookError) as caught:
        tool.from_text(tmp_path / "a.md")
    assert problem in str(caught.value)


BAD_CODE = {
    "it raises": (code_cell(":id: one", "1 / 0"), "cell one raised:"),
    "it does not raise": (
        code_cell(":id: one\n:tags: [raises-exception]"),
        "cell one has the tag raises-exception and raised nothing",
    ),
    "it kills the kernel": (
        code_cell(":id: one", "import os\nos._exit(1)"),
        "cell one: Kernel died",
    ),
}


@pytest.mark.parametrize("name", BAD_CODE)
def test_bad_code_is_refused(name, tmp_path, capsys):
    text, problem = BAD_CODE[name]
    (tmp_path / "a.md").write_text(text, encoding="utf8")
    assert tool.main([f"{tmp_path}/a.ipynb", "--from-text", f"{tmp_path}/a.md"]) == 1
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "a.ipynb").exists()


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("a.ipynb", "no such file"),
        ("a.md", "wanted a name that ends in .ipynb"),
        ("nothing/a.ipynb", "in an existing folder"),
    ],
)
def test_missing_and_mistaken_files_are_told(path, problem, tmp_path, capsys):
    assert tool.main([str(tmp_path / path)]) == 1
    assert problem in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "wanted the path of a notebook"),
        (["--from-text", "a.md", "a.ipynb", "b.ipynb"], "want one notebook"),
        (["--from-text", "a.md", "--to-text", "a.md", "a.ipynb"], "not both"),
    ],
)
def test_mistaken_options_are_told(arguments, problem, capsys):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert problem in capsys.readouterr().err
