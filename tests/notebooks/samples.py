"""Small notebooks for the tests of the tests."""

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)

from tools.notebook import KERNELSPEC, LANGUAGE_INFO

ALTERNATIVE = "A straight line that rises from one to two."
IMAGE = "iVBORw0KGgo="


def text(name: str, source: str) -> NotebookNode:
    return new_markdown_cell(source, id=name)


def code(name: str, source: str, *outputs: NotebookNode, tags=(), **metadata) -> NotebookNode:
    """A code cell; its execution count is set when it joins a notebook."""
    metadata |= {"tags": list(tags)} if tags else {}
    return new_code_cell(source, id=name, outputs=list(outputs), metadata=metadata)


def printed(words: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=words)


def shown(media: str, data: str) -> NotebookNode:
    return new_output("display_data", data={media: data})


def error(name: str, value: str) -> NotebookNode:
    return new_output("error", ename=name, evalue=value, traceback=[f"{name}: {value}"])


def notebook(*cells: NotebookNode) -> NotebookNode:
    """The cells, as if they had run in order."""
    code_cells = [cell for cell in cells if cell.cell_type == "code"]
    for count, cell in enumerate(code_cells, 1):
        cell.execution_count = count
    metadata = {"kernelspec": KERNELSPEC, "language_info": LANGUAGE_INFO}
    return nbformat.from_dict(new_notebook(cells=list(cells), metadata=metadata))


def figure(name: str = "rising-line", **changes) -> NotebookNode:
    """A cell with one described figure."""
    described = {
        "image": {"alt": ALTERNATIVE},
        "figure": {"caption": "The *identity*.", "name": "fig-rising-line"},
    }
    source = 'plt.plot([1, 2])\nplt.xlabel("query")\nplt.ylabel("score")\nplt.show()'
    return code(name, source, shown("image/png", IMAGE), mystnb=described | changes)


def exercises(count: int = 4) -> list[NotebookNode]:
    """Exercises, each with its folded solution."""
    return [
        cell
        for number in range(1, count + 1)
        for cell in (
            text(f"exercise-{number}", f"**{number}.** Add one and one."),
            code(f"solution-{number}", "print(1 + 1)", printed("2\n"), tags=["hide-cell"]),
        )
    ]


def chapter() -> NotebookNode:
    """A chapter that keeps every house rule."""
    return notebook(
        text("title", "# Softmax\n\nSee [masks](/chapters/math/masks.ipynb) and a / b / c."),
        code("imports", "import matplotlib.pyplot as plt\nimport numpy as np"),
        text("smallest-example", "## The smallest example"),
        code("sum-is-two", "assert np.sum([1, 1]) == 2\nprint('two')", printed("two\n")),
        figure(),
        code("division-fails", "1 / 0", error("ZeroDivisionError", "division by zero"),
             tags=["raises-exception"]),
        text("summary", "## Summary"),
        text("exercises", "## Exercises"),
        *exercises(),
        text("further-reading", "## Further reading"),
    )  # fmt: skip
