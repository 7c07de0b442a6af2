"""Pictures of weights: what is drawn is what was given, read back from the pixels and the lines."""

import subprocess
import sys

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from attn_tutorial import causal_mask, plots, softmax
from notebooks.plugin import BACKEND_FOLDER
from package.mutants import mutant
from package.raises import unreached
from package.zoo import Zoo

sys.path.append(str(BACKEND_FOLDER))
from checked_figures import figure_problems

TABLE_CHECKS, LINE_CHECKS = [], []
SOURCE, TARGET = ["Saturday,", "May", "14,", "2039"], ["2039.", "május", "14.,", "szombat", "end"]


def check(function):
    """A check of tables; those of lines and points are kept apart, to save time."""
    TABLE_CHECKS.append(function)
    return function


def slow_check(function):
    """One that the zoo runs last."""
    function.generated = True
    return check(function)


def check_of_lines(function):
    LINE_CHECKS.append(function)
    return function


def random_weights(*shape, seed=0):
    return softmax(2 * np.random.default_rng(seed).normal(size=shape))


def causal_weights(*shape, seed=0):
    scores = 2 * np.random.default_rng(seed).normal(size=shape)
    return softmax(np.where(causal_mask(*shape[-2:]), scores, -np.inf))


def axes(width=3.0, height=2.6, layout=None):
    return Figure(figsize=(width, height), dpi=72, layout=layout).add_subplot()


def canvas_of(figure):
    return figure.canvas if hasattr(figure.canvas, "buffer_rgba") else FigureCanvasAgg(figure)


def pixels(ax):
    """The picture, rows from the top: (height, width, 3)."""
    canvas = canvas_of(ax.figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def cell_pixels(ax, i, j, picture):
    """The pixels within the cell in the row i from the top and the column j from the left."""
    image = ax.images[0]
    left, right, lower, upper = image.get_extent()
    n_q, n_k = image.get_array().shape
    ends = [
        (left + (right - left) * (j + share) / n_k, upper + (lower - upper) * (i + share) / n_q)
        for share in (0.2, 0.8)
    ]
    (x_0, y_0), (x_1, y_1) = ax.transData.transform(ends)
    rows = sorted(len(picture) - np.array([y_0, y_1]))
    columns = sorted((x_0, x_1))
    return picture[round(rows[0]) : round(rows[1]), round(columns[0]) : round(columns[1])]


def colour(weight):
    return (255 * np.array(mpl.colormaps[plots.COLOURS](float(weight))[:3])).round()


def shown_labels(axis):
    """Which cells are labelled, and how."""
    if axis.axes.figure.get_layout_engine() is not None:  # it changes the room
        axis.axes.figure.draw_without_rendering()
    places = axis.get_majorticklocs()
    return {
        round(place): text.get_text()
        for place, text in zip(places, axis.get_ticklabels(), strict=True)
    }


def lines_of(ax):
    (lines,) = [each for each in ax.collections if isinstance(each, LineCollection)]
    return lines


# --- checks ----------------------------------------------------------------------------------


@slow_check
def each_cell_has_the_colour_of_its_weight(api):
    weights = random_weights(3, 5)
    ax = api.heat_map(weights, ax=axes())
    picture = pixels(ax)
    for i, j in np.ndindex(3, 5):
        found = cell_pixels(ax, i, j, picture)
        assert found.size
        assert np.abs(found - colour(weights[i, j])).max() <= 2, (i, j)


@slow_check
def the_scale_is_from_0_to_1_whatever_the_weights(api):
    for weights in (np.full((4, 4), 0.25), random_weights(4, 4), np.eye(4)):
        ax = api.heat_map(weights, ax=axes())
        assert ax.images[0].get_clim() == (0, 1)
    even = np.full((2, 10), 0.1) + 0.001 * np.tile([1, -1], (2, 5))
    ax = api.heat_map(even, ax=axes())
    picture = pixels(ax)
    for i, j in np.ndindex(2, 10):  # nearly even weights look even
        assert np.abs(cell_pixels(ax, i, j, picture) - colour(0.1)).max() <= 3


@check
def a_masked_cell_is_no_weight_of_zero(api):
    weights, mask = causal_weights(4, 4), causal_mask(4, 4)
    weights[3] = [0, 0.5, 0.5, 0]
    ax = api.heat_map(weights, ax=axes(), mask=mask)
    picture = pixels(ax)
    for i, j in np.ndindex(4, 4):
        found = cell_pixels(ax, i, j, picture).reshape(-1, 3)
        hatched = len(np.unique(found, axis=0)) > 1
        assert hatched == (j > i), (i, j)
        if j <= i:
            assert np.abs(found - colour(weights[i, j])).max() <= 2
        else:
            grey = np.ptp(found, axis=1) <= 2
            assert grey.all()
            assert np.abs(found - colour(0)).max(axis=1).min() > 20


@check
def axes_are_named_and_cells_labelled(api):
    ax = api.heat_map(
        random_weights(2, 3), ax=axes(), query_labels=["sour", "sweet"], key_labels=["a", "b", "c"]
    )
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("key", "query")
    assert shown_labels(ax.yaxis) == {0: "sour", 1: "sweet"}
    assert shown_labels(ax.xaxis) == {0: "a", 1: "b", 2: "c"}
    plain = api.heat_map(random_weights(2, 3), ax=axes())
    assert shown_labels(plain.xaxis) == {0: "0", 1: "1", 2: "2"}
    assert ax.figure.axes[1].get_ylabel() == "weight"


@check
def there_is_no_bar_where_none_is_wanted(api):
    ax = api.heat_map(random_weights(2, 3), ax=axes(), colour_bar=False)
    assert len(ax.figure.axes) == 1


@slow_check
def many_labels_are_thinned_and_stay_in_their_place(api):
    names = [f"word number {i}" for i in range(60)]
    for n, width in ((40, 3.0), (4, 5.0)):
        ax = api.heat_map(
            random_weights(n, n),
            ax=axes(width, width, layout="constrained"),
            query_labels=names[:n],
            key_labels=names[:n],
        )
        for axis in (ax.xaxis, ax.yaxis):
            shown = shown_labels(axis)
            assert all(name == names[place] for place, name in shown.items())
            assert 2 < len(shown) <= n
            assert (len(shown) == n) == (n == 4)
        assert figure_problems(ax.figure) == []


@slow_check
def short_labels_stand_upright_and_long_ones_lie(api):
    def turned(labels):
        ax = api.heat_map(random_weights(4, len(labels)), ax=axes(), key_labels=labels)
        ax.figure.draw_without_rendering()
        assert figure_problems(ax.figure) == []
        return {label.get_rotation() for label in ax.xaxis.get_ticklabels()}

    assert turned(list("Saturday, May 14")) == {0.0}
    assert turned(["lemon", "apple", "honey"]) == {0.0}
    assert turned(["a rather long label", "another long label", "and a third one"]) == {90.0}


@check
def numbers_are_written_into_their_cells(api):
    weights, mask = causal_weights(3, 3), causal_mask(3, 3)
    ax = api.heat_map(weights, ax=axes(), mask=mask, numbers=True)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    assert written == {(j, i): f"{weights[i, j]:.2f}" for i in range(3) for j in range(i + 1)}
    assert api.heat_map(weights, ax=axes(), mask=mask).texts[:] == []
    assert figure_problems(ax.figure) == []


@check
def numbers_can_be_read_on_their_colour(api):
    weights = np.linspace(0, 1, 15)[:, None] * [[1, -1]] + [[0, 1]]
    ax = api.heat_map(weights, ax=axes(), numbers=True)
    for text in ax.texts:
        j, i = text.get_position()
        # The weights of contrast are those of WCAG 2, success criterion 1.4.3.
        levels = [
            np.array(mpl.colors.to_rgb(c)) for c in (text.get_color(), colour(weights[i, j]) / 255)
        ]
        light, dark = sorted(
            (
                float(
                    np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
                    @ [0.2126, 0.7152, 0.0722]
                )
                for c in levels
            ),
            reverse=True,
        )
        assert (light + 0.05) / (dark + 0.05) > 4.5, weights[i, j]


@check
def the_grid_shows_each_head_in_its_place(api):
    weights = causal_weights(2, 3, 4, 4)
    figure = Figure(figsize=(4, 3))
    grid = api.head_grid(weights, figure=figure, mask=causal_mask(4, 4))
    assert grid.shape == (2, 3)
    assert all(ax.figure is figure for ax in grid.flat)
    for (layer, head), ax in np.ndenumerate(grid):
        shown = ax.images[0].get_array()
        np.testing.assert_array_equal(shown.filled(0), weights[layer, head])
        np.testing.assert_array_equal(shown.mask, ~causal_mask(4, 4))
        assert ax.images[0].get_clim() == (0, 1)
        assert ax.get_title() == f"{layer + 1}.{head + 1}"
    boxes = [ax.get_position() for ax in grid[:, 0]]
    assert boxes[0].y0 > boxes[1].y0  # the first layer on top
    assert (figure.get_supxlabel(), figure.get_supylabel()) == ("key", "query")
    assert len(figure.axes) == 7  # one bar for all


@check
def each_head_may_have_its_own_mask(api):
    masks = np.stack([causal_mask(4, 4), np.ones((4, 4), dtype=bool)])[None]  # (1, 2, 4, 4)
    weights = np.where(masks, 1.0, 0.0)
    weights /= weights.sum(-1, keepdims=True)
    grid = api.head_grid(weights, mask=masks)
    assert [np.ma.getmaskarray(ax.images[0].get_array()).any() for ax in grid[0]] == [True, False]


@check
def only_the_outer_tables_are_labelled(api):
    names = [f"word {i}" for i in range(6)]
    figure = Figure(figsize=(4, 4))
    weights = random_weights(2, 2, 6, 6)
    grid = api.head_grid(weights, figure=figure, query_labels=names, key_labels=names[::-1])
    for (layer, head), ax in np.ndenumerate(grid):
        for axis, outer in ((ax.yaxis, head == 0), (ax.xaxis, layer == 1)):
            assert (
                axis.get_tick_params()["labelleft" if axis is ax.yaxis else "labelbottom"] == outer
            )
    assert all(names[place] == name for place, name in shown_labels(grid[0, 0].yaxis).items())
    shown = shown_labels(grid[1, 0].xaxis)
    assert shown
    assert all(names[::-1][place] == name for place, name in shown.items())


@check_of_lines
def lines_join_the_words_that_belong_together(api):
    weights = random_weights(5, 4)
    ax = api.alignment(weights, SOURCE, TARGET, ax=axes(), threshold=0.2)
    heights = {text.get_text(): text.get_position() for text in ax.texts}
    lines = lines_of(ax)
    wanted = [(i, j) for i in range(5) for j in range(4) if weights[i, j] >= 0.2]
    assert 0 < len(wanted) < 20
    drawn = {}
    for segment, width, rgba in zip(
        lines.get_segments(), lines.get_linewidths(), lines.get_colors(), strict=True
    ):
        (x_0, y_0), (x_1, y_1) = sorted(map(tuple, segment))
        assert x_0 < x_1
        source = [word for word in SOURCE if np.isclose(heights[word][1], y_0)]
        target = [word for word in TARGET if np.isclose(heights[word][1], y_1)]
        assert heights[source[0]][0] < x_0  # the source on the left of the lines
        assert heights[target[0]][0] > x_1
        drawn[TARGET.index(target[0]), SOURCE.index(source[0])] = (width, rgba[3])
    assert sorted(drawn) == wanted
    by_weight = sorted(drawn, key=lambda place: weights[place])
    for measure in range(2):  # width and opacity rise with the weight
        values = [drawn[place][measure] for place in by_weight]
        assert values == sorted(values)
        assert len(set(values)) == len(values)
    widths = [drawn[place][0] / weights[place] for place in by_weight]
    np.testing.assert_allclose(widths, widths[0])


@check_of_lines
def words_stand_in_their_order_from_top_to_bottom(api):
    ax = api.alignment(random_weights(5, 4), SOURCE, TARGET, ax=axes())
    heights = {text.get_text(): text.get_position()[1] for text in ax.texts}
    for words in (["source", *SOURCE], ["target", *TARGET]):
        places = [heights[word] for word in words]
        assert places == sorted(places, reverse=True)
        assert len(set(places)) == len(places)
    assert figure_problems(ax.figure) == []


@check_of_lines
def a_weight_of_zero_draws_no_line(api):
    ax = api.alignment(np.eye(3), "abc", "xyz", ax=axes(), threshold=0)
    assert len(lines_of(ax).get_segments()) == 3


@check_of_lines
def each_head_is_one_point(api):
    x, y = np.random.default_rng(0).random((2, 2, 3))
    ax = api.over_heads(x, y, ax=axes())
    for layer, line in enumerate(ax.lines):
        np.testing.assert_array_equal(line.get_xdata(), x[layer])
        np.testing.assert_array_equal(line.get_ydata(), y[layer])
        assert line.get_linestyle() == "None"
    assert len(ax.lines) == 2
    assert len({line.get_marker() for line in ax.lines}) == 2  # told apart without colours
    assert len({line.get_color() for line in ax.lines}) == 2
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["layer 1", "layer 2"]
    assert ax.get_xlabel() == "mean distance (positions)"
    assert ax.get_ylabel() == "entropy (nats)"
    api.over_heads(x, y, ax=ax, filled=False, name="untrained, layer")
    hollow = [line.get_markerfacecolor() == "none" for line in ax.lines]
    assert hollow == [False, False, True, True]
    assert len(ax.get_legend().get_texts()) == 4


@slow_check
def nothing_global_is_touched(api):
    figure, current = plt.subplots()
    try:
        before = dict(mpl.rcParams)
        weights = random_weights(2, 3)
        for ax in (
            api.heat_map(weights),
            api.heat_map(weights, ax=axes()),
            api.head_grid(weights[None, None])[0, 0],
            api.alignment(weights, "abc", "xy"),
            api.over_heads(weights, weights),
        ):
            ax.figure.draw_without_rendering()
            assert ax.figure is not figure
        assert dict(mpl.rcParams) == before
        assert plt.get_fignums() == [figure.number]
        assert plt.gca() is current
        assert not current.has_data()
    finally:
        plt.close("all")


@check
def what_is_given_stays_as_it_was(api):
    weights, mask = causal_weights(2, 3, 4, 4), causal_mask(4, 4)
    before = weights.copy()
    api.head_grid(weights, mask=mask)
    api.heat_map(weights[0, 0], mask=mask)
    np.testing.assert_array_equal(weights, before)
    np.testing.assert_array_equal(mask, causal_mask(4, 4))


# --- the package passes, and broken versions do not --------------------------------------------


@pytest.mark.parametrize("check", TABLE_CHECKS + LINE_CHECKS, ids=lambda check: check.__name__)
def test_the_package_passes(check):
    check(plots)


BROKEN_TABLES = {
    "weights rounded in place": (
        "(n_q, n_k), one head's; got {weights.shape}\")\n",
        "(n_q, n_k), one head's; got {weights.shape}\")\n    weights[...] = weights.round(1)\n",
    ),
    "the settings changed": (
        "    ax.grid(False)\n",
        '    ax.grid(False)\n    __import__("matplotlib").rcParams["lines.linewidth"] += 1\n',
    ),
    "every table labelled": ("sharex=True, sharey=True", "sharex=False, sharey=False"),
    "a bar always": ("if colour_bar:", "if True:"),
    "no bar": ("if colour_bar:", "if False:"),
    "the first head's mask for all": ("masks[layer, head])", "masks[0, 0])"),
    "numbers in white": ('"white" if weights[i, j] > DARK else "black"', '"white"'),
    "always turned": ('axis.axis_name == "x" and crowded', 'axis.axis_name == "x"'),
    "never turned": ("labelrotation=90", "labelrotation=0"),
    "numbers always": ("if numbers:\n", "if True:\n"),
    "all labels at once": ("[::step]", "[::1]"),
    "names of the axes exchanged": (
        'xlabel="key", ylabel="query")',
        'xlabel="query", ylabel="key")',
    ),
    "masked shown as zero": ("with_extremes(bad=MASKED)", "with_extremes(bad=(0.97, 0.98, 1.0))"),
    "the scale of the picture": (", vmin=0, vmax=1", ""),
    "transposed": (
        "np.ma.masked_where(~allowed, weights),",
        "np.ma.masked_where(~allowed, weights).T,",
    ),
    "layers in reverse": ("weights[layer, head], masks", "weights[-1 - layer, head], masks"),
    "the first query below": ("vmin=0, vmax=1", 'vmin=0, vmax=1, origin="lower"'),
    "the greatest weight is the scale": ("vmax=1", "vmax=weights.max()"),
    "interpolated": ('interpolation="nearest"', 'interpolation="bilinear"'),
    "no hatches": ('hatch="////", ', ""),
    "everything hatched": (
        "np.ma.masked_where(allowed, np.zeros",
        "np.ma.masked_where(allowed & False, np.zeros",
    ),
    "the mask turned round": (
        "np.ma.masked_where(~allowed, weights),",
        "np.ma.masked_where(allowed, weights),",
    ),
    "the hatches turned round": (
        "np.ma.masked_where(allowed, np.zeros",
        "np.ma.masked_where(~allowed, np.zeros",
    ),
    "the hatches transposed": ("(n + 1) - 0.5 for n in reversed(", "(n + 1) - 0.5 for n in tuple("),
    "labels exchanged": (
        "_label_cells(ax.yaxis, query_names)\n    _label",
        "_label_cells(ax.yaxis, key_names)\n    _label",
    ),
    "labels from 1": (
        "[str(position) for position in range(n)]",
        "[str(position + 1) for position in range(n)]",
    ),
    "labels of the first cells at every other": (
        "labels[round(position)]",
        "labels[round(position) // 2]",
    ),
    "every tenth label": ("[::step]", "[::10]"),
    "numbers transposed": ("ax.text(j, i, f", "ax.text(i, j, f"),
    "numbers of the transpose": ('f"{weights[i, j]:.2f}"', 'f"{weights[j, i]:.2f}"'),
    "numbers where nothing is": ("np.argwhere(allowed)", "np.argwhere(allowed | True)"),
    "the first head everywhere": ("weights[layer, head], masks", "weights[layer, 0], masks"),
    "layers and heads exchanged": (
        "figure.subplots(n_layers, n_heads, sharex=True, sharey=True, squeeze=False)",
        "figure.subplots(n_heads, n_layers, sharex=True, sharey=True, squeeze=False).T",
    ),
    "counted from 0": ('f"{layer + 1}.{head + 1}"', 'f"{layer}.{head}"'),
    "heads before layers": ('f"{layer + 1}.{head + 1}"', 'f"{head + 1}.{layer + 1}"'),
    "a bar for each head": (
        "        ax.set_title(f",
        "        figure.colorbar(image, ax=ax)\n        ax.set_title(f",
    ),
    "into pyplot's figure": (
        'Figure(layout="constrained").add_subplot()',
        '__import__("matplotlib.pyplot").pyplot.gca()',
    ),
}

BROKEN_LINES = {
    "lines from the wrong word": (
        '[(0, heights["source"][j]), (1, heights["target"][i])]',
        '[(0, heights["source"][j]), (1, heights["target"][-1 - i])]',
    ),
    "words on the wrong side": ('if name == "source" else (1', 'if name == "target" else (1'),
    "words from bottom to top": ("(n - 0.5 - np.arange(n))", "(0.5 + np.arange(n))"),
    "weak lines only": ("(weights >= threshold)", "(weights < threshold)"),
    "weights of zero drawn": (" & (weights > 0)", ""),
    "lines of one width": ("WIDEST_LINE * strengths", "WIDEST_LINE + 0 * strengths"),
    "lines of the square": ("WIDEST_LINE * strengths", "WIDEST_LINE * strengths**2"),
    "lines of one opacity": ("0.25 + 0.75 * strengths", "0.8 + 0 * strengths"),
    "x and y exchanged": ("x[layer],\n            y[layer],", "y[layer],\n            x[layer],"),
    "one layer too few": ("zip(range(len(x)),", "zip(range(len(x) - 1),"),
    "one marker for all": ('"os^DvP*X" * len(x)', '"oooooooo" * len(x)'),
    "always filled": ('colour if filled else "none"', "colour"),
    "no legend": ("    ax.legend()\n", "    ax.legend([])\n"),
}

ZOOS = [
    Zoo(checks, lambda name, broken=broken: mutant(plots, *broken[name]), broken)
    for checks, broken in ((TABLE_CHECKS, BROKEN_TABLES), (LINE_CHECKS, BROKEN_LINES))
]


@pytest.fixture(autouse=True)
def settings_as_before():
    with mpl.rc_context():
        yield


@pytest.mark.parametrize(("zoo", "name"), [(zoo, name) for zoo in ZOOS for name in zoo.names])
def test_a_broken_version_is_caught(zoo, name):
    assert zoo.catches(name)


@pytest.mark.parametrize("zoo", ZOOS, ids=["tables", "lines"])
def test_no_check_is_idle(zoo):
    assert zoo.idle() == []


def test_a_grid_of_its_own_can_be_read():
    names = [f"word {i}" for i in range(12)]
    grid = plots.head_grid(random_weights(2, 3, 12, 12), query_labels=names, key_labels=names)
    assert figure_problems(grid[0, 0].figure) == []


def test_tables_fit_into_a_part_of_a_figure():
    figure = Figure(figsize=(8, 3), layout="constrained")
    left, right = figure.subfigures(1, 2)
    grid = plots.head_grid(random_weights(2, 2, 3, 3), figure=left)
    ax = plots.heat_map(random_weights(2, 3), ax=right.add_subplot())
    figure.draw_without_rendering()
    assert {each.figure for each in grid.flat} == {left}
    assert ax.figure is right
    assert (left.get_supxlabel(), left.get_supylabel()) == ("key", "query")
    assert len(left.axes) == 5
    assert len(right.axes) == 2


ERRORS = {
    "three axes": lambda: plots.heat_map(random_weights(2, 3, 4)),
    "scores": lambda: plots.heat_map(np.ones((2, 3))),
    "the mask turned round": lambda: plots.heat_map(causal_weights(3, 3), mask=~causal_mask(3, 3)),
    "missing labels": lambda: plots.heat_map(random_weights(2, 3), key_labels=["a", "b"]),
    "labels exchanged": lambda: plots.heat_map(
        random_weights(2, 3), query_labels=["a", "b", "c"], key_labels=["a", "b"]
    ),
    "too many numbers": lambda: plots.heat_map(random_weights(9, 9), numbers=True),
    "one layer": lambda: plots.head_grid(random_weights(2, 3, 4)),
    "words exchanged": lambda: plots.alignment(random_weights(5, 4), TARGET, SOURCE),
    "threshold": lambda: plots.alignment(random_weights(5, 4), SOURCE, TARGET, threshold=2),
    "no layers": lambda: plots.over_heads(np.ones(3), np.ones(3)),
    "other heads": lambda: plots.over_heads(np.ones((2, 3)), np.ones((2, 4))),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    with pytest.raises(ValueError, match="must"):
        ERRORS[name]()


def test_messages_name_the_argument_and_the_shape():
    with pytest.raises(ValueError, match=r"key_labels must have 3 entries.*got 2"):
        ERRORS["missing labels"]()
    with pytest.raises(ValueError, match="mask must be True where the query may attend"):
        ERRORS["the mask turned round"]()
    with pytest.raises(ValueError, match=r"\(n_layers, n_heads, n_q, n_k\); got \(2, 3, 4\)"):
        ERRORS["one layer"]()


def test_every_error_of_the_module_is_tested():
    assert unreached(["plots"], ERRORS.values()) == set()


def test_neither_pyplot_nor_torch_is_imported():
    program = (
        "import sys, attn_tutorial.plots, attn_tutorial.heads; "
        "sys.exit(bool({'matplotlib.pyplot', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
