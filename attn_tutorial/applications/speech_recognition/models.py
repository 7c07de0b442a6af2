"""Three ways from what is heard to characters, behind one listener: attention, CTC, one vector."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.speech_recognition.data import (
    BEGIN,
    CHARACTERS,
    END,
    N_MELS,
    PAD,
    decode,
)
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.training import evaluating

Frames = Float[Tensor, "batch n_frames n_mels"]
Lengths = Int[Tensor, " batch"]
Tokens = Int[Tensor, "batch n_tokens"]
Memory = Float[Tensor, "batch n_steps d_model"]
StepMask = Bool[Tensor, "batch n_steps"]
Weights = Float[Tensor, "batch n_heads n_tokens n_steps"]
Hidden = tuple[Float[Tensor, "1 batch d_model"], Float[Tensor, "1 batch d_model"]]

STRIDE = 4  # frames to a step of the listener
D_MODEL = 64


class Listener(nn.Module):
    """Frames to a quarter as many vectors, each of which knows what was before and behind it.

    A convolution with a stride of 4, then two recurrent networks (LSTM), one in each direction.

    Parameters
    ----------
    d_model : int
        An even number.
    dropout : float

    References
    ----------
    Graves and Schmidhuber (2005), "Framewise Phoneme Classification with Bidirectional LSTM and
    Other Neural Network Architectures", Neural Networks, for the two directions.
    """

    def __init__(self, d_model: int = D_MODEL, dropout: float = 0.1) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(
            N_MELS, d_model, kernel_size=2 * STRIDE + 1, stride=STRIDE, padding=STRIDE
        )
        self.forwards = nn.LSTM(d_model, d_model // 2, batch_first=True)
        self.backwards = nn.LSTM(d_model, d_model // 2, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, frames: Frames, lengths: Lengths) -> tuple[Memory, StepMask]:
        """Listen to utterances.

        Parameters
        ----------
        frames : float tensor, shape (batch, n_frames, N_MELS)
        lengths : int tensor, shape (batch,)
            How many frames each has; what stands behind does not matter.

        Returns
        -------
        memory : float tensor, shape (batch, n_steps, d_model)
            For every fourth frame a vector: what was heard up to it, and from the end down to it.
        mask : bool tensor, shape (batch, n_steps)
            True where there is sound and no padding.
        """
        if frames.ndim != 3 or frames.shape[2] != N_MELS or lengths.shape != frames.shape[:1]:
            raise ValueError(
                f"frames must have shape (batch, n_frames, {N_MELS}) and lengths (batch,); got "
                f"{tuple(frames.shape)} and {tuple(lengths.shape)}"
            )
        if lengths.min() < 1 or lengths.max() > frames.shape[1]:
            raise ValueError(f"lengths must be from 1 to {frames.shape[1]}; got {lengths.tolist()}")
        longest = int(lengths.max())
        x = frames[:, :longest].masked_fill(~_before(lengths, longest)[..., None], 0)
        x = F.relu(self.convolution(x.mT).mT)  # (batch, n_steps, d_model)
        lengths = (lengths + STRIDE - 1) // STRIDE
        mask = _before(lengths, x.shape[1])
        forwards, _ = self.forwards(x)  # (batch, n_steps, d_model / 2)
        backwards, _ = self.backwards(_turned(x, lengths))
        return self.dropout(torch.cat([forwards, _turned(backwards, lengths)], dim=-1)), mask


class Speller(nn.Module):
    """Listens, attends and spells: writes characters, and looks at the sound for each of them.

    A recurrent network over the characters so far asks (one query for each character); the
    listener's vectors answer (their keys and values). What both say predicts the next character.

    Parameters
    ----------
    d_model, n_heads : int
    dropout : float

    References
    ----------
    Chan, Jaitly, Le and Vinyals (2016), "Listen, Attend and Spell", ICASSP. Our listener and our
    speller are smaller, and the context does not enter the next state of the speller.
    """

    def __init__(self, d_model: int = D_MODEL, n_heads: int = 1, dropout: float = 0.1) -> None:
        super().__init__()
        self.listener = Listener(d_model, dropout)
        self.embedding = nn.Embedding(len(CHARACTERS), d_model)
        self.recurrent = nn.LSTM(d_model, d_model, batch_first=True)
        self.attention = MultiHeadAttention(d_model, n_heads)
        self.join = nn.Linear(2 * d_model, d_model)
        self.output = nn.Linear(d_model, len(CHARACTERS))
        self.dropout = nn.Dropout(dropout)

    def begin(self, memory: Memory, mask: StepMask) -> Hidden | None:
        """The state before the first character: zeros."""
        return None

    def look(
        self,
        states: Float[Tensor, "batch n_tokens d_model"],
        memory: Memory,
        mask: StepMask,
        need_weights: bool,
    ) -> tuple[Float[Tensor, "batch n_tokens d_model"], Weights | None]:
        """What each state of the speller gets from the sound, and the weights if needed."""
        return self.attention(states, memory, mask=mask[:, None, None], need_weights=need_weights)

    def forward(
        self, frames: Frames, lengths: Lengths, tokens: Tokens, *, need_weights: bool = False
    ) -> tuple[Float[Tensor, "batch n_tokens n_characters"], Weights | None]:
        """Predict the character after each of those given.

        Parameters
        ----------
        frames, lengths : what the listener takes
        tokens : int tensor, shape (batch, n_tokens)
            From BEGIN on.

        Returns
        -------
        logits : float tensor, shape (batch, n_tokens, len(CHARACTERS))
        weights : float tensor, shape (batch, n_heads, n_tokens, n_steps), or None
            Of each character's query to the listener's steps, if needed.
        """
        memory, mask = self.listener(frames, lengths)
        logits, weights, _ = self.write(
            tokens, memory, mask, self.begin(memory, mask), need_weights
        )
        return logits, weights

    def write(
        self,
        tokens: Tokens,
        memory: Memory,
        mask: StepMask,
        hidden: Hidden | None,
        need_weights: bool = False,
    ) -> tuple[Tensor, Weights | None, Hidden]:
        """Logits, weights and the last hidden state, for characters that go on from a state."""
        embedded = self.dropout(self.embedding(tokens))  # (batch, n_tokens, d_model)
        states, hidden = self.recurrent(embedded, hidden)  # (batch, n_tokens, d_model)
        context, weights = self.look(states, memory, mask, need_weights)
        both = torch.cat([states, context], dim=-1)  # (batch, n_tokens, 2 · d_model)
        return self.output(self.dropout(torch.tanh(self.join(both)))), weights, hidden

    def spell(self, frames: Frames, lengths: Lengths, max_length: int = 40) -> list[str]:
        """The likeliest character at each step, up to END, without knowing the text."""
        with evaluating(self):
            memory, mask = self.listener(frames, lengths)
            hidden = self.begin(memory, mask)
            written = torch.full((len(frames), 1), BEGIN)  # (batch, 1)
            ended = torch.zeros(len(frames), dtype=torch.bool)
            while written.shape[1] <= max_length and not ended.all():
                logits, _, hidden = self.write(written[:, -1:], memory, mask, hidden)
                written = torch.cat([written, logits[:, -1].argmax(-1)[:, None]], dim=1)
                ended |= written[:, -1] == END
        return [decode(row) for row in written[:, 1:]]


class BlindSpeller(Speller):
    """The same without attention: all it has of the sound is one vector, which begins its state.

    References
    ----------
    Sutskever, Vinyals and Le (2014), "Sequence to Sequence Learning with Neural Networks", NeurIPS.
    """

    def __init__(self, d_model: int = D_MODEL, dropout: float = 0.1) -> None:
        super().__init__(d_model, dropout=dropout)
        self.attention = None
        self.remember = nn.Linear(d_model, d_model)

    def begin(self, memory: Memory, mask: StepMask) -> Hidden:
        """What the listener heard last, forwards at the end and backwards at the begin."""
        heard = self._heard(memory, mask)[None]  # (1, batch, d_model)
        return heard, heard

    def look(
        self, states: Tensor, memory: Memory, mask: StepMask, need_weights: bool
    ) -> tuple[Tensor, None]:
        """The one vector again, at every step."""
        return self._heard(memory, mask)[:, None].expand_as(states), None

    def _heard(self, memory: Memory, mask: StepMask) -> Float[Tensor, "batch d_model"]:
        last = mask.sum(dim=1) - 1  # (batch,)
        forwards, backwards = memory.chunk(2, dim=-1)
        ends = torch.cat([forwards[torch.arange(len(last)), last], backwards[:, 0]], dim=-1)
        return torch.tanh(self.remember(ends))


class CTC(nn.Module):
    """A character or a blank at each step of the listener; all ways to stretch a text are summed.

    References
    ----------
    Graves, Fernández, Gomez and Schmidhuber (2006), "Connectionist Temporal Classification", ICML.
    """

    def __init__(self, d_model: int = D_MODEL, dropout: float = 0.1) -> None:
        super().__init__()
        self.listener = Listener(d_model, dropout)
        self.output = nn.Linear(d_model, len(CHARACTERS))

    def forward(
        self, frames: Frames, lengths: Lengths
    ) -> tuple[Float[Tensor, "batch n_steps n_characters"], StepMask]:
        """Log-probabilities of the characters at each step (PAD is the blank), and the mask."""
        memory, mask = self.listener(frames, lengths)
        return self.output(memory).log_softmax(dim=-1), mask

    def spell(self, frames: Frames, lengths: Lengths) -> list[str]:
        """The likeliest character at each step; repeated ones and then blanks are left out."""
        with evaluating(self):
            log_probabilities, mask = self(frames, lengths)
        best = log_probabilities.argmax(dim=-1)  # (batch, n_steps)
        return [
            decode(torch.unique_consecutive(row[inside]))
            for row, inside in zip(best, mask, strict=True)
        ]


def spelling_loss(
    model: Speller, frames: Frames, lengths: Lengths, tokens: Tokens
) -> Float[Tensor, ""]:
    """The mean loss of the characters, each predicted from the true ones before it, in nats."""
    tokens = tokens[:, : (tokens != PAD).sum(1).max()]
    logits, _ = model(frames, lengths, tokens[:, :-1])
    return F.cross_entropy(
        logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=PAD, label_smoothing=0.05
    )


def ctc_loss(model: CTC, frames: Frames, lengths: Lengths, tokens: Tokens) -> Float[Tensor, ""]:
    """The loss of the texts in all the ways to stretch them, in nats a character."""
    log_probabilities, mask = model(frames, lengths)
    texts = tokens[:, 1:].masked_fill(tokens[:, 1:] == END, PAD)  # (batch, n_tokens - 1)
    return F.ctc_loss(
        log_probabilities.transpose(0, 1),  # (n_steps, batch, n_characters)
        texts,
        mask.sum(dim=1),
        (texts != PAD).sum(dim=1),
        blank=PAD,
        zero_infinity=True,  # a text that is too long for its sound teaches nothing
    )


def _before(lengths: Lengths, n: int) -> StepMask:
    return torch.arange(n) < lengths[:, None]


def _turned(x: Memory, lengths: Lengths) -> Memory:
    """Each row from its end to its begin, its padding where it was."""
    place = torch.arange(x.shape[1]).expand(len(x), -1)  # (batch, n_steps)
    place = torch.where(place < lengths[:, None], lengths[:, None] - 1 - place, place)
    return x.gather(1, place[..., None].expand_as(x))
