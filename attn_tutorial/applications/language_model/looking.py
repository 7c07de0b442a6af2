"""Looking at a trained language model: its heads, the words that it copies, and what it writes."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attn_tutorial.applications.language_model.data import END, BytePairs, Characters
from attn_tutorial.applications.language_model.sampling import repeated, sample
from attn_tutorial.applications.language_model.training import Part, windows
from attn_tutorial.attribution import recording
from attn_tutorial.language_model import CausalLanguageModel, generate
from attn_tutorial.masks import causal_mask
from attn_tutorial.training import evaluating

WORD = re.compile(r"[A-Za-z]{4,}")
NEAR = 80  # tokens: so far back may a word stand that counts as repeated
WAYS: dict[str, dict] = {
    "greedy": {},
    "temperature 0.7": {"temperature": 0.7},
    "best 20": {"n_best": 20},
    "nucleus 0.9": {"nucleus": 0.9},
    "temperature 1": {"temperature": 1.0},
}


# --- heads -----------------------------------------------------------------------------------


def kinds_of_keys(
    tokens: Int[Tensor, "batch n"], pieces: Sequence[str]
) -> dict[str, Bool[np.ndarray, "batch n n"]]:
    """Which keys are of interest to a query, as masks (batch, n_q, n_k).

    Parameters
    ----------
    tokens : int tensor, shape (batch, n)
    pieces : sequence of str
        What each token stands for.

    Returns
    -------
    dict of bool arrays
        "itself"; "the token before"; "line breaks", tokens that begin with one; "same token", an
        earlier copy of the query's; "behind the same token", what followed an earlier copy.
    """
    numbers = tokens.numpy()
    n = numbers.shape[1]
    same = numbers[:, :, None] == numbers[:, None, :]  # (batch, n_q, n_k)
    earlier = np.tri(n, k=-1, dtype=bool)
    behind = np.zeros_like(same)
    behind[:, :, 1:] = (same & earlier)[:, :, :-1]
    breaks = np.array([piece.startswith("\n") for piece in pieces])[numbers]  # (batch, n)
    itself = np.eye(n, dtype=bool)
    return {
        "itself": np.broadcast_to(itself, same.shape),
        "the token before": np.broadcast_to(np.eye(n, k=-1, dtype=bool), same.shape),
        "line breaks": breaks[:, None, :] & np.tri(n, dtype=bool),
        "same token": same & earlier,
        "behind the same token": behind & ~itself,
    }


def shares(
    weights: Float[np.ndarray, "batch n_heads n n"],
    kinds: dict[str, Bool[np.ndarray, "batch n n"]],
) -> dict[str, list[float]]:
    """How much weight each head gives to keys of each kind: the mean of the later half of queries.

    A query without such a key counts as zero.
    """
    half = weights.shape[-1] // 2
    return {
        kind: (weights * mask[:, None]).sum(-1)[..., half:].mean(axis=(0, 2)).tolist()
        for kind, mask in kinds.items()
    }


def head_shares(
    model: CausalLanguageModel, tokens: Int[Tensor, "batch n"], pieces: Sequence[str]
) -> dict[str, list[list[float]]]:
    """The shares of each head, layer by layer, and of equal weights as the last "layer"."""
    with evaluating(model), recording(model) as record:
        model(tokens)
    kinds = kinds_of_keys(tokens, pieces)
    n = tokens.shape[1]
    mask = causal_mask(n, n)
    equal = np.broadcast_to(mask / mask.sum(-1, keepdims=True), (len(tokens), 1, n, n))
    layers = [shares(weights.numpy(), kinds) for weights in record.weights]
    layers.append(shares(equal, kinds))
    return {kind: [layer[kind] for layer in layers] for kind in kinds}


# --- words that a model cannot know -----------------------------------------------------------


def new_words(
    part: Part, tokens: Characters | BytePairs, known: set[str]
) -> dict[str, Bool[np.ndarray, " n"]]:
    """The tokens of words that the training text does not have.

    Parameters
    ----------
    part : Part
    tokens : Characters or BytePairs
    known : set of str
        The words of the training text.

    Returns
    -------
    dict of bool arrays, shape (n,)
        "first time": the word is not among the 80 tokens before; "repeated": it is.
    """
    pieces = tokens.pieces(part.tokens.tolist())
    starts = np.cumsum([0, *map(len, pieces)])  # of each token, in characters
    text = "".join(pieces)
    found = {name: np.zeros(len(pieces), dtype=bool) for name in ("first time", "repeated")}
    last: dict[str, int] = {}
    for match in WORD.finditer(text):
        word = match[0]
        if word in known:
            continue
        begin = int(np.searchsorted(starts, match.start(), side="right")) - 1
        end = int(np.searchsorted(starts, match.end(), side="left"))
        near = word in last and begin - last[word] <= NEAR
        found["repeated" if near else "first time"][begin:end] = True
        last[word] = begin
    return found


def bits_of(
    chances: Float[np.ndarray, " n"],
    chosen: Bool[np.ndarray, " n"],
    part: Part,
    tokens: Characters | BytePairs,
) -> float:
    """Bits per character of some tokens of a part."""
    pieces = np.array(tokens.pieces(part.tokens.tolist()))[chosen]
    return float(-np.log2(chances[chosen]).sum() / sum(max(len(piece), 1) for piece in pieces))


# --- writing ---------------------------------------------------------------------------------


def prompts(part: Part, n: int, length: int) -> Int[Tensor, "n length"]:
    """`END` and the first tokens of the first n documents that are long enough."""
    starts = np.flatnonzero(part.tokens == END)
    starts = starts[:-1][np.diff(starts) > 2 * length][:n]
    return torch.from_numpy(part.tokens[starts[:, None] + np.arange(length)])


def written(
    model: CausalLanguageModel, prompt: Int[Tensor, "n length"], way: str, *, n_new: int, seed: int
) -> Int[Tensor, "n n_new"]:
    """What a model writes behind the prompts in one of the `WAYS`.

    Raises
    ------
    ValueError
        Where the way is unknown.
    """
    if way not in WAYS:
        raise ValueError(f"way must be one of {list(WAYS)}; got {way!r}")
    if way == "greedy":
        tokens = generate(model, prompt, n_new=n_new)
    else:
        generator = torch.Generator().manual_seed(seed)
        tokens = sample(model, prompt, n_new=n_new, generator=generator, **WAYS[way])
    return tokens[:, prompt.shape[1] :]


def mean_repeated(tokens: Int[Tensor, "batch n"]) -> float:
    """The mean of `repeated` over the rows."""
    return float(np.mean([repeated(row) for row in tokens.tolist()]))


def repeated_by_people(part: Part, n_new: int) -> float:
    """The mean of `repeated` over pieces of a part, as long as what models write."""
    return mean_repeated(windows(part.tokens, n_new)[:, 1:])


def seconds_to_write(lengths: Sequence[int], n_tokens: int) -> dict[str, list[float]]:
    """Processor time to write so many tokens with and without a cache, by an untrained model."""
    torch.manual_seed(0)
    model = CausalLanguageModel(n_tokens, dropout=0.0, max_length=max(lengths) + 1)
    begin = torch.full((1, 1), END)
    generate(model, begin, n_new=2)  # the first call of anything is slow
    found: dict[str, list[float]] = {"with a cache": [], "without": []}
    for name, use_cache in (("with a cache", True), ("without", False)):
        for n_new in lengths:
            start = time.process_time()
            generate(model, begin, n_new=n_new, use_cache=use_cache)
            found[name].append(time.process_time() - start)
    return found
