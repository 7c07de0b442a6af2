"""The check of figures tells those that cannot be read from those that can."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest

from notebooks.plugin import BACKEND_FOLDER

sys.path.append(str(BACKEND_FOLDER))
from checked_figures import UnreadableFigure, figure_problems, show

LABELS = {"xlabel": "query", "ylabel": "score"}


@pytest.fixture(autouse=True)
def own_figures():
    """Without a window, and with no figure left behind."""
    plt.switch_backend("agg")
    yield
    plt.close("all")


def labelled(**changes):
    """A figure that can be read, but for the changes."""
    figure, axes = plt.subplots()
    axes.plot([1, 2])
    axes.set(**LABELS | changes)
    return figure


def heat_map(label="weight"):
    figure, axes = plt.subplots()
    image = axes.imshow(np.eye(8))
    axes.set(**LABELS)
    for row, column in np.ndindex(8, 8):
        axes.text(column, row, "0.1", ha="center", va="center")
    figure.colorbar(image).set_label(label)
    return figure


def shared(common=False):
    figure, grid = plt.subplots(2, 2, sharex=True, sharey=True, squeeze=False)
    if common:
        figure.supxlabel("query")
        figure.supylabel("score")
        return figure
    for axes in grid[-1]:
        axes.set_xlabel("query")
    for axes in grid[:, 0]:
        axes.set_ylabel("score")
    return figure


def in_space(**labels):
    figure, axes = plt.subplots(subplot_kw={"projection": "3d"})
    axes.set(xlabel="query", ylabel="key", **labels)
    return figure


def with_names(rotation):
    figure = labelled()
    names = ["the encoder's layers", "the decoder's layers", "the cross-attention's layers"]
    figure.axes[0].set_xticks([0.0, 0.1, 0.2], names, rotation=rotation, ha="right")
    return figure


def without_axes():
    figure, axes = plt.subplots()
    axes.text(0.5, 0.5, "query")
    axes.axis("off")
    return figure


def twin():
    figure = labelled()
    figure.axes[0].twinx().plot([2, 1])
    return figure


GOOD = {
    "labelled": labelled,
    "heat map": heat_map,
    "shared axes": shared,
    "common labels": lambda: shared(common=True),
    "in space": lambda: in_space(zlabel="score"),
    "slanted names": lambda: with_names(45),
    "no axes": without_axes,
    "no ticks": lambda: labelled(xlabel="", xticks=[]),
    "two lines": lambda: labelled(title="One line\nand another"),
}
BAD = {
    "no x label": (lambda: labelled(xlabel=""), "plot 1 (no title) has no x label"),
    "no y label": (lambda: labelled(ylabel=" ", title="One"), "plot 1 (One) has no y label"),
    "colour bar": (lambda: heat_map(label=""), "plot 2 (no title) has no y label"),
    "in space": (in_space, "plot 1 (no title) has no z label"),
    "twin": (twin, "plot 2 (no title) has no y label"),
    "names on one line": (lambda: with_names(0), 'layers" overlap'),
}


@pytest.mark.parametrize("name", GOOD)
def test_readable_figure_passes(name):
    assert figure_problems(GOOD[name]()) == []


@pytest.mark.parametrize("name", BAD)
def test_unreadable_figure_is_told(name):
    figure, problem = BAD[name]
    assert problem in "; ".join(figure_problems(figure()))


def test_showing_an_unreadable_figure_raises():
    labelled(xlabel="")
    with pytest.raises(UnreadableFigure, match="no x label"):
        show()
