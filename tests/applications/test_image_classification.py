"""Vision Transformer, CNNs and gates: their arithmetic, their masks, and splits by form."""

import itertools
import math
import types

import numpy as np
import pytest
import torch
from torch import nn

from attn_tutorial.applications.digits import PARTS, load_parts
from attn_tutorial.applications.image_classification import experiment as application_module
from attn_tutorial.applications.image_classification import models as models_module
from attn_tutorial.applications.image_classification.experiment import fit, forms, hits
from attn_tutorial.attribution import recording, uniform_weights
from package.mutants import mutant
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def some_images(n=6):
    return torch.rand(n, 8, 8, generator=torch.Generator().manual_seed(1))


def a_transformer(api, **options):
    torch.manual_seed(0)
    return api.VisionTransformer(**options).eval()


# --- the data --------------------------------------------------------------------------------


def test_training_and_test_share_no_form():
    form = forms()
    of = {part: set(form[begin:end]) for part, (begin, end) in PARTS.items()}
    assert not of["training"] & of["test"]
    assert len(form) == 1797
    assert of["training"] | of["validation"] | of["test"] == set(range(14))


def test_forms_are_one_sequence_of_labels_and_no_boundary_fits_better():
    """Each form's labels nearly equal the first one's; with a moved boundary they do so less."""
    labels = torch.cat([part.labels for part in load_parts().values()]).tolist()
    model = labels[:130]

    def distance(begin, end):
        """How many labels to strike out of the model and the form until they are equal."""
        row = list(range(131))
        for i, label in enumerate(labels[begin:end], start=1):
            above, row[0] = row[0], i
            for j, wanted in enumerate(model, start=1):
                best = above if label == wanted else 1 + min(row[j], row[j - 1])
                above, row[j] = row[j], best
        return row[130]

    starts = [*application_module.FORMS, 1797]
    assert all(distance(*pair) <= 8 for pair in itertools.pairwise(starts))
    for before, boundary, after in zip(starts, starts[1:], starts[2:], strict=False):
        kept = distance(before, boundary) + distance(boundary, after)
        for moved in (boundary - 2, boundary + 2):
            assert kept < distance(before, moved) + distance(moved, after)


def test_pictures_of_all_parts_are_different():
    images = [set(map(bytes, part.images.numpy())) for part in load_parts().values()]
    assert not images[0] & images[1]
    assert not images[0] & images[2]
    assert not images[1] & images[2]


def test_more_pictures_include_fewer():
    part = load_parts()["training"]
    few, more = (application_module.some(part, n, seed=3) for n in (10, 20))
    assert torch.equal(more.images[:10], few.images)
    assert torch.equal(more.labels[:10], few.labels)
    other = application_module.some(part, 10, seed=4)
    assert not torch.equal(other.images, few.images)


# --- checks of an implementation, so that broken ones can be shown to fail --------------------


@check
def patches_by_hand(api):
    images = torch.arange(128.0).reshape(2, 8, 8)
    patches = api.patches_of(images)
    for place in range(16):
        row, column = 2 * (place // 4), 2 * (place % 4)
        square = images[:, row : row + 2, column : column + 2].flatten(1)
        assert torch.equal(patches[:, place], square)
    assert torch.equal(api.images_of(patches), images)


@check
def the_encoder_is_torchs(api):
    """The package's layer against torch's own, with the same parameters, in one head."""
    model = a_transformer(api, n_heads=1, n_layers=1)
    layer = model.encoder.layers[0]
    theirs = nn.TransformerEncoderLayer(32, 1, 64, 0.0, batch_first=True, norm_first=True).eval()
    theirs.self_attn = layer.attention.to_torch()
    theirs.linear1, theirs.linear2 = layer.feed_forward[0], layer.feed_forward[3]
    theirs.norm1 = layer.around_attention.norm
    theirs.norm2 = layer.around_feed_forward.norm
    images = some_images()
    encoder = model.encoder
    pixels = images.unfold(1, 2, 2).unfold(2, 2, 2).reshape(-1, 16, 4)
    patches = encoder.embedding(pixels) + encoder.positions
    tokens = torch.cat([encoder.class_token.expand(len(images), 1, -1), patches], dim=1)
    wanted = model.head(encoder.norm(theirs(tokens))[:, 0])
    torch.testing.assert_close(model(images), wanted, atol=1e-5, rtol=1e-4)


@check
def what_is_not_visible_changes_nothing(api):
    model, images = a_transformer(api), some_images()
    visible = torch.tensor([[0, 5, 9]]).expand(len(images), 3)
    changed = api.patches_of(images)
    hidden = [place for place in range(16) if place not in (0, 5, 9)]
    changed[:, hidden] = 7.0
    assert torch.equal(model(api.images_of(changed), visible), model(images, visible))
    changed[:, 5] = 7.0
    assert not torch.allclose(model(api.images_of(changed), visible), model(images, visible))


@check
def patches_may_be_named_in_any_order(api):
    """A patch brings its place along."""
    model, images = a_transformer(api), some_images()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    same = model(images, order.expand(len(images), 16))
    torch.testing.assert_close(same, model(images), atol=1e-5, rtol=1e-4)


@check
def without_positions_shuffled_patches_are_the_same(api):
    images = some_images()
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = api.images_of(api.patches_of(images)[:, order])
    bag, placed = a_transformer(api, positions=False), a_transformer(api)
    torch.testing.assert_close(bag(shuffled), bag(images), atol=1e-5, rtol=1e-4)
    assert (placed(shuffled) - placed(images)).abs().max() > 1e-2


@check
def the_weights_depend_on_the_picture(api):
    model, images = a_transformer(api), some_images(2)
    with torch.no_grad(), recording(model) as record:
        model(images)
    for weights in record.weights:  # (2, heads, 17, 17)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
        assert (weights[0] - weights[1]).abs().max() > 1e-3


@check
def pictures_do_not_see_one_another(api):
    images = some_images() * torch.arange(6.0)[:, None, None]  # from dark to bright
    gated = api.Convolutional("channel and spatial").eval()
    for model in (a_transformer(api), gated):
        alone = torch.cat([model(image[None]) for image in images])
        torch.testing.assert_close(model(images), alone, atol=1e-5, rtol=1e-4)


@check
def channel_gates_by_hand(api):
    torch.manual_seed(0)
    x = torch.rand(2, 8, 3, 3).numpy()
    for maximum in (False, True):
        gate = api.ChannelGate(8, maximum=maximum)
        first, second = gate.squeeze, gate.excite
        scores = np.zeros((2, 8))
        described = [x.mean((2, 3)), x.max((2, 3))] if maximum else [x.mean((2, 3))]
        for vectors in described:
            hidden = np.maximum(vectors @ first.weight.detach().numpy().T + _bias(first), 0)
            scores += hidden @ second.weight.detach().numpy().T + _bias(second)
        wanted = x * (1 / (1 + np.exp(-scores)))[:, :, None, None]
        np.testing.assert_allclose(gate(torch.from_numpy(x)).detach(), wanted, atol=1e-6)


@check
def spatial_gates_by_hand(api):
    torch.manual_seed(0)
    gate, x = api.SpatialGate(), torch.rand(2, 5, 4, 4)
    weight, bias = gate.convolution.weight.detach()[0], gate.convolution.bias.item()
    framed = np.pad(x.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    framed = np.stack([framed.mean(1), framed.max(1)], axis=1)
    factors = np.zeros((2, 4, 4))
    for row in range(4):
        for column in range(4):
            square = framed[:, :, row : row + 3, column : column + 3]
            factors[:, row, column] = (square * weight.numpy()).sum((1, 2, 3)) + bias
    factors = 1 / (1 + np.exp(-factors))
    np.testing.assert_allclose(gate(x).detach(), x.numpy() * factors[:, None], atol=1e-6)


@check
def constant_gates_no_longer_look(api):
    torch.manual_seed(0)
    model, images = api.Convolutional("channel").eval(), some_images(20)
    gate = next(module for module in model if isinstance(module, api.ChannelGate))
    x = torch.rand(3, 16, 8, 8)
    before = gate.factors(x)
    with api.constant_gates(model, images):
        constant = gate.factors(x)
        inside = model(images)
    assert (constant == constant[0]).all()
    first = model[2](model[1](model[0](images)))  # what reaches the first gate
    torch.testing.assert_close(constant[0], gate.factors(first).mean(0))
    assert torch.equal(gate.factors(x), before)  # as it was
    assert not torch.allclose(inside, model(images), atol=1e-6)


def _bias(linear):
    return linear.bias.detach().numpy()


BROKEN = {
    "patches column by column": (
        "(h p) (w q) -> batch (h w) (p q)", "(w p) (h q) -> batch (h w) (p q)"),
    "visible ignored": ("if visible is not None:", "if visible is None and False:"),
    "places by the order": (
        "x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))",
        "self.embedding(patches).gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))"
        " + self.positions[: visible.shape[1]]",
    ),
    "positions in the bag": ("if positions else None", "if True else None"),
    "a layer left out": ("x, _ = layer(x)", "_, _ = layer(x)"),
    "batch as sequence": ("x, _ = layer(x)", "x = layer(x.transpose(0, 1))[0].transpose(0, 1)"),
    "no normalising at the end": ("return self.norm(x)", "return x"),
    "equal weights": ("x, _ = layer(x)", "layer.attention.query.weight.data *= 0; x, _ = layer(x)"),
    "gate over the channels": (
        "return torch.sigmoid(scores)", "return torch.softmax(scores, dim=1)"),
    "gate of the batch": (
        "self.squeeze(x.mean(dim=(2, 3)))", "self.squeeze(x.mean(dim=(0, 2, 3))[None])"),
    "maximum ignored": ("if self.maximum:", "if False:"),
    "spatial gate without maximum": ("x.amax(dim=1)], dim=1)", "x.mean(dim=1)], dim=1)"),
    "constant gates mix pictures": (
        "gate.factors(*arguments).mean(dim=0, keepdim=True)",
        "gate.factors(*arguments)[:1]",
    ),
}  # fmt: skip


class TestModels(ZooTests):
    zoo = Zoo(CHECKS, rewritten(models_module, BROKEN), BROKEN)


# --- shifts, training, scores ----------------------------------------------------------------


def shifts_by_hand(api):
    images = some_images(9)
    ways = api.NEIGHBOURS
    moved = api.shift(images, torch.tensor(ways))
    for image, result, (down, right) in zip(images, moved, ways, strict=True):
        wanted = torch.zeros(8, 8)
        for row in range(8):
            for column in range(8):
                if 0 <= row + down < 8 and 0 <= column + right < 8:
                    wanted[row + down, column + right] = image[row, column]
        assert torch.equal(result, wanted)


def copies_keep_their_labels(api):
    part = load_parts()["test"]
    copies = api.shifted_copies(part, [(0, 1), (0, 0)])
    assert torch.equal(copies.images[547:], part.images)
    assert torch.equal(copies.images[:547, :, 1:], part.images[:, :, :7])
    assert torch.equal(copies.labels, torch.cat([part.labels, part.labels]))


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (shifts_by_hand, "places - by[", "places + by["),
        (shifts_by_hand, "for axis in (0, 1))", "for axis in (1, 0))"),
        (shifts_by_hand, "(1, 1, 1, 1))", '(1, 1, 1, 1), "circular")'),
        (copies_keep_their_labels, ".repeat(len(shifts))", ".repeat_interleave(len(shifts))"),
    ],
)
def test_shifts(check, right, wrong):
    check(application_module)
    with pytest.raises((AssertionError, NotImplementedError)):
        check(mutant(application_module, right, wrong))


def test_training_reaches_the_queries_only_where_weights_may_differ():
    """Trained with equal weights, queries get no gradient; the weights stay equal afterwards."""
    free, equal = (
        fit(0, name, n_training=100, steps=3)
        for name in ("Vision Transformer", "trained with equal weights")
    )
    torch.manual_seed(0)
    fresh = models_module.VisionTransformer()
    decay = 1 - 0.01 * 3e-3 * (1 + 2 + 3) / 50  # of the weights, in three steps
    for model, moved in ((free, True), (equal, False)):
        before = decay * fresh.encoder.layers[0].attention.query.weight
        after = model.encoder.layers[0].attention.query.weight
        assert bool((before - after).abs().max() > 1e-4) is moved
    with uniform_weights(equal), torch.no_grad(), recording(equal.eval()) as record:
        equal(some_images())
    assert all(torch.allclose(weights, torch.tensor(1 / 17)) for weights in record.weights)


def test_a_seed_decides_everything():
    one, same, other = (
        fit(seed, "CNN, shifts", n_training=100, steps=4).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_labels_do_not_leak_into_the_guesses():
    """With labels drawn by chance, what is recognised stays at chance."""
    part = load_parts()["test"]
    model = fit(0, "CNN", n_training=300, steps=100)
    chance = part._replace(labels=torch.from_numpy(np.random.default_rng(0).permutation(547) % 10))
    assert hits(model, part).mean() > 0.7
    assert abs(hits(model, chance).mean() - 0.1) < 4 * math.sqrt(0.09 / 547)


def test_the_best_on_validation_is_chosen():
    labels = {"training": 3, "validation": 5}
    parts = {
        name: types.SimpleNamespace(images=torch.zeros(4, 8, 8), labels=torch.full((4,), label))
        for name, label in labels.items()
    }

    class Constant:
        def __init__(self, guess):
            self.guess = guess

        def fit(self, features, labels):
            assert (labels == 3).all()  # the validation part is for choosing only
            return self

        def predict(self, features):
            return np.full(len(features), self.guess)

    candidates = [lambda guess=guess: Constant(guess) for guess in (3, 5, 7)]
    assert application_module.choose(candidates, **parts) is candidates[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: models_module.patches_of(torch.zeros(2, 7, 8)), r"images must have shape .*7, 8"),
        (lambda: models_module.Convolutional("soft"), "gate must be 'none'.*'soft'"),
        (
            lambda: models_module.constant_gates(nn.Linear(1, 1), some_images()).__enter__(),
            "model must have a gate",
        ),
        (
            lambda: application_module.shift(some_images(2), torch.tensor([[0, 2], [0, 0]])),
            r"by must have shape \(n, 2\) = \(2, 2\) and hold numbers from -1 to 1.*0 to 2",
        ),
        (lambda: application_module.some(load_parts()["test"], 548, 0), "from 1 to 547; got 548"),
        (lambda: fit(0, "ResNet"), "name must be one of .*'CNN'.*got 'ResNet'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
