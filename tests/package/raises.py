"""Which `raise` statements of the package no test reaches."""

import ast
from collections.abc import Callable, Iterable
from pathlib import Path

import attn_tutorial

PACKAGE = Path(attn_tutorial.__file__).parent


def unreached(modules: Iterable[str], calls: Iterable[Callable[[], object]]) -> set[str]:
    """The raise statements of some modules that none of these failing calls ends in.

    A module is named by its path in the package, such as "core" or "frontier/memory".
    """
    files = [(PACKAGE / f"{module}.py").resolve() for module in modules]
    written = {
        (file, node.lineno, node.end_lineno)
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8")))
        if isinstance(node, ast.Raise)
    }
    assert written, f"no raise statement in {modules}"
    reached = {place for call in calls for place in _places(call)}
    return {
        f"{file.name}:{first}"
        for file, first, last in written
        if not any(file == place and first <= line <= last for place, line in reached)
    }


def _places(call: Callable[[], object]) -> set[tuple[Path, int]]:
    """The files and lines that the error of a call came through."""
    try:
        call()
    except Exception as error:
        places, traceback = set(), error.__traceback__
        while traceback is not None:
            code = traceback.tb_frame.f_code
            places.add((Path(code.co_filename).resolve(), traceback.tb_lineno))
            traceback = traceback.tb_next
        return places
    raise AssertionError("the call raised nothing")
