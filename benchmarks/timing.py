"""Times measured side by side: what disturbs one candidate disturbs all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch


def side_by_side(
    candidates: Mapping[str, Callable[[], object]], *, device: str, rounds: int = 7
) -> dict[str, float]:
    """The median seconds of each candidate; in each round every candidate runs once, in turn.

    Parameters
    ----------
    candidates : mapping of functions without arguments
    device : str
        On "cuda" a candidate is timed until the GPU has finished.
    rounds : int
        After a first one that does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number in range(rounds + 1):
        for name, run in candidates.items():
            _wait(device)
            start = time.perf_counter()
            run()
            _wait(device)
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(found) for name, found in seconds.items()}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
