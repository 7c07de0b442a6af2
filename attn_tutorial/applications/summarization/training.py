"""The data of summarization as tensors, and how its models are trained, and what they say."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.summarization.baselines import (
    METRICS,
    N_TOPICS,
    Tfidf,
    rouge,
    text_scores,
)
from attn_tutorial.applications.summarization.data import (
    MOST_SENTENCES,
    Document,
    Words,
    load_documents,
    split,
    words_of,
)
from attn_tutorial.applications.summarization.models import (
    Generator,
    SentenceChooser,
    known_only,
    summary_loss,
    write,
)
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import History, evaluating, mean_loss, train

SOFTNESS = 0.1  # of the targets: less, and the best sentence alone would be right
CUT = 14  # words; chosen on the validation part for the first sentence
LONGEST_SUMMARY = 16
CHOOSER_STEPS, GENERATOR_STEPS = 400, 400


@dataclass(frozen=True)
class Part:
    """A part of the data, as documents and as tensors.

    Attributes
    ----------
    documents : list of Document
    sentences : float32 tensor, shape (n, MOST_SENTENCES, n_features)
    mask : bool tensor, shape (n, MOST_SENTENCES), True where there is a sentence
    rouge : float32 tensor, shape (n, MOST_SENTENCES, n_metrics)
        F1 of each sentence as the summary, from 0 to 100, by the names of `METRICS`.
    source, target : int64 tensors, shape (n, n_source), (n, n_target)
        Words of texts and summaries, as in `Words`.
    """

    documents: list[Document]
    sentences: Float[Tensor, "n n_sentences n_features"]
    mask: Bool[Tensor, "n n_sentences"]
    rouge: Float[Tensor, "n n_sentences n_metrics"]
    source: Int[Tensor, "n n_source"]
    target: Int[Tensor, "n n_target"]


@dataclass(frozen=True)
class Data:
    """All parts, with what was fitted to the training part."""

    parts: dict[str, Part]
    words: Words
    tfidf: Tfidf


def load_parts(documents: Sequence[Document] | None = None) -> Data:
    """The data; by default read from the libraries, which takes seconds."""
    parts = split(load_documents() if documents is None else documents)
    seen = parts["training"] + parts["short"]
    tfidf, words = Tfidf(seen), Words(seen)
    return Data({name: _tensors(part, tfidf, words) for name, part in parts.items()}, words, tfidf)


def _tensors(documents: list[Document], tfidf: Tfidf, words: Words) -> Part:
    n_features = N_TOPICS + 1
    sentences = torch.zeros(len(documents), MOST_SENTENCES, n_features)
    mask = torch.zeros(len(documents), MOST_SENTENCES, dtype=torch.bool)
    scores = torch.zeros(len(documents), MOST_SENTENCES, len(METRICS))
    for i, document in enumerate(documents):
        n = len(document.sentences)
        sentences[i, :n] = torch.from_numpy(tfidf.features(document.sentences)).float()
        mask[i, :n] = True
        scores[i, :n] = torch.tensor([rouge(document.summary, s) for s in document.sentences])
    return Part(
        documents, sentences, mask, scores, words.sources(documents), words.targets(documents)
    )


def shuffled(part: Part, *, seed: int = 0) -> Part:
    """The part with the sentences of each text in another order, for the chooser alone."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(part.mask.shape, generator=generator).masked_fill(~part.mask, 2.0)
    order = keys.argsort(dim=1)  # (n, MOST_SENTENCES), what is masked stays behind
    take = torch.arange(len(order))[:, None]
    return Part(
        part.documents,
        part.sentences[take, order],
        part.mask,
        part.rouge[take, order],
        part.source,
        part.target,
    )


# --- choosing --------------------------------------------------------------------------------


def chooser_loss(
    model: SentenceChooser,
    sentences: Float[Tensor, "batch n n_features"],
    mask: Bool[Tensor, "batch n"],
    rouge_l: Float[Tensor, "batch n"],
) -> Float[Tensor, ""]:
    """Cross-entropy of the weights with targets that favour what scores well, in nats."""
    target = (rouge_l / 100 / SOFTNESS).masked_fill(~mask, -torch.inf).softmax(dim=-1)
    return -(target * model(sentences, mask).masked_fill(~mask, 0.0)).sum(dim=-1).mean()


def fit_chooser(
    seed: int,
    parts: dict[str, Part],
    *,
    context: bool = True,
    equal: bool = False,
    steps: int = CHOOSER_STEPS,
) -> SentenceChooser:
    """Train a chooser; the parameters are those with the lowest loss on the validation part."""
    torch.manual_seed(seed)
    model = SentenceChooser(N_TOPICS + 1, MOST_SENTENCES, context=context, dropout=0.5)
    tensors = {
        name: (parts[name].sentences, parts[name].mask, parts[name].rouge[..., 2])
        for name in ("training", "validation")
    }
    with _weights(model, equal):
        train(
            model,
            chooser_loss,
            tensors["training"],
            steps=steps,
            batch_size=64,
            peak=3e-3,
            warm_up=30,
            weight_decay=0.1,
            validate=lambda model: mean_loss(model, chooser_loss, tensors["validation"]),
            validate_every=25,
            seed=seed,
        )
    return model


def chosen(model: SentenceChooser, part: Part, *, equal: bool = False) -> Int[Tensor, " n"]:
    """The sentence with the largest weight in each text."""
    with evaluating(model), _weights(model, equal):
        return model(part.sentences, part.mask).argmax(dim=-1)


def choice_scores(part: Part, choice: Sequence[int] | Int[Tensor, " n"]) -> dict[str, float]:
    """Mean ROUGE of one sentence for each text, looked up."""
    choice = torch.as_tensor(choice)
    if choice.shape != (len(part.documents),):
        raise ValueError(
            f"choice must have one number for each of {len(part.documents)} texts; got shape "
            f"{tuple(choice.shape)}"
        )
    scores = part.rouge[torch.arange(len(choice)), choice].mean(dim=0)  # (n_metrics,)
    return dict(zip(METRICS, scores.tolist(), strict=True))


def cut_scores(
    part: Part, choice: Sequence[int] | Int[Tensor, " n"], *, length: int = CUT
) -> dict[str, float]:
    """Mean ROUGE of the first words of one sentence for each text."""
    return text_scores(
        part.documents,
        [
            " ".join(words_of(document.sentences[int(i)])[:length])
            for document, i in zip(part.documents, choice, strict=True)
        ],
    )


# --- writing ---------------------------------------------------------------------------------


def fit_generator(
    seed: int,
    data: Data,
    *,
    attends: bool = True,
    points: bool = True,
    equal: bool = False,
    steps: int = GENERATOR_STEPS,
) -> tuple[Generator, History]:
    """Train a generator on the training part and the short texts, for a fixed number of steps."""
    torch.manual_seed(seed)
    model = Generator(data.words.n_known, attends=attends, points=points, dropout=0.4)
    seen = [data.parts["training"], data.parts["short"]]
    source = torch.cat([part.source for part in seen])  # (n, n_source)
    longest_target = max(part.target.shape[1] for part in seen)
    target = torch.cat(
        [F.pad(part.target, (0, longest_target - part.target.shape[1])) for part in seen]
    )  # (n, n_target), padding is number 0
    with _weights(model, equal):
        history = train(
            model,
            summary_loss,
            (known_only(source, model.n_known), source, target),
            steps=steps,
            batch_size=16,
            peak=6e-3,
            warm_up=50,
            weight_decay=0.05,
            seed=seed,
        )
    return model, history


def summaries(
    model: Generator, part: Part, words: Words, *, equal: bool = False
) -> tuple[list[str], Float[Tensor, "n n_target n_source"], Float[Tensor, "n n_target"]]:
    """What the model writes for each text, with its weights and its switch, as in `write`."""
    with _weights(model, equal):
        numbers, weights, generated = write(
            model,
            known_only(part.source, model.n_known),
            part.source,
            n_words=len(words),
            max_length=LONGEST_SUMMARY,
        )
    return [words.text(row) for row in numbers.tolist()], weights, generated


def _weights(model: nn.Module, equal: bool) -> contextlib.AbstractContextManager:
    return uniform_weights(model) if equal else contextlib.nullcontext()
