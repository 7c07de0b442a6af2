"""The forecasters of the application "driving": one car asks, it and the others answer."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_tutorial.layers import MultiHeadAttention

WIDTH, N_HEADS = 48, 4

# So that what goes in is about one.
SCALE_OWN = torch.tensor([10.0, 1, 1, 1, 1, 1, 30, 1])
SCALE_OTHERS = torch.tensor([30.0, 30, 10, 10, 10, 10, 30, 1])


class Forecaster(nn.Module):
    """A car asks, it and the others answer; then a small network says where it will be.

    Parameters
    ----------
    attends : bool
        Whether answers are attended to, or put together by their largest numbers.
    """

    def __init__(self, *, attends: bool = True) -> None:
        super().__init__()
        n_own, n_features, n_said = len(SCALE_OWN), len(SCALE_OTHERS), 6
        self.own = nn.Sequential(nn.Linear(n_own, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.others = nn.Sequential(
            nn.Linear(n_features, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
        )
        self.attention = MultiHeadAttention(WIDTH, N_HEADS) if attends else None
        self.say = nn.Sequential(nn.Linear(2 * WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, n_said))

    def forward(
        self,
        own: Float[Tensor, "n n_own"],
        others: Float[Tensor, "n n_others n_features"],
        there: Bool[Tensor, "n n_others"],
        *,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "n n_said"], Float[Tensor, "n n_heads n_answers"] | None]:
        """How much farther than with constant speed each car gets.

        Parameters
        ----------
        own : float tensor, shape (n, 8)
        others : float tensor, shape (n, n_others, 8)
        there : bool tensor, shape (n, n_others)
            Which others exist; the rest is padding.
        need_weights : bool
            Whether to return the weights.

        Returns
        -------
        said : float tensor, shape (n, 6)
            In metres, for 0.5, 1, …, 3 seconds.
        weights : float tensor, shape (n, n_heads, 1 + n_others), or None
            How much each car attends to itself, and then to the others.

        Raises
        ------
        ValueError
            Where weights are asked of a model without attention.
        """
        if need_weights and self.attention is None:
            raise ValueError("need_weights: this forecaster has no attention")
        asks = self.own(own / SCALE_OWN)[:, None]  # (n, 1, width)
        answers = torch.cat([asks, self.others(others / SCALE_OTHERS)], dim=1)  # (n, 1 + ..., w)
        may = torch.cat([torch.ones_like(there[:, :1]), there], dim=1)  # (n, 1 + n_others)
        weights = None
        if self.attention is None:
            heard = answers.masked_fill(~may[..., None], -torch.inf).amax(dim=1, keepdim=True)
        else:
            heard, weights = self.attention(
                asks, answers, mask=may[:, None, None], need_weights=need_weights
            )
        said = 10 * self.say(torch.cat([asks, heard], dim=-1)[:, 0])  # (n, 6)
        return said, None if weights is None else weights[:, :, 0]
