"""Matplotlib's inline backend, which also refuses figures that cannot be read.

The tests' kernels draw with it (see plugin.py): `plt.show()` raises an error, so that the cell
fails, where an axis has no label or two texts overlap.
"""

from __future__ import annotations

import matplotlib
import numpy as np
from IPython.core.getipython import get_ipython
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.transforms import Affine2D
from matplotlib_inline import backend_inline

# What Matplotlib looks for in a backend:
from matplotlib_inline.backend_inline import FigureCanvas, new_figure_manager

__all__ = ["FigureCanvas", "UnreadableFigure", "figure_problems", "new_figure_manager", "show"]

# Boxes are a little larger than what is seen of the letters in them.
SEEN = 0.9


class UnreadableFigure(AssertionError):
    """What a reader of the figure could not know or read."""


def show(*arguments, **options) -> None:
    """Show every open figure, as the inline backend does, if they can be read."""
    figures = [manager.canvas.figure for manager in backend_inline.Gcf.get_all_fig_managers()]
    problems = [problem for figure in figures for problem in figure_problems(figure)]
    if problems:
        raise UnreadableFigure("; ".join(problems))
    backend_inline.show(*arguments, **options)


def figure_problems(figure: Figure) -> list[str]:
    """What a reader of the figure could not know or read, in words."""
    lines = drawn_lines(figure)  # drawing settles the layout, so it comes first
    return label_problems(figure) + overlap_problems(lines)


# Labels


def label_problems(figure: Figure) -> list[str]:
    """Each axis with numbers or names along it says what they are."""
    return [
        f"plot {number} ({axes.get_title() or 'no title'}) has no {name} label"
        for number, axes in enumerate(figure.axes, 1)
        if axes.get_visible() and has_axes(axes)
        for name, axis in axes_by_name(axes).items()
        if needs_label(axis) and not is_labelled(figure, axes, name)
    ]


def has_axes(axes: Axes) -> bool:
    """Whether `axis("off")` was not asked for; a plot in space keeps that elsewhere."""
    return getattr(axes, "_axis3don", axes.axison)


def axes_by_name(axes: Axes) -> dict[str, Axis]:
    """The x and y axis, and the z axis of a plot in space."""
    named = {name: getattr(axes, f"{name}axis", None) for name in "xyz"}
    return {name: axis for name, axis in named.items() if axis is not None}


def needs_label(axis: Axis) -> bool:
    """Whether the axis shows a tick's label: without any there is nothing to name."""
    return axis.get_visible() and any(
        label.get_visible() and label.get_text() for label in axis.get_ticklabels()
    )


def is_labelled(figure: Figure, axes: Axes, name: str) -> bool:
    """By a label of its own, or by the figure's common label."""
    common = {"x": figure.get_supxlabel, "y": figure.get_supylabel, "z": str}[name]
    return bool(getattr(axes, f"get_{name}label")().strip() or common().strip())


# Overlaps


class TextRecorder(RendererAgg):
    """A renderer that notes each line of text that is drawn, with its box."""

    def __init__(self, width: float, height: float, dpi: float):
        super().__init__(width, height, dpi)
        self.lines: list[tuple[str, Path]] = []

    def draw_text(self, gc, x, y, s, prop, angle, ismath=False, mtext=None):
        width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
        # A unit square is shrunk about its middle, given the line's size, turned and moved to the
        # line's start; y counts downwards on the canvas.
        place = (
            Affine2D()
            .translate(-0.5, -0.5)
            .scale(SEEN)
            .translate(0.5, 0.5)
            .scale(width, height)
            .translate(0, -descent)
            .rotate_deg(angle)
            .scale(1, -1)
            .translate(x, y)
        )
        if s.strip():
            self.lines.append((s, Path.unit_rectangle().transformed(place)))


def drawn_lines(figure: Figure) -> list[tuple[str, Path]]:
    """Each line of text in the figure with the box that it fills."""
    recorder = TextRecorder(*figure.canvas.get_width_height(), figure.dpi)
    figure.draw(recorder)
    return recorder.lines


def overlap_problems(lines: list[tuple[str, Path]]) -> list[str]:
    return [
        f"the texts {lines[i][0]!r} and {lines[j][0]!r} overlap"
        for i, j in near_pairs([box for _, box in lines])
        if lines[i][1].intersects_path(lines[j][1], filled=True)
    ]


def near_pairs(boxes: list[Path]) -> np.ndarray:
    """The pairs whose upright frames overlap: a quick choice, as a heat map has many texts."""
    left, bottom, right, top = (
        np.array([box.get_extents().extents for box in boxes]).reshape(-1, 4).T
    )
    across = (left[:, None] < right) & (left < right[:, None])
    along = (bottom[:, None] < top) & (bottom < top[:, None])
    return np.argwhere(np.triu(across & along, 1))


def use_in_kernel() -> None:
    """What the inline backend does when it is loaded under its own name, but no images.

    Pixels are not compared, and each figure has been drawn already to be checked.
    """
    kernel = get_ipython()
    if kernel is not None:
        matplotlib.interactive(True)
        backend_inline.configure_inline_support(kernel, "inline")
        backend_inline.set_matplotlib_formats()


use_in_kernel()
