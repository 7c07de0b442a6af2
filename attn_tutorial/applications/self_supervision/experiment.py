"""Self-supervised learning: fill in hidden patches without labels, then learn from a few labels.

The 1000 training pictures of `digits` are all there, but only 10, 30 or 100 of them have a label.
Which ones is drawn several times; each system gets the same draws. The settings of all systems were
chosen by the validation part, with other draws.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from sklearn.base import ClassifierMixin
from torch import Tensor, nn

from attn_tutorial.applications.digits import Digits, load_parts
from attn_tutorial.applications.image_classification.experiment import class_loss, fitted_to, hits
from attn_tutorial.applications.image_classification.models import N_CLASSES, Images
from attn_tutorial.applications.measuring import Clock, n_parameters
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.applications.self_supervision.baselines import Probe, baselines, draw_labelled
from attn_tutorial.applications.self_supervision.models import (
    MaskedAutoencoder,
    MaskedPerceptron,
    draw_visible,
    gaussian_fill,
    hidden_error,
    mean_of_neighbours,
    mean_picture,
)
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.training import History, evaluating, train

SEEDS = [0, 1, 2]
N_DRAWS = 5
N_LABELS = [10, 30, 100]
N_VISIBLE = 6
STEPS = 1600
FILL_INS = {
    "mean picture": mean_picture,
    "mean of neighbours": mean_of_neighbours,
    "best linear guess": gaussian_fill,
}

# --- without labels --------------------------------------------------------------------------


def masked_loss(model: nn.Module, images: Images) -> Tensor:
    """The error on the hidden patches, of which other ones are drawn each time; a scalar."""
    visible = draw_visible(len(images), N_VISIBLE)
    return hidden_error(model(images, visible), images, visible)


def pretrain(
    seed: int, make: Callable[[], nn.Module], *, steps: int = STEPS, equal_weights: bool = False
) -> tuple[nn.Module, History]:
    """Make a network and train it to fill in the hidden patches of the training pictures.

    Parameters
    ----------
    seed : int
        Decides everything.
    make : function without arguments
        `MaskedAutoencoder` or `MaskedPerceptron`.
    steps : int
        With 0 the network stays fresh.
    equal_weights : bool
        Whether attention gives all keys the same weight.

    Returns
    -------
    model : module
    history : History
        With the loss of each step.
    """
    torch.manual_seed(seed)
    model = make()
    if steps == 0:
        return model, History()
    with equal_if(equal_weights, model):
        history = train(
            model,
            masked_loss,
            (load_parts()["training"].images,),
            steps=steps,
            batch_size=32,
            peak=5e-3,
            warm_up=300,
            seed=seed,
        )
    return model, history


def filling_error(fill: Callable[[Images, Tensor], Tensor], part: Digits, n_visible: int) -> float:
    """The error on the hidden patches of a part's pictures, four random choices of each."""
    images = part.images.repeat(4, 1, 1)
    visible = draw_visible(len(images), n_visible, torch.Generator().manual_seed(0))
    return hidden_error(fill(images, visible), images, visible).item()


def where_hidden_patches_look(model: MaskedAutoencoder, images: Images) -> dict[str, float]:
    """The decoder's weights, seen from a hidden patch, the mean over hidden patches and heads.

    Returns
    -------
    dict of float
        The weight that goes to the class token, to itself, to all other hidden patches, and to all
        visible ones; and how much more one visible patch beside it (or diagonally) gets than a
        visible one elsewhere, as a ratio.
    """
    visible = draw_visible(len(images), N_VISIBLE, torch.Generator().manual_seed(0))
    with evaluating(model), recording(model) as record:
        model(images, visible)
    weights = record.weights[-1].mean(dim=1)[:, 1:]  # (batch, 16, 17)
    own_weight = weights[:, :, 1:].diagonal(dim1=1, dim2=2)  # (batch, 16)
    seen = torch.zeros(len(images), 16).scatter(1, visible, 1.0)
    hidden = 1 - seen
    number = torch.arange(16)
    steps = torch.maximum(
        (number[:, None] // 4 - number // 4).abs(), (number[:, None] % 4 - number % 4).abs()
    )  # (16, 16)
    asks = hidden[:, :, None]  # (batch, 16, 1)
    near, far = (asks * seen[:, None] * condition for condition in (steps == 1, steps > 1))
    patches = weights[:, :, 1:]  # (batch, 16, 16)
    n_asking = hidden.sum()
    return {
        "class token": ((weights[:, :, 0] * hidden).sum() / n_asking).item(),
        "itself": ((own_weight * hidden).sum() / n_asking).item(),
        "other hidden": (
            ((patches * hidden[:, None]).sum(-1) * hidden - own_weight * hidden).sum() / n_asking
        ).item(),
        "visible": (((patches * seen[:, None]).sum(-1) * hidden).sum() / n_asking).item(),
        "near over far": (
            ((patches * near).sum() / near.sum()) / ((patches * far).sum() / far.sum())
        ).item(),
    }


# --- with a few labels -----------------------------------------------------------------------


class FineTuned(nn.Module):
    """A network's features, with equal weights if wanted, and a linear layer that reads them."""

    def __init__(self, body: nn.Module, *, equal_weights: bool = False) -> None:
        super().__init__()
        self.equal_weights = equal_weights
        self.body = body
        width = body.features(torch.zeros(1, 8, 8)).shape[1]
        self.head = nn.Linear(width, N_CLASSES)

    def forward(self, images: Images) -> Float[Tensor, "batch 10"]:
        """Pictures (batch, 8, 8) to logits (batch, 10)."""
        with equal_if(self.equal_weights, self.body):
            return self.head(self.body.features(images))


def fine_tune(
    model: nn.Module, labelled: Digits, seed: int, *, equal_weights: bool = False
) -> FineTuned:
    """Train a copy of a network, with a new last layer, on a few labelled pictures.

    Parameters
    ----------
    model : module
        Pre-trained, or fresh; it stays as it is.
    labelled : Digits
    seed : int
        Of the last layer and the order of the pictures.
    equal_weights : bool

    Returns
    -------
    FineTuned
    """
    torch.manual_seed(seed)
    tuned = FineTuned(copy.deepcopy(model), equal_weights=equal_weights)
    train(
        tuned,
        class_loss,
        labelled,
        steps=80,
        batch_size=32,
        peak=2e-3,
        warm_up=20,
        seed=seed,
    )
    return tuned


# --- all of it -------------------------------------------------------------------------------


class Kind(NamedTuple):
    """How a network is made, and whether it is pre-trained and attends with equal weights."""

    make: Callable[[], nn.Module]
    role: Role
    pretrained: bool = True
    equal_weights: bool = False


NETWORKS = {
    "masked autoencoder, fine-tuned": Kind(MaskedAutoencoder, "attention"),
    "the same from scratch": Kind(MaskedAutoencoder, "attention", pretrained=False),
    "masked perceptron, fine-tuned": Kind(MaskedPerceptron, "rival"),
    "perceptron from scratch": Kind(MaskedPerceptron, "rival", pretrained=False),
    "masked autoencoder with equal weights": Kind(MaskedAutoencoder, "ablation", True, True),
}
PROBED = "masked autoencoder, probed"


def with_few_labels(
    learn: Callable[[Digits, int], nn.Module | ClassifierMixin],
    part: Digits,
    draws: range = range(N_DRAWS),
) -> dict[str, list[float]]:
    """The accuracy on a part after learning from 10, 30 and 100 labels, for each draw of them.

    Parameters
    ----------
    learn : function (labelled, draw) -> network or classifier
    part : Digits
    draws : range

    Returns
    -------
    dict of list of float
        By the number of labels, as text.
    """
    training = load_parts()["training"]
    return {
        str(n): [
            float(hits(learn(draw_labelled(training, n, draw), draw), part).mean())
            for draw in draws
        ]
        for n in N_LABELS
    }


def measure() -> Results:
    """Pre-train, learn from each draw of labels, and compare."""
    parts = load_parts()
    training, validation, test = parts["training"], parts["validation"], parts["test"]
    tables: dict[str, list[dict[str, list[float]]]] = {PROBED: []}  # by system, for each seed
    roles: dict[str, tuple] = {}
    filling: dict[str, list[dict[str, float]]] = {}
    more: dict[str, object] = {"looks": []}
    for name, kind in NETWORKS.items():
        clock, tables[name] = Clock(), []
        for seed in SEEDS:
            with clock.running():
                steps = STEPS if kind.pretrained else 0
                model, history = pretrain(
                    seed, kind.make, steps=steps, equal_weights=kind.equal_weights
                )

            def learn(labelled: Digits, draw: int, model=model, kind=kind, clock=clock):
                with clock.running():
                    return fine_tune(model, labelled, draw, equal_weights=kind.equal_weights)

            tables[name].append(with_few_labels(learn, test))
            if kind.pretrained:
                with equal_if(kind.equal_weights, model), evaluating(model):
                    errors = {str(n): filling_error(model, test, n) for n in (4, 8)}
                filling.setdefault(name, []).append(errors)
            if kind is NETWORKS["masked autoencoder, fine-tuned"]:
                tables[PROBED].append(
                    with_few_labels(lambda some, _, m=model: fitted_to(Probe(m), some), test)
                )
                more["looks"].append(where_hidden_patches_look(model, test.images))
                if seed == SEEDS[0]:
                    more["losses"] = np.reshape(history.losses, (-1, 40)).mean(axis=1).tolist()
                    more["examples"] = examples(model, test)
        roles[name] = (kind.role, n_parameters(model), clock.seconds / len(SEEDS))
    roles[PROBED] = roles["masked autoencoder, fine-tuned"]

    chosen = {}
    for name, candidates in baselines(training.images).items():
        scores = [
            np.mean(
                list(
                    with_few_labels(
                        lambda some, _, make=make: fitted_to(make(), some),
                        validation,
                        range(100, 103),
                    ).values()
                )
            )
            for make in candidates
        ]
        make = candidates[int(np.argmax(scores))]
        chosen[name] = int(np.argmax(scores))
        tables[name] = [with_few_labels(lambda some, _, make=make: fitted_to(make(), some), test)]
        roles[name] = ("baseline", None, None)

    for name, fill in FILL_INS.items():
        guess = lambda images, visible, fill=fill: fill(training.images, images, visible)  # noqa: E731
        filling[name] = [{str(n): filling_error(guess, test, n) for n in (4, 8)}]
    systems = {
        name: System(
            role,
            {
                f"{n} labels": [float(np.mean(table[str(n)])) for table in tables[name]]
                for n in N_LABELS
            },
            size,
            time,
        )
        for name, (role, size, time) in roles.items()
    }
    return Results(
        task="Tell which digit a picture shows, with 10, 30 or 100 labels",
        data="Handwritten digits of 8 by 8 pixels, from scikit-learn; most without their label",
        origin="real",
        split="Contiguous blocks of the file; no form is in both training and test part",
        metric="30 labels",
        higher_is_better=True,
        n_training=len(training.images),
        n_test=len(test.images),
        seeds=SEEDS,
        systems=systems,
        libraries=versions("torch", "scikit-learn"),
        more=more | {"draws": tables, "filling": filling, "chosen": chosen},
    )


def examples(model: MaskedAutoencoder, part: Digits, n: int = 4) -> dict[str, list]:
    """For the first pictures of a part: which patches are visible, and what the model fills in."""
    images = part.images[:n]
    visible = draw_visible(n, N_VISIBLE, torch.Generator().manual_seed(1))
    with evaluating(model):
        filled = model(images, visible)  # (n, 16, 4)
    return {"visible": visible.tolist(), "filled": np.round(filled.tolist(), 3).tolist()}


def equal_if(equal_weights: bool, model: nn.Module) -> contextlib.AbstractContextManager:
    """A context in which the model attends with equal weights, if that is wanted."""
    return uniform_weights(model) if equal_weights else contextlib.nullcontext()
