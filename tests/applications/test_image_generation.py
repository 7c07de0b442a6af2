"""Image generation: exact probabilities, bounds, distances between crowds; and what may leak."""

import itertools
import math
import types

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from attn_tutorial.applications import digits
from attn_tutorial.applications.image_generation import (
    adversarial,
    attending,
    baselines,
    blocks,
    corners,
    data,
    experiment,
    judging,
    latent,
    pixels,
    with_blocks,
)
from attn_tutorial.applications.measuring import n_parameters
from attn_tutorial.attribution import recording
from package.mutants import mutant
from package.zoo import Zoo

MODULES = (data, blocks, pixels, baselines, attending, latent, judging, adversarial)
CHECKS = {}  # by the module that they check


def check(module):
    def note(function):
        CHECKS.setdefault(module, []).append(function)
        return function

    return note


def right():
    """All public names of the modules in one place, each from the module that defines it."""
    api = types.SimpleNamespace()
    for module in MODULES:
        vars(api).update(vars(module))
    return api


def some_levels(n=6, side=8, seed=1):
    return torch.randint(4, (n, side, side), generator=torch.Generator().manual_seed(seed))


def all_pictures():
    """The 256 pictures of 2 by 2 pixels."""
    return torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 2, 2)


def with_random_parameters(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def models(api, side):
    """One model of each kind, none of them trained."""
    torch.manual_seed(0)
    tables = torch.rand(3, side, side, 4) ** 3
    tables = tables / tables.sum(dim=-1, keepdim=True)
    return {
        "Transformer": with_random_parameters(api.PixelTransformer(d_model=8, side=side)),
        "PixelCNN": with_random_parameters(api.PixelCNN(n_channels=6, side=side)),
        "logistic": with_random_parameters(api.Logistic(side=side)),
        "mixture": api.Mixture(tables, torch.tensor([0.5, 0.3, 0.2])),
    }


# --- the data --------------------------------------------------------------------------------


def test_parts_are_the_blocks_of_the_file_and_share_no_picture():
    parts, whole = data.load_parts(), digits.load_parts()
    seen = [set(map(bytes, part.images.numpy())) for part in parts.values()]
    for one, other in itertools.combinations(seen, 2):
        assert not one & other
    for name, part in parts.items():
        assert torch.equal(part.images, whole[name].images)
        assert torch.equal(part.labels, whole[name].labels)
        assert torch.equal(part.levels, data.levels_of(whole[name].images))


def test_corners_of_training_and_test_are_other_pictures():
    training = data.draw_corners(corners.N_TRAINING, seed=1000)
    test = data.draw_corners(corners.N_TEST, seed=0)
    assert not set(map(bytes, training.numpy())) & set(map(bytes, test.numpy()))
    assert torch.equal(test, data.draw_corners(corners.N_TEST, seed=0))


# --- checks of an implementation, so that broken ones can be shown to fail --------------------


@check("data")
def levels_by_hand(api):
    steps = torch.arange(17.0).view(1, 1, 17) / 16
    levels = api.levels_of(steps)
    assert levels.flatten().tolist() == 5 * [0] + 4 * [1] + 4 * [2] + 4 * [3]
    assert torch.equal(api.levels_of(api.ink_of(levels)), levels)


@check("data")
def corners_match_and_the_rest_is_free(api):
    levels = api.draw_corners(4000, seed=3)
    first, second = levels[:, :2, :2].flatten(1), levels[:, -2:, -2:].flatten(1)
    assert torch.equal(first, second)
    assert (first == first[:, :1]).all()
    # The plug-in entropy of each free pixel, and of the corner, is close to two bits.
    counts = torch.stack([(levels == level).double().mean(dim=0) for level in range(4)])
    entropy = -(counts * counts.log2()).sum(dim=0)  # (8, 8)
    assert (entropy > 1.99).all()
    other = levels.flatten(1)[:, [2, 7, 30, 56]]  # no corner pixel among them
    joint = torch.unique(torch.cat([first[:, :1], other[:, :1]], 1), dim=0, return_counts=True)[1]
    assert (joint / 4000 - 1 / 16).abs().max() < 5 * math.sqrt(1 / 16 / 4000)
    assert math.isclose(api.least_bits_of_corners() * 64, 2 * 57)


@check("pixels")
def probabilities_sum_to_one(api):
    everything = all_pictures()
    for name, model in models(api, side=2).items():
        total = 0.5 ** api.bits(model, everything).double().sum(dim=(1, 2))
        assert abs(total.sum().item() - 1) < 1e-4, name


@check("pixels")
def the_future_changes_no_past(api):
    levels = some_levels(2)
    for model in models(api, side=8).values():
        with torch.no_grad():
            before = model(levels).flatten(1, 2)  # (2, 64, 4)
            for place in (0, 12, 35, 62):
                changed = levels.flatten(1).clone()
                changed[:, place] = (changed[:, place] + 1) % 4
                after = model(changed.view(2, 8, 8)).flatten(1, 2)
                gap = (after - before).abs().amax(dim=(0, 2))  # (64,)
                assert gap[: place + 1].max() < 1e-5
                assert gap[place + 1 :].max() > 1e-4


@check("pixels")
def neighbours_are_seen(api):
    """A PixelCNN of one layer: its first window sees the four neighbours before a pixel."""
    model = with_random_parameters(api.PixelCNN(n_channels=6, n_layers=0))
    levels = some_levels(1)
    with torch.no_grad():
        before = model(levels)[0, 4, 4]
        for row, column in itertools.product(range(8), repeat=2):
            changed = levels.clone()
            changed[0, row, column] = (changed[0, row, column] + 2) % 4
            moved = bool((model(changed)[0, 4, 4] - before).abs().max() > 1e-5)
            assert moved is ((row, column) in {(3, 3), (3, 4), (3, 5), (4, 3)})


@check("pixels")
def what_is_drawn_follows_the_probabilities(api):
    everything, n = all_pictures(), 3000
    for model in models(api, side=2).values():
        chances = 0.5 ** api.bits(model, everything).double().sum(dim=(1, 2))  # (256,)
        drawn = api.draw(model, n, seed=0, side=2)
        number = (drawn.flatten(1) * torch.tensor([64, 16, 4, 1])).sum(dim=1)
        shares = number.bincount(minlength=256) / n
        assert ((shares - chances).abs() < 5 * (chances / n).sqrt() + 2e-3).all()


@check("baselines")
def mixtures_by_hand(api):
    levels, labels = some_levels(12, side=2), torch.tensor([0, 1, 1] * 4)
    for make, groups in (
        (api.independent, [levels]),
        (api.by_digit, [levels[labels == 0], levels[labels == 1]]),
    ):
        model = make(levels, labels, smoothing=0.5)
        for picture in some_levels(3, side=2, seed=7):
            total = 0
            for group in groups:
                product = len(group) / 12
                for row, column in itertools.product(range(2), repeat=2):
                    same = int((group[:, row, column] == picture[row, column]).sum())
                    product *= (same + 0.5) / (len(group) + 4 * 0.5)
                total += product
            assert math.isclose(
                api.bits(model, picture[None]).sum(), -math.log2(total), abs_tol=1e-4
            )


@check("baselines")
def copies_by_hand(api):
    levels = some_levels(5, side=2)
    model = api.around_examples(levels, torch.zeros(5), smoothing=0.25)
    picture = some_levels(1, side=2, seed=5)[0]
    total = 0
    for known in levels:
        product = 1 / 5
        for row, column in itertools.product(range(2), repeat=2):
            level = picture[row, column]
            frequency = (int((levels[:, row, column] == level).sum()) + 1) / (5 + 4)
            product *= 0.75 * bool(known[row, column] == level) + 0.25 * frequency
        total += product
    assert math.isclose(api.bits(model, picture[None]).sum(), -math.log2(total), abs_tol=1e-4)


@check("baselines")
def logistic_regression_is_that_of_scikit_learn(api):
    levels = data.load_parts()["training"].levels[:80, 3:5, 3:5]
    model = api.Logistic(side=2).fit(levels, penalty=2.0)
    known = nn.functional.one_hot(levels.flatten(1)[:, :3], 4).flatten(1).numpy()
    theirs = LogisticRegression(C=1 / 2.0, tol=1e-6, max_iter=500)
    wanted = theirs.fit(known, levels[:, 1, 1].numpy()).predict_proba(known)
    found = model(levels)[:, 1, 1].exp().detach().numpy()
    np.testing.assert_allclose(found, wanted, atol=5e-3)


@check("attending")
def offsets_by_hand(api):
    above = torch.zeros(1, 64, 64)  # each pixel looks at the one above it, the first row at "begin"
    for pixel in range(64):
        above[0, pixel, pixel - 8 + 1 if pixel >= 8 else 0] = 1
    wanted = torch.zeros(1, 4, 7)
    wanted[0, 2, 3] = 1
    assert torch.equal(api.by_offset(above, reach=3), wanted)
    assert api.near_share(above, reach=1) == 1
    left = torch.eye(64)[None]  # column j is pixel j - 1: each looks at the one to its left
    wanted = torch.zeros(1, 3, 5)
    wanted[0, 2, 1] = 1
    assert torch.equal(api.by_offset(left, reach=2), wanted)
    assert torch.equal(api.near_share(left, reach=2), torch.ones(1))
    far = torch.zeros(1, 64, 64)
    far[0, :, 0] = 1
    assert api.by_offset(far, reach=2).sum() == api.near_share(far, reach=1).sum() == 0


@check("attending")
def fixed_weights_no_longer_look(api):
    torch.manual_seed(0)
    model, levels = with_random_parameters(pixels.PixelTransformer(d_model=8)), some_levels()
    with torch.no_grad(), recording(model) as record:
        before = model(levels)
    means = [weights.mean(dim=0) for weights in record.weights]
    with api.fixed_weights(model, levels), torch.no_grad(), recording(model) as record:
        inside = model(levels)
        few = model(levels[:, :3])
    for mean, weights in zip(means, record.weights, strict=False):
        torch.testing.assert_close(weights, mean.expand(len(levels), -1, -1, -1))
    torch.testing.assert_close(few, inside[:, :3])
    assert (inside - before).abs().max() > 1e-3
    torch.testing.assert_close(model(levels), before)  # as it was


@check("blocks")
def a_block_of_attention_has_no_order(api):
    torch.manual_seed(0)
    block, x = api.block("attention", 8), torch.randn(2, 8, 4, 4)
    assert torch.equal(block(x), x)
    block.gain.data.fill_(0.7)
    order = torch.randperm(16)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    wanted = block(x).flatten(2)[:, :, order].view_as(x)
    torch.testing.assert_close(block(shuffled), wanted, atol=1e-5, rtol=1e-4)
    places = x.flatten(2).transpose(1, 2)  # (2, 16, 8)
    theirs = block.attention.to_torch()
    output, _ = theirs(places, places, places)
    torch.testing.assert_close(block(x), x + 0.7 * output.transpose(1, 2).view_as(x))
    changed = x.clone()
    changed[:, :, 3, 3] += 1  # the far corner reaches the near one
    assert (block(changed)[:, :, 0, 0] - block(x)[:, :, 0, 0]).abs().max() > 1e-4


@check("blocks")
def both_blocks_have_as_many_parameters(api):
    attention, convolution = (n_parameters(api.block(kind, 32)) for kind in with_blocks.BLOCKS)
    assert abs(attention / convolution - 1) < 0.05


def a_narrow_autoencoder(api):
    torch.manual_seed(0)
    model = api.VariationalAutoencoder("attention", n_channels=8, n_latent=1)
    model.decoder[0].weight.data *= 3
    model.encoder[-1].bias.data += torch.tensor([0.3, -1.0])  # away from the prior
    return model.eval()


@check("latent")
def bounds_are_bounds(api):
    """With a vector of one number the probability can be integrated."""
    model, levels = a_narrow_autoencoder(api), some_levels(3)
    grid = torch.linspace(-8, 8, 801)[:, None]
    with torch.no_grad():
        chances = model.decode(grid)  # (801, 8, 8, 4)
        normal = torch.distributions.Normal(0, 1).log_prob(grid[:, 0])
        truth = []
        for picture in levels:
            own = chances.gather(-1, picture.expand(801, 8, 8)[..., None]).sum(dim=(1, 2, 3))
            total = torch.logsumexp((own + normal).double(), 0) + math.log(16 / 800)
            truth.append(-total / math.log(2) / 64)
    truth = torch.stack(truth).float()
    many = api.importance_bound(model, levels, n_draws=300, seed=0)
    torch.testing.assert_close(many, truth, atol=4e-3, rtol=0)
    often = levels.repeat(400, 1, 1)
    single = api.importance_bound(model, often, n_draws=1, seed=0)
    assert (single.view(400, 3).mean(dim=0) > truth + 1e-4).all()
    torch.manual_seed(0)
    with torch.no_grad():
        elbo = api.negative_elbo(model, often)
    torch.testing.assert_close(elbo, single.mean(), atol=4e-3, rtol=0)


@check("latent")
def decoded_pictures_follow_the_decoder(api):
    model = a_narrow_autoencoder(api)
    model.decoder[-1].bias.data += torch.tensor([1.0, 0.0, 0.0, -1.0])
    drawn = api.draw_decoded(model, 2000, seed=0)
    with torch.no_grad():
        noise = torch.randn(2000, 1, generator=torch.Generator().manual_seed(5))
        wanted = model.decode(noise).exp().mean(dim=0)  # (8, 8, 4)
    found = nn.functional.one_hot(drawn, 4).float().mean(dim=0)
    assert (found - wanted).abs().max() < 0.08


@check("judging")
def frechet_distance_by_hand(api):
    rng = np.random.default_rng(0)
    one = rng.normal(size=(400, 3))
    assert abs(api.frechet_distance(one, one)) < 1e-6
    assert math.isclose(api.frechet_distance(one, one + np.array([1, 2, 0])), 5, abs_tol=1e-6)
    turned, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    white = (one - one.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(one.T))).T
    scaled = white * [1, 2, 3]  # standard deviations against 1: (1 - s)² summed
    found = api.frechet_distance(white @ turned, scaled @ turned)
    assert math.isclose(found, 0 + 1 + 4, abs_tol=1e-6)


@check("judging")
def precision_and_recall_by_hand(api):
    rng = np.random.default_rng(0)
    real, drawn = rng.normal(size=(30, 2)), 2 * rng.normal(size=(25, 2))

    def inside(points, centres, k):
        hits = 0
        for point in points:
            for i, centre in enumerate(centres):
                others = [math.dist(centre, c) for j, c in enumerate(centres) if j != i]
                if math.dist(point, centre) <= sorted(others)[k - 1]:
                    hits += 1
                    break
        return hits / len(points)

    for k in (1, 3):
        precision, recall = api.precision_and_recall(real, drawn, k=k)
        assert math.isclose(precision, inside(drawn, real, k))
        assert math.isclose(recall, inside(real, drawn, k))
    assert precision < recall  # what is drawn is spread too far


@check("judging")
def the_nearest_is_found(api):
    levels, known = some_levels(4), some_levels(9, seed=2)
    wanted = [min(int((a != b).sum()) for b in known) for a in levels]
    assert api.to_nearest(levels, known).tolist() == wanted
    assert api.to_nearest(known[:2], known).tolist() == [0, 0]


@check("adversarial")
def the_generator_comes_closer_to_real_pictures(api):
    """Real pictures all of paper: what is drawn loses its ink."""
    images = torch.zeros(16, 8, 8)
    start, _ = api.fit_adversaries(images, "attention", seed=0, steps=1, batch_size=4)
    end, losses = api.fit_adversaries(images, "attention", seed=0, steps=25, batch_size=4)
    ink = [api.draw_images(model, 50, seed=0).mean().item() for model in (start, end)]
    assert ink[1] < 0.95 * ink[0]
    assert len(losses) == 25


@check("adversarial")
def no_matrix_of_the_discriminator_stretches(api):
    torch.manual_seed(0)
    judge = api.Discriminator("attention")
    for _ in range(30):  # the estimate of the singular value gets better with each call
        judge(torch.rand(2, 8, 8))
    matrices = [m.weight.flatten(1) for m in judge.modules() if hasattr(m, "parametrizations")]
    assert len(matrices) == 7  # two convolutions, four projections, one linear layer
    for matrix in matrices:
        assert abs(torch.linalg.matrix_norm(matrix, ord=2).item() - 1) < 0.1


BROKEN = {
    "five steps in the middle": (data, "* N_LEVELS // 17", "* N_LEVELS // 16 % N_LEVELS"),
    "corners drawn apart": (data, "levels[:, -CORNER:, -CORNER:] = level", "pass"),
    "begin among the levels": (pixels, "logits[..., :N_LEVELS].log", "logits.log"),
    "a pixel sees itself": (pixels, "torch.cat([begin, pixels[:, :-1]], dim=1)", "pixels"),
    "mask turned round": (pixels, "place < middle", "place > middle"),
    "softmax over the places": (
        pixels,
        "x.movedim(1, -1).log_softmax(dim=-1)",
        "x.movedim(1, -1).log_softmax(dim=1)",
    ),
    "drawn from the pixel before": (
        pixels,
        "[:, row, column].exp()  # (n, 4)",
        "[:, row, column - 1].exp()",
    ),
    "belief not updated": (
        baselines,
        "belief = belief + table[:, levels[:, row, column]].T",
        "pass",
    ),
    "shares ignored": (baselines, "= self.shares.expand", "= (0 * self.shares).expand"),
    "copies without the places": (baselines, "smoothing * counted(levels, 1.0)", "smoothing / 4"),
    "logistic sees the future": (baselines, "(place < place[:, None])", "(place > place[:, None])"),
    "no penalty": (baselines, "penalty / 2 *", "0 * penalty *"),
    "offset to the wrong side": (
        attending,
        "key = query - up * side + right + 1",
        "key = query - up * side - right + 1",
    ),
    "begin not counted": (
        attending,
        "query - up * side + right + 1].mean",
        "query - up * side + right].mean",
    ),
    "weights of one picture": (attending, "weights.mean(dim=0) for", "weights[0] for"),
    "equal weights, not the mean": (
        attending,
        "scores[None, :, :n, :n]",
        "0 * scores[None, :, :n, :n]",
    ),
    "places as columns first": (blocks, "h=x.shape[2])", "h=x.shape[2]).transpose(2, 3)"),
    "block without the residual": (blocks, "x + self.gain * rearrange", "self.gain * rearrange"),
    "no attention in the block": (blocks, "output, _ = self.attention(places)", "output = places"),
    "wide convolution": (blocks, "round(4 * n_channels / 18)", "n_channels"),
    "divergence with the wrong sign": (latent, "- 1 - log_variance", "- 1 + log_variance"),
    "prior forgotten": (latent, "noise**2 + log_variance - vectors**2", "noise**2 + log_variance"),
    "mean of the logarithms": (
        latent,
        "torch.logsumexp(torch.stack(ratios), dim=0) - math.log(n_draws)",
        "torch.stack(ratios).mean(0)",
    ),
    "levels drawn evenly": (latent, "chances.flatten(0, 2)", "chances.flatten(0, 2) ** 0"),
    "means ignored": (judging, "gap @ gap + ", ""),
    "own point as neighbour": (judging, "axis=1)[:, k]", "axis=1)[:, k - 1]"),
    "precision for recall": (
        judging,
        "coverage(real, drawn, k=k), coverage(drawn, real, k=k)",
        "coverage(drawn, real, k=k), coverage(real, drawn, k=k)",
    ),
    "the farthest": (judging, "dim=(1, 2)).min()", "dim=(1, 2)).max()"),
    "adversaries on one side": (adversarial, "wish = -judge(fake)", "wish = judge(fake)"),
    "projections not normalised": (adversarial, "nn.Linear | nn.Conv2d):", "nn.Conv2d):"),
}


def broken(name):
    module, correct, wrong = BROKEN[name]
    api = right()
    vars(api).update(vars(mutant(module, correct, wrong)))
    return api


def checked_by(name):
    return BROKEN[name][0].__name__.rpartition(".")[2]


ZOOS = {
    module: Zoo(checks, broken, [name for name in BROKEN if checked_by(name) == module])
    for module, checks in CHECKS.items()
}


@pytest.mark.parametrize(
    "check", [*itertools.chain(*CHECKS.values())], ids=lambda check: check.__name__
)
def test_right(check):
    check(right())


@pytest.mark.parametrize("name", BROKEN)
def test_broken_versions_are_caught(name):
    assert ZOOS[checked_by(name)].catches(name)


@pytest.mark.parametrize("module", CHECKS)
def test_no_check_is_idle(module):
    assert ZOOS[module].idle() == []


# --- training, texts, errors -----------------------------------------------------------------


def test_training_reaches_the_queries_only_where_weights_may_differ():
    torch.manual_seed(0)
    fresh = pixels.PixelTransformer()
    for name, moved in (("Transformer", True), ("equal weights, trained so", False)):
        model, _ = experiment.fit(0, name, steps=2)
        before, after = (one.model.layers[0].attention.query.weight for one in (fresh, model))
        assert bool((before - after).abs().max() > 1e-4) is moved


def test_a_seed_decides_everything():
    fits = {
        "PixelCNN": lambda seed: experiment.fit(seed, "PixelCNN", steps=2)[1].losses,
        "VAE": lambda seed: with_blocks.fit_vae(seed, "attention", steps=2)[1].losses,
    }
    for fit in fits.values():
        assert fit(0) == fit(0)
        assert fit(0) != fit(1)


def test_settings_are_chosen_by_the_validation_part_alone():
    parts = data.load_parts()
    _, setting = experiment.choose(
        lambda smoothing: baselines.independent(
            parts["validation"].levels, parts["validation"].labels, smoothing=smoothing
        ),
        [30.0, 0.01, 3.0],
        parts["validation"],
    )
    assert setting == 0.01  # the validation part describes itself best without smoothing


def test_pictures_survive_as_text():
    image = data.load_parts()["test"].images[3]
    assert torch.equal(with_blocks.from_text(with_blocks.as_text(image)), image)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.levels_of(torch.full((1, 2, 2), 1.5)), "ink from 0 to 1; got 1.5 to 1.5"),
        (lambda: pixels.PixelCNN()(some_levels()[0]), r"shape \(n, height, width\); got \(8, 8\)"),
        (lambda: pixels.PixelTransformer()(some_levels() + 1), "from 0 to 3; got 1 to 4"),
        (lambda: blocks.block("fourier", 8), "kind must be one of .*'fourier'"),
        (
            lambda: latent.importance_bound(
                latent.VariationalAutoencoder("attention"), some_levels(), n_draws=0, seed=0
            ),
            "n_draws must be at least 1; got 0",
        ),
        (lambda: experiment.fit(0, "diffusion"), "name must be one of .*'diffusion'"),
        (lambda: corners.fit_corners(0, "diffusion"), "name must be one of .*'diffusion'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
