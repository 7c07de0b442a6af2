"""The language models: the small GPT of this course, and a recurrent network of its size."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn

from attn_tutorial.language_model import CausalLanguageModel, Logits, Tokens

Kind = Literal["Transformer", "GRU"]
KINDS: tuple[Kind, ...] = ("Transformer", "GRU")
CONTEXT = 96  # tokens that a model sees at most
D_MODEL, N_HEADS, N_LAYERS = 64, 4, 2
D_HIDDEN = 96  # of the GRU: about as many parameters


class GruLanguageModel(nn.Module):
    """Predicts each token from a state that a gated recurrent unit carries on.

    Parameters
    ----------
    n_tokens : int
    d_model, d_hidden : int
        The width of the tokens' vectors and of the state.

    References
    ----------
    Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", EMNLP, for the unit.
    """

    pad = None

    def __init__(self, n_tokens: int, d_model: int = D_MODEL, d_hidden: int = D_HIDDEN) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d_model)
        self.recurrent = nn.GRU(d_model, d_hidden, batch_first=True)
        self.output = nn.Linear(d_hidden, n_tokens)

    def forward(self, tokens: Tokens) -> tuple[Logits, None]:
        """The scores of each token to be next, (batch, n, n_tokens), as in CausalLanguageModel."""
        states, _ = self.recurrent(self.embedding(tokens))  # (batch, n, d_hidden)
        return self.output(states), None


def build(kind: Kind, n_tokens: int, seed: int) -> CausalLanguageModel | GruLanguageModel:
    """An untrained model.

    Raises
    ------
    ValueError
        Where the kind is unknown.
    """
    torch.manual_seed(seed)
    if kind == "Transformer":
        return CausalLanguageModel(
            n_tokens,
            d_model=D_MODEL,
            n_heads=N_HEADS,
            n_layers=N_LAYERS,
            dropout=0.0,  # nothing is seen often enough to be learned by heart
            max_length=CONTEXT,
        )
    if kind == "GRU":
        return GruLanguageModel(n_tokens)
    raise ValueError(f"kind must be one of {KINDS}; got {kind!r}")
