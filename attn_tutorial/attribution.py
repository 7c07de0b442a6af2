"""Following information: where the output of several layers of attention comes from.

Two families. The first computes from weights alone, or from weights and their gradients, which
input position an output position draws on: `rollout`, `flow`, `relevance`. The second intervenes:
it runs the model with a head switched off (`ablating`), with equal weights (`uniform_weights`) or
with a piece of another run put in (`patching`), and looks at what changes. `recording` and
`collecting` take out of a run what these need, and leave its result as it is.

Weights and gradients come as NumPy arrays or torch tensors; results are NumPy arrays of float64.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import networkx
import numpy as np
import torch
from array_api_compat import is_torch_array
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial._arrays import Array, FloatArray
from attn_tutorial.layers import MultiHeadAttention

TOLERANCE = 1e-2  # how far a row of weights may be from a sum of one: bfloat16 needs that
FUSIONS = {"mean": np.mean, "max": np.max, "min": np.min}

# --- from the weights ------------------------------------------------------------------------


def rollout(
    weights: FloatArray | Sequence[FloatArray],
    *,
    residual: float = 0.5,
    heads: Literal["mean", "max", "min"] = "mean",
) -> Float[np.ndarray, "... n n"]:
    """Multiply the weights of all layers, as if each layer did nothing but average.

    Each layer mixes its weights with the identity, for the residual connection, and the layers'
    matrices are multiplied, the last one at the left. Entry (i, j) is the sum, over all ways from
    output position i down to input position j, of the product of the weights along the way.

    Parameters
    ----------
    weights : float array, shape (n_layers, n, n) or (n_layers, ..., n_heads, n, n)
        The first layer first. With four axes or more, the third from the right holds the heads. A
        list with one array for each layer will do. Rows sum to one.
    residual : float
        The share of the residual connection, from 0 to 1. The paper takes a half.
    heads : "mean", "max" or "min"
        How the heads of a layer become one matrix. The paper takes the mean; max and min are
        divided by the row's sum afterwards.

    Returns
    -------
    float64 NumPy array, shape (..., n, n)
        Row = output position, column = input position; rows sum to one.

    Raises
    ------
    TypeError
        Where the weights are no floating-point array.
    ValueError
        Where the shape is another, rows do not sum to one, residual is no share, there is no such
        way to join heads, or the minimum over heads leaves a row with nothing.

    References
    ----------
    Abnar and Zuidema (2020), "Quantifying Attention Flow in Transformers", ACL, section 3.
    """
    layers = _mixing(weights, residual, heads)  # (n_layers, ..., n, n)
    result = layers[0]
    for layer in layers[1:]:
        result = layer @ result  # (..., n, n)
    return result


def flow(
    weights: FloatArray | Sequence[FloatArray],
    *,
    residual: float = 0.5,
    heads: Literal["mean", "max", "min"] = "mean",
) -> Float[np.ndarray, "n n"]:
    """How much could stream from each input to each output, were the weights widths of pipes.

    The positions of all layers are the nodes of a graph, and each weight, mixed with the residual
    connection as in `rollout`, is the capacity of an edge. Entry (i, j) is the maximum flow between
    output position i and input position j, each pair computed alone.

    Parameters
    ----------
    weights, residual, heads
        As in `rollout`, but for one sequence: shape (n_layers, n, n) or (n_layers, n_heads, n, n).

    Returns
    -------
    float64 NumPy array, shape (n, n)
        Row = output position, column = input position. Between 0 and 1; rows may sum to more than
        one, since the pairs share the pipes.

    Raises
    ------
    TypeError, ValueError
        As `rollout`.

    Notes
    -----
    n · n maximum flows in a graph of (n_layers + 1) · n nodes: for short sequences.

    References
    ----------
    Abnar and Zuidema (2020), "Quantifying Attention Flow in Transformers", ACL, section 3.
    """
    layers = _mixing(weights, residual, heads)
    if layers.ndim != 3:
        raise ValueError(
            "weights must have shape (n_layers, n, n) or (n_layers, n_heads, n, n), one sequence "
            f"at a time; got {tuple(np.shape(weights))}"
        )
    n_layers, n, _ = layers.shape
    graph = networkx.DiGraph()
    graph.add_nodes_from(
        (depth, position) for depth in range(n_layers + 1) for position in range(n)
    )
    for depth, layer in enumerate(layers, start=1):
        for i, j in np.argwhere(layer > 0).tolist():
            graph.add_edge((depth, i), (depth - 1, j), capacity=float(layer[i, j]))
    result = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            result[i, j] = networkx.maximum_flow_value(graph, (n_layers, i), (0, j))
    return result


def gradient_times_weights(
    weights: FloatArray, gradients: FloatArray, *, positive: bool = True
) -> Float[np.ndarray, "... n_q n_k"]:
    """Weigh each weight by how much the output of interest depends on it; the mean over heads.

    Parameters
    ----------
    weights : float array, shape (..., n_heads, n_q, n_k)
    gradients : float array, of the same shape
        The derivatives of one number, such as the logit of a class, by the weights.
    positive : bool
        Whether products below zero count as zero, before the mean, as in the paper.

    Returns
    -------
    float64 NumPy array, shape (..., n_q, n_k)

    Raises
    ------
    TypeError
        Where an argument is no floating-point array.
    ValueError
        Where the shapes differ or have fewer than three axes.

    References
    ----------
    Chefer, Gur and Wolf (2021), "Generic Attention-model Explainability for Interpreting Bi-Modal
    and Encoder-Decoder Transformers", ICCV, section 3. Barkan et al. (2021), "Grad-SAM:
    Explaining Transformers via Gradient Self-Attention Maps", CIKM, take the same product, of the
    weights and the positive part of the gradients, and average it over the layers too.
    """
    weights, gradients = _numbers("weights", weights), _numbers("gradients", gradients)
    if weights.ndim < 3 or weights.shape != gradients.shape:
        raise ValueError(
            "weights and gradients must have one shape (..., n_heads, n_q, n_k); "
            f"got {weights.shape} and {gradients.shape}"
        )
    product = weights * gradients  # (..., n_heads, n_q, n_k)
    if positive:
        product = np.maximum(product, 0)
    return product.mean(axis=-3)


def relevance(
    weights_per_layer: Sequence[FloatArray], gradients_per_layer: Sequence[FloatArray]
) -> Float[np.ndarray, "... n n"]:
    """Follow gradient times weights through the layers of self-attention.

    The relevance starts as the identity: each position holds itself. Each layer adds what it moves:
    R becomes R + Ā R, where Ā is the layer's `gradient_times_weights`.

    Parameters
    ----------
    weights_per_layer : sequence of float arrays, each (..., n_heads, n, n)
        The first layer first.
    gradients_per_layer : sequence of float arrays, of the same shapes
        The derivatives of one number by the weights.

    Returns
    -------
    float64 NumPy array, shape (..., n, n)
        Row = output position, column = input position. Take the row of the position at which the
        number was read. Rows do not sum to one.

    Raises
    ------
    TypeError, ValueError
        As `gradient_times_weights`, and where the layers differ in number or shape, or there is
        none.

    References
    ----------
    Chefer, Gur and Wolf (2021), "Generic Attention-model Explainability for Interpreting Bi-Modal
    and Encoder-Decoder Transformers", ICCV, section 3.
    """
    n_weights, n_gradients = len(weights_per_layer), len(gradients_per_layer)
    if n_weights != n_gradients or not n_weights:
        raise ValueError(
            "weights_per_layer and gradients_per_layer must have one entry for each layer; "
            f"got {n_weights} and {n_gradients}"
        )
    moved = [
        gradient_times_weights(weights, gradients)
        for weights, gradients in zip(weights_per_layer, gradients_per_layer, strict=True)
    ]
    shapes = [layer.shape for layer in moved]
    n_q, n_k = shapes[0][-2:]
    if len(set(shapes)) > 1 or n_q != n_k:
        found = [tuple(np.shape(weights)) for weights in weights_per_layer]
        raise ValueError(
            f"all layers must have weights of one shape (..., n_heads, n, n); got {found}"
        )
    result = np.broadcast_to(np.eye(n_q), shapes[0])  # (..., n, n)
    for layer in moved:
        result = result + layer @ result
    return result


# --- out of a run ----------------------------------------------------------------------------


class Recording:
    """The weights of every call of a layer of attention, in the order of the calls.

    Attributes
    ----------
    names : list of str
        The name of the layer in the model, for each call.
    weights : list of float tensors, each (batch, n_heads, n_q, n_k)
        They are part of the graph of the run, so that a gradient reaches them.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.weights: list[Tensor] = []

    @property
    def gradients(self) -> list[Tensor]:
        """The derivatives by the weights, call by call, after `backward()` on one number.

        A call that the number does not depend on has zeros.

        Raises
        ------
        ValueError
            Before `backward()`.
        """
        if all(weights.grad is None for weights in self.weights):
            raise ValueError(
                "the recording has no gradients: call backward() on one number of the result, of "
                "a run in which gradients are recorded"
            )
        return [
            torch.zeros_like(weights) if weights.grad is None else weights.grad
            for weights in self.weights
        ]


@contextlib.contextmanager
def recording(model: nn.Module) -> Iterator[Recording]:
    """Record the weights, and after `backward()` their gradients, of all layers of attention.

    The result of the model stays as it is, up to rounding: the weights are computed where torch's
    engine would not show them. The backward pass may be called inside or after the context.

        with recording(model) as record:
            logits = model(tokens)
        logits[0, kind].backward()
        relevance(record.weights, record.gradients)

    Parameters
    ----------
    model : module
        With one or more `MultiHeadAttention` in it, in evaluation mode. Encoder, decoder and
        cross-attention alike; the names tell them apart.

    Yields
    ------
    Recording

    Raises
    ------
    ValueError
        Where there is no such layer, or one would drop weights at random.
    """
    modules = attention_modules(model)
    record = Recording()
    for name, module in modules.items():
        if module.training and module.dropout:
            raise ValueError(f"{name!r} drops weights at random in training: call model.eval()")
    try:
        for name, module in modules.items():
            module._attend = module._attend_and_show = _recorder(record, name, module)
        yield record
    finally:
        for module in modules.values():
            vars(module).pop("_attend", None)
            vars(module).pop("_attend_and_show", None)


@contextlib.contextmanager
def collecting(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Keep what some modules of a model put out, for `patching`.

    Parameters
    ----------
    model : module
    names : strings
        As in `model.named_modules()`. Any module will do, a linear layer inside attention too. If
        it returns several things, the first is kept.

    Yields
    ------
    dict of tensors
        Detached; of the last call of each module.

    Raises
    ------
    ValueError
        Where there is no module of a name.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module, arguments, output):
            outputs[name] = _first(output).detach().clone()

        return hook

    with contextlib.ExitStack() as hooks:
        for name, module in _named(model, names).items():
            hooks.enter_context(_hooked(module.register_forward_hook(keep(name))))
        yield outputs


def attention_modules(model: nn.Module) -> dict[str, MultiHeadAttention]:
    """The layers of attention of a model by name, in the order in which they were built.

    Raises
    ------
    ValueError
        Where there is none.
    """
    modules = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MultiHeadAttention)
    }
    if not modules:
        raise ValueError(f"model must have a MultiHeadAttention; {type(model).__name__} has none")
    return modules


# --- into a run ------------------------------------------------------------------------------


@contextlib.contextmanager
def ablating(
    model: nn.Module, heads: Iterable[tuple[str, int]], *, by: Literal["zero", "mean"] = "zero"
) -> Iterator[None]:
    """Switch heads off: what they hand to the layer's output projection becomes a constant.

    Parameters
    ----------
    model : module
    heads : (name, number) pairs
        The layer's name as in `attention_modules`, and which of its heads, from 0.
    by : "zero" or "mean"
        Put in zero, or the head's mean over the batch and the positions of the same call. The mean
        leaves what the head says always, and takes what it says about this token only.

    Raises
    ------
    ValueError
        Where there is no such layer or head, or no such way.

    References
    ----------
    Michel, Levy and Neubig (2019), "Are Sixteen Heads Really Better than One?", NeurIPS, section 2,
    for zero. Wang et al. (2023), "Interpretability in the Wild", ICLR, section 2, for the mean.
    """
    if by not in ("zero", "mean"):
        raise ValueError(f"by must be 'zero' or 'mean'; got {by!r}")
    modules = attention_modules(model)
    chosen: dict[str, set[int]] = {}
    for name, head in heads:
        if name not in modules:
            raise ValueError(f"heads must be of the layers {list(modules)}; got {name!r}")
        if not 0 <= head < modules[name].n_heads:
            raise ValueError(f"{name!r} has heads 0 to {modules[name].n_heads - 1}; got {head}")
        chosen.setdefault(name, set()).add(head)

    def switch_off(module: MultiHeadAttention, numbers: set[int]):
        def hook(_, arguments):
            (together,) = arguments  # (batch, n_q, n_heads · d_head)
            together = together.unflatten(-1, (module.n_heads, module.d_head)).clone()
            for head in numbers:
                output = together[:, :, head]  # (batch, n_q, d_head)
                together[:, :, head] = 0 if by == "zero" else output.mean(dim=(0, 1))
            return together.flatten(-2)

        return hook

    with contextlib.ExitStack() as hooks:
        for name, numbers in chosen.items():
            hook = switch_off(modules[name], numbers)
            hooks.enter_context(_hooked(modules[name].out.register_forward_pre_hook(hook)))
        yield


@contextlib.contextmanager
def uniform_weights(model: nn.Module) -> Iterator[None]:
    """Within this context every query gives each key that it may attend to the same weight.

    All layers attend to the mean of the values, whatever queries and keys say. Entered after
    training it takes the weights from a model that has learned to use them; around training it
    makes the model that never had any. A float mask is still added to the scores.

    Parameters
    ----------
    model : module

    Raises
    ------
    ValueError
        Where the model has no MultiHeadAttention.
    """
    with contextlib.ExitStack() as hooks:
        for module in attention_modules(model).values():
            # Queries of zeros: all scores are zero, and a softmax of equal scores is uniform.
            hook = module.query.register_forward_hook(lambda _, __, query: torch.zeros_like(query))
            hooks.enter_context(_hooked(hook))
        yield


@contextlib.contextmanager
def patching(
    model: nn.Module, outputs: Mapping[str, Tensor], *, positions: Sequence[int] | None = None
) -> Iterator[None]:
    """Replace what modules put out by what they put out in another run (activation patching).

    Parameters
    ----------
    model : module
    outputs : mapping of module names to float tensors
        What `collecting` kept of the other run. Where a module returns several things, the first
        is replaced.
    positions : sequence of int, optional
        At which positions, along the second axis. By default at all.

    Raises
    ------
    ValueError
        Where there is no module of a name, a position is out of range, or the other run's output
        has another shape.

    References
    ----------
    Vig et al. (2020), "Investigating Gender Bias in Language Models Using Causal Mediation
    Analysis", NeurIPS. Meng et al. (2022), "Locating and Editing Factual Associations in GPT",
    NeurIPS, section 2. Wang et al. (2023), "Interpretability in the Wild", ICLR.
    """

    def put(name: str, other: Tensor):
        def hook(module, arguments, output):
            own = _first(output)
            if own.shape != other.shape:
                raise ValueError(
                    f"outputs[{name!r}] must have the shape of this run's, {tuple(own.shape)}; "
                    f"got {tuple(other.shape)}"
                )
            where = range(own.shape[1]) if positions is None else positions
            if any(not 0 <= position < own.shape[1] for position in where):
                raise ValueError(
                    f"positions must lie between 0 and {own.shape[1] - 1}; got {list(where)}"
                )
            patched = own.clone()
            patched[:, list(where)] = other[:, list(where)]
            return (patched, *output[1:]) if isinstance(output, tuple) else patched

        return hook

    with contextlib.ExitStack() as hooks:
        for name, module in _named(model, outputs).items():
            hook = put(name, outputs[name])
            hooks.enter_context(_hooked(module.register_forward_hook(hook)))
        yield


# --- inside ----------------------------------------------------------------------------------


def _numbers(name: str, array: Array) -> np.ndarray:
    """An array of NumPy or torch as NumPy's float64."""
    if is_torch_array(array):
        array = array.detach().cpu()
        array = (array.double() if array.is_floating_point() else array).numpy()
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        found = getattr(array, "dtype", type(array).__name__)
        raise TypeError(f"{name} must be a floating-point array of NumPy or torch; got {found}")
    return array.astype(np.float64)


def _mixing(weights: FloatArray | Sequence[FloatArray], residual: float, heads: str) -> np.ndarray:
    """Each layer as one matrix with the residual connection in it, (n_layers, ..., n, n)."""
    if not 0 <= residual <= 1:
        raise ValueError(f"residual must be a share from 0 to 1; got {residual!r}")
    if heads not in FUSIONS:
        raise ValueError(f"heads must be one of {', '.join(FUSIONS)}; got {heads!r}")
    if isinstance(weights, list | tuple):
        layers = [_numbers(f"weights[{i}]", layer) for i, layer in enumerate(weights)]
        shapes = [layer.shape for layer in layers]
        if len(set(shapes)) != 1:
            raise ValueError(f"weights must have one shape in all layers; got {shapes}")
        weights = np.stack(layers)
    weights = _numbers("weights", weights)
    if weights.ndim < 3 or weights.shape[-1] != weights.shape[-2] or not weights.size:
        raise ValueError(
            "weights must have shape (n_layers, n, n) or (n_layers, ..., n_heads, n, n); "
            f"got {weights.shape}"
        )
    sums = weights.sum(axis=-1)
    if (weights < 0).any() or not np.allclose(sums, 1, atol=TOLERANCE):
        raise ValueError(
            "weights must have rows that sum to one and no negative entry; got sums from "
            f"{sums.min():.4g} to {sums.max():.4g}, entries from {weights.min():.4g}"
        )
    if weights.ndim > 3:
        weights = FUSIONS[heads](weights, axis=-3)  # (n_layers, ..., n, n)
        sums = weights.sum(axis=-1)
        if not (sums > 0).all():
            raise ValueError(f"heads={heads!r} leaves a row without any weight; take the mean")
    weights = weights / sums.reshape(*weights.shape[:-1], 1)
    return (1 - residual) * weights + residual * np.eye(weights.shape[-1])


def _recorder(record: Recording, name: str, module: MultiHeadAttention):
    """What stands in for the engine of a layer: it keeps the weights that it works with."""

    def attend(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        _, weights = MultiHeadAttention._attend_and_show(module, query, key, value, mask)
        if torch.is_grad_enabled():
            # A leaf has its gradient kept in any case: where parameters and input are frozen.
            weights.retain_grad() if weights.requires_grad else weights.requires_grad_()
        record.names.append(name)
        record.weights.append(weights)
        group = module.n_heads // module.n_kv_heads
        return weights @ value.repeat_interleave(group, dim=1), weights

    return attend


def _first(output: Tensor | tuple) -> Tensor:
    return output[0] if isinstance(output, tuple) else output


def _named(model: nn.Module, names: Iterable[str]) -> dict[str, nn.Module]:
    modules = dict(model.named_modules())
    names = list(names)
    unknown = [name for name in names if name not in modules]
    if unknown:
        raise ValueError(f"model has no module of the name {unknown[0]!r}; it has {list(modules)}")
    return {name: modules[name] for name in names}


@contextlib.contextmanager
def _hooked(handle: torch.utils.hooks.RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()
