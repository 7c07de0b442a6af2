"""Filling in hidden patches, and learning from a few labels: nothing hidden may leak."""

import numpy as np
import pytest
import torch

from attn_tutorial.applications.digits import load_parts
from attn_tutorial.applications.image_classification.models import images_of, patches_of
from attn_tutorial.applications.self_supervision import baselines as labels_module
from attn_tutorial.applications.self_supervision import experiment as application_module
from attn_tutorial.applications.self_supervision import models as pictures_module
from attn_tutorial.applications.self_supervision.experiment import (
    fine_tune,
    pretrain,
    where_hidden_patches_look,
)
from attn_tutorial.attribution import recording
from package.mutants import mutant
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def some_images(n=5):
    return torch.rand(n, 8, 8, generator=torch.Generator().manual_seed(1))


def some_visible(n=5, n_visible=6):
    return torch.stack(
        [torch.randperm(16, generator=torch.Generator().manual_seed(i)) for i in range(n)]
    )[:, :n_visible]


def networks(api):
    torch.manual_seed(0)
    return api.MaskedAutoencoder().eval(), api.MaskedPerceptron().eval()


@check
def visible_patches_are_different_and_drawn_evenly(api):
    visible = api.draw_visible(4000, 6, torch.Generator().manual_seed(0))
    assert visible.shape == (4000, 6)
    assert all(len(set(row)) == 6 for row in visible.tolist())
    share = torch.bincount(visible.flatten(), minlength=16) / 4000
    torch.testing.assert_close(share, torch.full((16,), 6 / 16), atol=0.03, rtol=0)
    hidden = api.is_hidden(visible)
    assert (hidden.sum(dim=1) == 10).all()
    assert (hidden.gather(1, visible) == 0).all()


@check
def what_is_hidden_does_not_leak(api):
    """Networks and fill-ins see visible patches only; those they do see."""
    images, visible = some_images(), some_visible()
    patches, hidden = patches_of(images), torch.ones(5, 16).scatter(1, visible, 0.0).bool()
    other_hidden, other_visible = patches.clone(), patches.clone()
    other_hidden[hidden] = 7.0
    other_visible[torch.arange(5), visible[:, 0]] = 7.0
    training = load_parts()["training"].images[:200]
    fills = [
        *networks(api),
        lambda *a: api.mean_of_neighbours(training, *a),
        lambda *a: api.gaussian_fill(training, *a),
    ]
    for fill in fills:
        wanted = fill(images, visible)
        assert torch.equal(fill(images_of(other_hidden), visible), wanted)
        assert (fill(images_of(other_visible), visible) - wanted).abs().max() > 1e-3


@check
def the_order_of_the_visible_does_not_matter(api):
    images, visible = some_images(), some_visible()
    for model in networks(api):
        torch.testing.assert_close(
            model(images, visible.flip(1)), model(images, visible), atol=1e-5, rtol=1e-4
        )


@check
def the_error_counts_hidden_patches_only(api):
    images, visible = some_images(), some_visible()
    truth = patches_of(images)
    hidden = torch.ones(5, 16).scatter(1, visible, 0.0).bool()
    wrong_where_seen, wrong_where_hidden = truth.clone(), truth.clone()
    wrong_where_seen[~hidden] += 3
    wrong_where_hidden[hidden] += 0.5
    assert api.hidden_error(wrong_where_seen, images, visible) == 0
    assert api.hidden_error(wrong_where_hidden, images, visible).item() == pytest.approx(0.25)


@check
def the_mean_picture_by_hand(api):
    training, images = some_images(9), some_images(2)
    filled = api.mean_picture(training, images, some_visible(2))
    for image in images_of(filled):
        np.testing.assert_allclose(image, training.numpy().mean(axis=0), atol=1e-6)


@check
def neighbours_by_hand(api):
    images, visible = some_images(2), some_visible(2)
    filled = images_of(api.mean_of_neighbours(images, images, visible))
    for image, seen, result in zip(images, visible.tolist(), filled, strict=True):
        for row, column in ((0, 0), (3, 6), (7, 2)):
            total = weights = 0.0
            for r in range(8):
                for c in range(8):
                    if 4 * (r // 2) + c // 2 in seen:
                        weight = 0.5 ** np.hypot(r - row, c - column)
                        weights += weight
                        total += weight * image[r, c].item()
            assert result[row, column].item() == pytest.approx(total / weights, abs=1e-5)


@check
def the_linear_guess_is_ridge_regression(api):
    """Regress each hidden pixel on the visible ones of the training pictures, with a penalty."""
    training, images = load_parts()["training"].images, load_parts()["test"].images[:2]
    visible = torch.tensor([[0, 5, 6, 9, 10, 14]]).expand(2, 6)
    filled = api.gaussian_fill(training, images, visible, noise=0.02).flatten(1)
    known, new = (patches_of(i).flatten(1).numpy().astype(float) for i in (training, images))
    pixels = np.concatenate([4 * place + np.arange(4) for place in visible[0].tolist()])
    mean = known.mean(axis=0)
    x, y = (known - mean)[:, pixels], known - mean
    penalty = 0.02 * (len(known) - 1) * np.eye(len(pixels))
    slopes = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    wanted = mean + (new - mean)[:, pixels] @ slopes
    hidden = np.setdiff1d(np.arange(64), pixels)
    np.testing.assert_allclose(filled[:, hidden], wanted[:, hidden], atol=1e-4)


@check
def features_are_of_whole_pictures(api):
    images = some_images()
    for model in networks(api):
        features = model.features(images)
        for place in range(16):
            patches = patches_of(images)
            patches[0, place] += 1
            moved = model.features(images_of(patches))
            assert (moved[0] - features[0]).abs().max() > 1e-4
            torch.testing.assert_close(moved[1:], features[1:], atol=1e-5, rtol=1e-4)


@check
def weights_of_the_decoder_depend_on_the_picture(api):
    model, _ = networks(api)
    visible = some_visible(1).expand(2, 6)
    with torch.no_grad(), recording(model) as record:
        model(some_images(2), visible)
    weights = record.weights[-1]  # (2, heads, 17, 17)
    assert weights.shape == (2, 4, 17, 17)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 17))
    assert (weights[0] - weights[1]).abs().max() > 1e-3


BROKEN = {
    "visible patches repeat": (
        "torch.rand(n, N_PATCHES, generator=generator).argsort(dim=1)[:, :n_visible]",
        "torch.randint(N_PATCHES, (n, n_visible), generator=generator)",
    ),
    "hidden turned round": (
        "torch.ones(len(visible), N_PATCHES).scatter(1, visible, 0.0)",
        "torch.zeros(len(visible), N_PATCHES).scatter(1, visible, 1.0)",
    ),
    "the encoder sees all": (
        "self.encoder(patches_of(images), visible)  #",
        "self.encoder(patches_of(images))[:, : 1 + visible.shape[1]]  #",
    ),
    "vectors in the wrong places": (
        "encoded[:, 1:])", "encoded[:, 1:].roll(1, dims=1).detach())"),
    "the decoder's weights equal": (
        "x, _ = self.decoder(x)",
        "self.decoder.attention.query.weight.data *= 0; x, _ = self.decoder(x)",
    ),
    "the perceptron sees all": ("* (1 - hidden)[..., None], hidden)", ", hidden)"),
    "features of other pictures": ("[:, 1:].flatten(1)", "[:, 1:].flatten(1).cumsum(0)"),
    "visible patches count": ("(errors * hidden).sum() / hidden.sum()", "errors.mean()"),
    "neighbours of the hidden": ("* seen.flatten(1)[:, None]", "* (1 - seen).flatten(1)[:, None]"),
    "far ones count most": ("0.5 ** torch.cdist", "2.0 ** torch.cdist"),
    "mean over the pixels": (
        "patches_of(training).mean(dim=0).expand(",
        "patches_of(training).mean().expand(16, 4).expand(",
    ),
    "no mean in the guess": ("guess = mean +", "guess = 0 * mean +"),
    "no noise": ("+ noise * torch.eye(known.shape[1])", "+ 1e-6 * torch.eye(known.shape[1])"),
}  # fmt: skip


class TestPictures(ZooTests):
    zoo = Zoo(CHECKS, rewritten(pictures_module, BROKEN), BROKEN)


# --- labels ----------------------------------------------------------------------------------


def labels_are_drawn_evenly(api):
    part = load_parts()["training"]
    drawn = api.draw_labelled(part, 30, draw=0)
    assert torch.bincount(drawn.labels).tolist() == [3] * 10
    index = {image.numpy().tobytes(): i for i, image in enumerate(part.images)}
    places = [index[image.numpy().tobytes()] for image in drawn.images]
    assert len(set(places)) == 30
    assert torch.equal(part.labels[places], drawn.labels)
    other = api.draw_labelled(part, 30, draw=1)
    assert not torch.equal(other.images, drawn.images)
    assert torch.equal(api.draw_labelled(part, 30, draw=0).images, drawn.images)


def only_known_labels_spread(api):
    """Two clouds; one label each is enough, and the labels of the others are not asked for."""
    rng = np.random.default_rng(0)
    clouds = np.concatenate([rng.normal(0, 0.1, (40, 64)), rng.normal(1, 0.1, (40, 64))])
    pictures = torch.from_numpy(clouds).unflatten(1, (8, 8)).float()
    spreading = api.Spreading(pictures, 20).fit(clouds[[0, 79]], np.array([3, 8]))
    assert spreading.predict(clouds[1:40]).tolist() == [3] * 39
    assert spreading.predict(clouds[40:79]).tolist() == [8] * 39


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (labels_are_drawn_evenly, "labels == digit", "labels != digit"),
        (labels_are_drawn_evenly, "default_rng(draw)", "default_rng(0)"),
        (labels_are_drawn_evenly, "part.labels[indices])", "part.labels[: len(indices)])"),
        (only_known_labels_spread, "len(self.unlabelled), -1)", "len(self.unlabelled), 3)"),
    ],
)
def test_labels(check, right, wrong):
    check(labels_module)
    with pytest.raises(AssertionError):
        check(mutant(labels_module, right, wrong))


def test_pretraining_asks_for_no_labels(monkeypatch):
    """Other labels, the same network."""
    parts = load_parts()
    one, _ = pretrain(0, pictures_module.MaskedAutoencoder, steps=2)
    training = parts["training"]
    parts["training"] = training._replace(labels=training.labels.flip(0))
    monkeypatch.setattr(application_module, "load_parts", lambda: parts)
    same, _ = pretrain(0, pictures_module.MaskedAutoencoder, steps=2)
    for name, parameter in one.state_dict().items():
        assert torch.equal(parameter, same.state_dict()[name])


def test_probe_and_fine_tuning_leave_the_network_as_it_is():
    model, _ = pretrain(0, pictures_module.MaskedPerceptron, steps=0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    labelled = labels_module.draw_labelled(load_parts()["training"], 10, 0)
    pixels, labels = labelled.images.flatten(1).numpy(), labelled.labels.numpy()
    labels_module.Probe(model).fit(pixels, labels)
    tuned = fine_tune(model, labelled, 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not torch.equal(tuned.body.encoder[0].weight, before["encoder.0.weight"])
    assert application_module.hits(tuned, labelled).all()


def test_equal_weights_stay_equal_when_tuned():
    model, _ = pretrain(0, pictures_module.MaskedAutoencoder, steps=1, equal_weights=True)
    labelled = labels_module.draw_labelled(load_parts()["training"], 10, 0)
    tuned = fine_tune(model, labelled, 0, equal_weights=True).eval()
    with torch.no_grad(), recording(tuned) as record:
        tuned(some_images())
    assert len(record.weights) == 2
    assert all(torch.allclose(weights, torch.tensor(1 / 17)) for weights in record.weights)


def test_where_equal_weights_look():
    """Of 17 equal weights, one is the class token's, 6 are of visible and 10 of hidden patches."""
    model = pictures_module.MaskedAutoencoder()
    with application_module.equal_if(True, model):
        looks = where_hidden_patches_look(model, some_images(40))
    wanted = {"class token": 1, "itself": 1, "other hidden": 9, "visible": 6}
    for name, n in wanted.items():
        assert looks[name] == pytest.approx(n / 17, abs=1e-5)
    assert looks["near over far"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pictures_module.draw_visible(3, 16), "n_visible must be from 1 to 15; got 16"),
        (
            lambda: labels_module.draw_labelled(load_parts()["training"], 15, 0),
            "n must be a multiple of 10 .* got 15",
        ),
        (
            lambda: labels_module.draw_labelled(load_parts()["training"], 2000, 0),
            "that the part has of each digit; got 2000",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
