"""Run a cell with each of its assertions negated, and say which did not fail.

The tests' kernels do this before they run a cell that proves an erratum (see plugin.py). It happens
in a fork of the kernel, so that the cell itself finds everything as it was.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import select
import signal
from pathlib import Path

from IPython.core.getipython import get_ipython

SECONDS = 120


class Negate(ast.NodeTransformer):
    """Turn each assertion into one of its opposite, which must fail, and go on behind it.

    A call such as `np.testing.assert_allclose(…)`, which has no opposite, counts once it was made
    and did not raise.
    """

    def __init__(self) -> None:
        self.lines: list[int] = []

    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        number = self._note(node)
        return ast.parse(
            f"try:\n assert not ({ast.unparse(node.test)})\n"
            f"except AssertionError:\n __negated__.failed.add({number})\n"
            f"else:\n __negated__.held.add({number})"
        ).body

    def visit_Expr(self, node: ast.Expr) -> ast.stmt | list[ast.stmt]:
        if not is_testing_call(node.value):
            return node
        number = self._note(node)
        return [node, *ast.parse(f"__negated__.failed.add({number})").body]

    def _note(self, node: ast.stmt) -> int:
        self.lines.append(node.lineno)
        return len(self.lines) - 1


def is_testing_call(value: ast.expr) -> bool:
    """Whether this is a call such as `torch.testing.assert_close(…)`."""
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr.startswith("assert")
    )


class Outcome:
    """The numbers of the negated assertions that failed, as they must, and of those that held."""

    def __init__(self) -> None:
        self.failed: set[int] = set()
        self.held: set[int] = set()


def negated(source: str, namespace: dict) -> dict:
    """What became of the negated assertions of a piece of source, run in a namespace.

    Returns
    -------
    dict
        `lines` of all assertions, `failed` of those that failed when negated, `problems` in words.
    """
    transformer = Negate()
    tree = ast.fix_missing_locations(transformer.visit(ast.parse(source)))
    outcome = Outcome()
    error = None
    try:
        exec(compile(tree, "<negated>", "exec"), namespace | {"__negated__": outcome})
    except BaseException as raised:  # an exit would end the kernel's fork silently
        error = f"{type(raised).__name__}: {raised}"
    problems = []
    for number, line in enumerate(transformer.lines):
        if number in outcome.held:
            problems.append(f"line {line}: the assertion's opposite holds as well, at least once")
        elif number not in outcome.failed:
            problems.append(f"line {line}: the assertion is never reached")
    if problems and error:
        problems.append(f"the cell ended with {error}")
    return {"assertions": len(transformer.lines), "problems": problems}


def report(source: str, path: str) -> None:
    """Run `negated` in a fork of this kernel and write what it returned as JSON to a file."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        run_in_fork(source, writer)
    os.close(writer)
    ready, _, _ = select.select([reader], [], [], SECONDS)
    with os.fdopen(reader, "rb") as pipe:
        if ready:
            text = pipe.read().decode()
        else:
            os.kill(child, signal.SIGKILL)
            text = json.dumps(
                {"assertions": 0, "problems": [f"it did not end within {SECONDS} seconds"]}
            )
    os.waitpid(child, 0)
    Path(path).write_text(text or '{"assertions": 0, "problems": ["it died"]}', encoding="utf8")


def run_in_fork(source: str, writer: int) -> None:
    """Never returns. Nothing that the cell shows may reach the kernel's own output."""
    shell = get_ipython()
    shell.display_pub.publish = lambda *arguments, **options: None
    silence = io.StringIO()
    with contextlib.redirect_stdout(silence), contextlib.redirect_stderr(silence):
        result = negated(source, dict(shell.user_ns))
    with os.fdopen(writer, "wb") as pipe:
        pipe.write(json.dumps(result).encode())
    os._exit(0)
