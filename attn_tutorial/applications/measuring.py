"""Training one system after the other with several seeds, and the clock that they share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

from torch import nn

from attn_tutorial.applications.results import Role, System


class Clock:
    """How much processor time passed while it was running; other programs hardly count.

    Attributes
    ----------
    seconds : float
        Of all that was timed so far.
    """

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Time what is inside this context."""
        begin = time.process_time()
        try:
            yield
        finally:
            self.seconds += time.process_time() - begin


def over_seeds(
    role: Role,
    seeds: Iterable[int],
    fit: Callable[[int], nn.Module],
    evaluate: Callable[[nn.Module], dict[str, float]],
) -> tuple[System, list[nn.Module]]:
    """Train a system once with each seed, and collect its scores.

    Parameters
    ----------
    role : "attention", "rival", "baseline" or "ablation"
    seeds : ints
    fit : function of a seed
        Seeds everything itself, builds a model, trains it, and returns it. Only this is timed.
    evaluate : function of a model
        Its scores on the test part, by metric.

    Returns
    -------
    system : System
        With the number of trained parameters, and the mean processor time.
    models : list of modules
        Those trained, one for each seed.
    """
    clock, models, scores = Clock(), [], []
    for seed in seeds:
        with clock.running():
            model = fit(seed)
        models.append(model)
        scores.append(evaluate(model))
    return (
        System(
            role=role,
            scores={metric: [score[metric] for score in scores] for metric in scores[0]},
            n_parameters=n_parameters(models[0]),
            seconds=clock.seconds / len(models),
        ),
        models,
    )


def n_parameters(model: nn.Module) -> int:
    """How many numbers training sets in a model."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
