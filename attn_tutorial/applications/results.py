"""What an application measured: written by its command, read by its chapter and by the overview.

One JSON file an application. It says what the task is, where the data come from, and how every
system did on data that it had not seen: the models with attention, the simple baselines that
somebody would try first, rivals without attention, and ablations, where attention was taken out of
a model.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

Role = Literal["attention", "rival", "baseline", "ablation"]
Origin = Literal["real", "generated", "generated from real", "spoken by a program"]

FEWEST_SEEDS = 3
PLUS_MINUS = "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"  # a score stays on one line


@dataclass(frozen=True)
class System:
    """One model or baseline, and its scores on the test part.

    Attributes
    ----------
    role : "attention", "rival", "baseline" or "ablation"
        A model with attention; a trained model without; the simplest thing that somebody would try
        first; a model whose attention was replaced, for example by equal weights.
    scores : dict of list of float
        The metrics by name. A list has one score for each seed, in the order of the seeds; a system
        in which nothing is random has a single one.
    n_parameters : int, optional
        How many numbers training sets; None where nothing is trained by gradients.
    seconds : float, optional
        Processor time of training with one seed, on one thread, the mean over the seeds.
    """

    role: Role
    scores: dict[str, list[float]]
    n_parameters: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Results:
    """All that one application measured.

    Attributes
    ----------
    task : str
        What the systems do, in a few words.
    data : str
        What the data are, and where they come from.
    origin : "real", "generated", "generated from real" or "spoken by a program"
    split : str
        How training and test part are kept apart.
    metric : str
        The metric that the overview shows; every system has it.
    higher_is_better : bool
    n_training, n_test : int
        How many examples.
    seeds : list of int
        With which the systems that have chance in them were trained.
    systems : dict of System
    libraries : dict of str
        The version of each library that the data or the results depend on.
    more : dict
        What else the chapter shows.
    """

    task: str
    data: str
    origin: Origin
    split: str
    metric: str
    higher_is_better: bool
    n_training: int
    n_test: int
    seeds: list[int]
    systems: dict[str, System]
    libraries: dict[str, str]
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.origin not in get_args(Origin):
            raise ValueError(f"origin must be one of {get_args(Origin)}; got {self.origin!r}")
        if len(set(self.seeds)) < max(FEWEST_SEEDS, len(self.seeds)):
            raise ValueError(
                f"seeds must be {FEWEST_SEEDS} or more different numbers; got {self.seeds}"
            )
        roles = {system.role for system in self.systems.values()}
        if not {"attention", "baseline"} <= roles:
            raise ValueError(
                f"systems must include one with attention and a baseline; got roles {sorted(roles)}"
            )
        for name, system in self.systems.items():
            self._check_system(name, system)

    def _check_system(self, name: str, system: System) -> None:
        if system.role not in get_args(Role):
            raise ValueError(f"{name}: role must be one of {get_args(Role)}; got {system.role!r}")
        if self.metric not in system.scores:
            raise ValueError(f"{name}: scores must hold the metric {self.metric!r}")
        for metric, scores in system.scores.items():
            wanted = {len(self.seeds)} if system.role == "attention" else {1, len(self.seeds)}
            if len(scores) not in wanted or not all(map(math.isfinite, scores)):
                raise ValueError(
                    f"{name}: {metric} must be finite numbers, as many as {sorted(wanted)}; "
                    f"got {scores}"
                )
        if system.role == "attention" and (system.n_parameters is None or system.seconds is None):
            raise ValueError(f"{name}: a model needs n_parameters and seconds")

    def best(self, role: Role) -> str:
        """The name of the system of that role with the best mean of the metric."""
        names = [name for name, system in self.systems.items() if system.role == role]
        sign = 1 if self.higher_is_better else -1
        return max(names, key=lambda name: sign * self.mean(name))

    def mean(self, name: str, metric: str | None = None) -> float:
        """The mean over the seeds of a system's scores, by default of the metric."""
        return statistics.fmean(self.systems[name].scores[metric or self.metric])

    def spread(self, name: str, metric: str | None = None) -> float:
        """The standard deviation over the seeds; zero for a single score."""
        scores = self.systems[name].scores[metric or self.metric]
        return statistics.stdev(scores) if len(scores) > 1 else 0.0

    def table(self, digits: dict[str, int]) -> str:
        """All systems as a table in Markdown, their scores as mean ± standard deviation.

        Parameters
        ----------
        digits : dict of int
            The metrics to show, in order, and how many digits after the point each gets.

        Returns
        -------
        str
        """
        head = ["System", "Role", "Parameters", "Seconds", *digits]
        rows = []
        for name, system in self.systems.items():
            cells = [
                name,
                system.role,
                "" if system.n_parameters is None else f"{system.n_parameters:,}",
                "" if system.seconds is None else seconds(system.seconds),
            ]
            for metric, places in digits.items():
                cells.append(self.score(name, places, metric) if metric in system.scores else "")
            rows.append(cells)
        return markdown_table(head, rows)

    def score(self, name: str, digits: int, metric: str | None = None) -> str:
        """A system's mean score, with its standard deviation where there are several seeds."""
        mean = round(self.mean(name, metric), digits) + 0.0  # no negative zero
        if len(self.systems[name].scores[metric or self.metric]) == 1:
            return f"{mean:.{digits}f}"
        return f"{mean:.{digits}f}{PLUS_MINUS}{self.spread(name, metric):.{digits}f}"


def seconds(number: float) -> str:
    """A time with two digits that count, at most whole seconds: 0.031, 2.4, 75."""
    if number >= 10:
        return f"{number:.0f}"
    return f"{number:.2g}"


def markdown_table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; a vertical bar in a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def versions(*libraries: str) -> dict[str, str]:
    """The installed version of each library, by its name on PyPI."""
    return {library: version(library) for library in libraries}


def save(results: Results, path: str | os.PathLike) -> None:
    """Write results as JSON, floats rounded to six digits that count."""
    content = _rounded(dataclasses.asdict(results))
    Path(path).write_text(
        json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf8"
    )


def load(path: str | os.PathLike) -> Results:
    """Read what `save` has written.

    Raises
    ------
    ValueError
        Where the file holds something else, or a score or a system that has to be there is not.
    """
    content = json.loads(Path(path).read_text(encoding="utf8"))
    names = {f.name for f in dataclasses.fields(Results)}
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError(f"{Path(path).name}: wanted an object with {sorted(names)}")
    systems = {name: System(**system) for name, system in content.pop("systems").items()}
    return Results(systems=systems, **content)


def _rounded(content: Any) -> Any:
    if isinstance(content, float):
        return float(f"{content:.6g}")
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return content
