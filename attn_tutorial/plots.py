"""Pictures of weights that do not mislead.

Each function draws into the axes or the figure that it is given, or makes a figure of its own, and
returns the axes. It changes neither Matplotlib's settings nor its current figure, and it refuses
what is no array of weights: a row that does not sum to one, a mask that is turned round.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import FixedLocator

from attn_tutorial._arrays import Array
from attn_tutorial.heads import check_weights

COLOURS = "Blues"  # a single hue: darker is more, for every eye and in print
MASKED = "0.82"  # a grey that the colours do not hold
HATCHES = "0.55"
MOST_NUMBERS = 64
WIDEST_LINE = 5.0  # points
DARK = 0.715  # above this white letters have more contrast, below it black ones


def heat_map(
    weights: Float[Array, "n_q n_k"],
    *,
    ax: Axes | None = None,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    mask: Bool[Array, "..."] | None = None,
    numbers: bool = False,
    colour_bar: bool = True,
) -> Axes:
    """Draw weights as a table: a row for each query, a column for each key, the first on top.

    The colours always stand for 0 to 1, so that two pictures can be compared. A key that the mask
    excludes is grey and hatched, since that is something else than a weight of zero.

    Parameters
    ----------
    weights : float array, shape (n_q, n_k)
        Each row sums to one, or to zero where the mask leaves nothing.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    query_labels, key_labels : strings, n_q and n_k of them, optional
        By default the positions. Where there is no room for all, every second or third is shown.
    mask : bool array, broadcastable to (n_q, n_k), optional
        True where the query may attend to the key.
    numbers : bool
        Whether to write the weights into the cells.
    colour_bar : bool
        Whether to draw the scale beside the table.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Where the weights or the mask are none, labels are missing, or cells too many for numbers.
    """
    weights = _table(weights, mask)
    n_q, n_k = weights.shape
    if numbers and weights.size > MOST_NUMBERS:
        raise ValueError(
            f"weights must have {MOST_NUMBERS} cells at most for numbers; got shape {weights.shape}"
        )
    query_names = _labels("query_labels", query_labels, n_q)
    key_names = _labels("key_labels", key_labels, n_k)
    ax = _new_axes() if ax is None else ax
    image = _draw_table(ax, weights, mask)
    _label_cells(ax.yaxis, query_names)
    _label_cells(ax.xaxis, key_names)
    ax.set(xlabel="key", ylabel="query")
    if numbers:
        _write_numbers(ax, weights, mask)
    if colour_bar:
        ax.figure.colorbar(image, ax=ax, label="weight")
    return ax


def head_grid(
    weights: Float[Array, "n_layers n_heads n_q n_k"],
    *,
    figure: Figure | SubFigure | None = None,
    query_labels: Sequence[str] | None = None,
    key_labels: Sequence[str] | None = None,
    mask: Bool[Array, "..."] | None = None,
) -> np.ndarray:
    """Draw every head as a small table: a row of tables for each layer, the first on top.

    All share one scale from 0 to 1, one colour bar and the labels at the left and the lower edge.
    Layers and heads are counted from 1.

    Parameters
    ----------
    weights : float array, shape (n_layers, n_heads, n_q, n_k)
    figure : Figure or SubFigure, optional
        Where to draw; by default a new one.
    query_labels, key_labels : strings, n_q and n_k of them, optional
        By default the positions.
    mask : bool array, broadcastable to the shape of the weights, optional
        True where the query may attend to the key.

    Returns
    -------
    array of Axes, shape (n_layers, n_heads)

    Raises
    ------
    TypeError, ValueError
        Where the weights or the mask are none, or labels are missing.

    References
    ----------
    Tufte (1990), "Envisioning Information", Graphics Press, chapter 4, for small multiples.
    Vig (2019), "A Multiscale Visualization of Attention in the Transformer Model", ACL System
    Demonstrations, for a grid of layers and heads.
    """
    weights = np.asarray(weights)
    if weights.ndim != 4:
        raise ValueError(
            f"weights must have shape (n_layers, n_heads, n_q, n_k); got {weights.shape}"
        )
    check_weights(weights, mask)
    n_layers, n_heads, n_q, n_k = weights.shape
    query_names = _labels("query_labels", query_labels, n_q)
    key_names = _labels("key_labels", key_labels, n_k)
    masks = np.broadcast_to(True if mask is None else mask, weights.shape)
    if figure is None:
        figure = Figure(figsize=(1.6 * n_heads + 1, 1.6 * n_layers + 0.8), layout="constrained")
    grid = figure.subplots(n_layers, n_heads, sharex=True, sharey=True, squeeze=False)
    for (layer, head), ax in np.ndenumerate(grid):
        image = _draw_table(ax, weights[layer, head], masks[layer, head])
        _label_cells(ax.yaxis, query_names)
        _label_cells(ax.xaxis, key_names)
        ax.set_title(f"{layer + 1}.{head + 1}")
    figure.supxlabel("key")
    figure.supylabel("query")
    figure.colorbar(image, ax=grid, label="weight")
    return grid


def alignment(
    weights: Float[Array, "n_target n_source"],
    source: Sequence[str],
    target: Sequence[str],
    *,
    ax: Axes | None = None,
    threshold: float = 0.1,
) -> Axes:
    """Draw lines from the words of a target to those of a source, the thicker the more weight.

    Parameters
    ----------
    weights : float array, shape (n_target, n_source)
        Rows are the target's words, which ask; columns the source's, which answer.
    source, target : strings, n_source and n_target of them
        In the order of the sentence, written from top to bottom.
    ax : Axes, optional
        Where to draw; by default in a new figure.
    threshold : float
        A weight below this is not drawn. Say so in the caption.

    Returns
    -------
    Axes

    Raises
    ------
    TypeError, ValueError
        Where the weights are none, words are missing, or the threshold is not from 0 to 1.

    References
    ----------
    Vig (2019), "A Multiscale Visualization of Attention in the Transformer Model", ACL System
    Demonstrations.
    """
    weights = _table(weights, None)
    n_target, n_source = weights.shape
    source, target = _labels("source", source, n_source), _labels("target", target, n_target)
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be from 0 to 1; got {threshold}")
    ax = _new_axes() if ax is None else ax
    heights = {"source": _heights(n_source), "target": _heights(n_target)}
    drawn = np.argwhere((weights >= threshold) & (weights > 0))  # (n_lines, 2)
    lines = [[(0, heights["source"][j]), (1, heights["target"][i])] for i, j in drawn]
    strengths = weights[tuple(drawn.T)]  # (n_lines,)
    ax.add_collection(
        LineCollection(
            lines,
            linewidths=WIDEST_LINE * strengths,
            colors=[(0.0, 0.27, 0.52, alpha) for alpha in 0.25 + 0.75 * strengths],
            capstyle="round",
        )
    )
    for name, words in {"source": source, "target": target}.items():
        place, side = (-0.03, "right") if name == "source" else (1.03, "left")
        ax.text(place, 1.0, name, ha=side, va="center", style="italic", color="0.35")
        for word, height in zip(words, heights[name], strict=True):
            ax.text(place, height, word, ha=side, va="center")
    ax.set(xlim=(-0.6, 1.6), ylim=(-0.05, 1.05))
    ax.set_axis_off()
    return ax


def over_heads(
    x: Float[Array, "n_layers n_heads"],
    y: Float[Array, "n_layers n_heads"],
    *,
    ax: Axes | None = None,
    x_label: str = "mean distance (positions)",
    y_label: str = "entropy (nats)",
    name: str = "layer",
    filled: bool = True,
) -> Axes:
    """Draw one point for each head: two of its numbers against one another.

    Parameters
    ----------
    x, y : float arrays, shape (n_layers, n_heads)
    ax : Axes, optional
        Where to draw; by default in a new figure. Call twice to compare two models.
    x_label, y_label : strings
        What is drawn, with its unit.
    name : string
        What the legend calls a layer.
    filled : bool
        Filled markers, or hollow ones, for a model to compare with.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        Where x and y have not one shape (n_layers, n_heads).

    References
    ----------
    Clark et al. (2019), "What Does BERT Look At? An Analysis of BERT's Attention", BlackboxNLP.
    """
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(
            f"x and y must have one shape (n_layers, n_heads); got {x.shape} and {y.shape}"
        )
    ax = _new_axes() if ax is None else ax
    for layer, marker in zip(range(len(x)), "os^DvP*X" * len(x), strict=False):
        colour = f"C{layer % 7}"
        ax.plot(
            x[layer],
            y[layer],
            marker,
            color=colour,
            markerfacecolor=colour if filled else "none",
            label=f"{name} {layer + 1}",
        )
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.legend()
    return ax


class _EveryNth(FixedLocator):
    """Ticks at every cell, or at every second, third … where their labels would touch."""

    def __init__(self, n: int, needed: float) -> None:
        """For n cells, whose labels need so many points each."""
        super().__init__(np.arange(n))
        self.n, self.needed = n, needed

    def __call__(self) -> Float[np.ndarray, " n_ticks"]:
        step = max(1, math.ceil(self.needed / max(_room(self.axis, self.n), 0.1)))
        return self.locs[::step]


def _table(weights: Array, mask: Array | None) -> np.ndarray:
    weights = np.asarray(weights)
    if weights.ndim != 2:
        raise ValueError(f"weights must have shape (n_q, n_k), one head's; got {weights.shape}")
    check_weights(weights, mask)
    return weights


def _labels(name: str, labels: Sequence[str] | None, n: int) -> list[str]:
    if labels is None:
        return [str(position) for position in range(n)]
    if len(labels) != n:
        raise ValueError(f"{name} must have {n} entries, as the weights have; got {len(labels)}")
    return [str(label) for label in labels]


def _new_axes() -> Axes:
    return Figure(layout="constrained").add_subplot()


def _heights(n: int) -> np.ndarray:
    """Where the words of a column stand, under the heading at 1."""
    return (n - 0.5 - np.arange(n)) / (n + 0.5)


def _draw_table(
    ax: Axes, weights: Float[np.ndarray, "n_q n_k"], mask: Bool[Array, "..."] | None
) -> AxesImage:
    """Colours from 0 to 1, the first query on top; what the mask excludes is hatched."""
    allowed = np.broadcast_to(True if mask is None else np.asarray(mask), weights.shape)
    colours = colormaps[COLOURS].with_extremes(bad=MASKED)
    image = ax.imshow(
        np.ma.masked_where(~allowed, weights), cmap=colours, vmin=0, vmax=1, interpolation="nearest"
    )
    edges = [np.arange(n + 1) - 0.5 for n in reversed(weights.shape)]
    excluded = np.ma.masked_where(allowed, np.zeros(weights.shape))
    hatched = ax.pcolor(*edges, excluded, hatch="////", linewidth=0)
    hatched.set(facecolor="none", edgecolor=HATCHES)
    ax.grid(False)
    return image


def _label_cells(axis: Axis, labels: list[str]) -> None:
    """A label at each cell that has room for it; upright under the columns if they are long."""
    letters = axis.get_major_ticks(1)[0].label1.get_fontsize()  # points
    # A colour bar and labels still take some of the room.
    along, lying = 1.2 * letters, 0.65 * letters * max(map(len, labels)) + 0.5 * letters
    crowded = max(map(len, labels)) > 2 and lying > 0.7 * _room(axis, len(labels))
    upright = axis.axis_name == "x" and crowded
    if upright:
        axis.set_tick_params(labelrotation=90)
    needed = along if upright or axis.axis_name == "y" else lying
    axis.set_major_locator(_EveryNth(len(labels), needed))
    axis.set_major_formatter(lambda position, _: labels[round(position)])


def _room(axis: Axis, n: int) -> float:
    """How many points of the axis each of n cells has."""
    box = axis.axes.get_window_extent()
    pixels = box.width if axis.axis_name == "x" else box.height
    return 72 * pixels / axis.get_figure(root=True).dpi / n


def _write_numbers(
    ax: Axes, weights: Float[np.ndarray, "n_q n_k"], mask: Bool[Array, "..."] | None
) -> None:
    allowed = np.broadcast_to(True if mask is None else np.asarray(mask), weights.shape)
    for i, j in np.argwhere(allowed):
        colour = "white" if weights[i, j] > DARK else "black"
        ax.text(j, i, f"{weights[i, j]:.2f}", ha="center", va="center", color=colour)
