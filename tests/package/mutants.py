"""Broken versions of a module: its source with one mistake put in, loaded beside the right one."""

import inspect
import sys
from types import ModuleType


def mutant(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """The module anew, with one piece of its source, which must occur once, replaced."""
    source = inspect.getsource(module)
    if source.count(right) != 1:
        raise ValueError(
            f"{module.__name__} has {source.count(right)} times {right!r}; wanted it once"
        )
    return _loaded(module, source.replace(right, wrong))


def unbroken(module: ModuleType) -> ModuleType:
    """The module anew, and nothing replaced: as much a copy as its mutants are."""
    return _loaded(module, inspect.getsource(module))


def _loaded(module: ModuleType, source: str) -> ModuleType:
    made = ModuleType(f"another_{module.__name__.rpartition('.')[2]}")
    sys.modules[made.__name__] = made  # dataclasses look their module up
    try:
        exec(compile(source, made.__name__, "exec"), vars(made))
    finally:
        del sys.modules[made.__name__]
    return made
