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
    broken = ModuleType(f"broken_{module.__name__.rpartition('.')[2]}")
    sys.modules[broken.__name__] = broken  # dataclasses look their module up
    try:
        exec(compile(source.replace(right, wrong), broken.__name__, "exec"), vars(broken))
    finally:
        del sys.modules[broken.__name__]
    return broken
