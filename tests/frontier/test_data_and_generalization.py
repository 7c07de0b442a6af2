"""Tasks, models and measures of the chapter on data and generalisation: what they promise."""

import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import nn
from torch.nn import functional as F

from attn_tutorial import attention
from attn_tutorial.applications.digits import Digits, load_parts
from attn_tutorial.applications.image_classification.models import patches_of
from attn_tutorial.applications.medicine.models import FeatureTransformer
from attn_tutorial.attribution import recording
from attn_tutorial.frontier.data_and_generalization import (
    __main__ as command,
)
from attn_tutorial.frontier.data_and_generalization import (
    learning,
    lengths,
    noise,
    overfitting,
    tasks,
    transfer,
)
from attn_tutorial.parameter_kinds.data import Example
from attn_tutorial.training import evaluating, warmed_up_rate
from package.conformance import generated
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {
    "tasks": tasks,
    "lengths": lengths,
    "learning": learning,
    "overfitting": overfitting,
    "noise": noise,
    "transfer": transfer,
}
SEED = st.integers(0, 2**16)
CHECKS = {name: [] for name in MODULES}


def check(module):
    """Register a check of one of the modules."""

    def register(function):
        CHECKS[module].append(function)
        return function

    return register


# --- tasks -------------------------------------------------------------------------------------


@check("tasks")
def examples_by_hand(api):
    def rows(task, *questions):
        return api.tasks.write(task, [np.array(question) for question in questions]).tolist()

    assert rows("copy", [2, 0]) == [[1, 6, 4, 2, 6, 4, 3]]
    assert rows("sort", [3, 0, 3, 1]) == [[1, 7, 4, 7, 5, 2, 4, 5, 7, 7, 3]]
    assert rows("count", [1, 0, 1], [0]) == [[1, 5, 4, 5, 2, 5, 5, 3], [1, 4, 2, 3, 0, 0, 0, 0]]
    assert rows("parity", [1, 1, 1]) == [[1, 5, 5, 5, 2, 5, 3]]
    assert rows("parity", [1, 1]) == [[1, 5, 5, 2, 4, 3]]


@check("tasks")
@generated(12, task=st.sampled_from(tasks.TASKS), least=st.integers(1, 5), seed=SEED)
def drawn_examples_are_right(api, task, least, seed):
    tokens = api.tasks.draw(task, 30, lengths=(least, least + 2), seed=seed)
    assert torch.equal(tokens, api.tasks.draw(task, 30, lengths=(least, least + 2), seed=seed))
    sizes = set()
    for row in tokens.tolist():
        while row[-1] == tasks.PAD:
            row.pop()
        assert row[0] == tasks.BEGIN
        assert row[-1] == tasks.END
        middle = row.index(tasks.EQUALS)
        question = [token - tasks.ZERO for token in row[1:middle]]
        found = [token - tasks.ZERO for token in row[middle + 1 : -1]]
        assert set(question) <= set(range(tasks.N_SYMBOLS[task]))
        wanted = {
            "copy": question,
            "sort": sorted(question),
            "count": [1] * sum(question),
            "parity": [sum(question) % 2],
        }[task]
        assert found == wanted
        sizes.add(len(question))
    assert sizes == {least, least + 1, least + 2}


class Writer(nn.Module):
    """Knows the answers, but for some beginnings, behind which it goes wrong."""

    def __init__(self, tokens, every):
        super().__init__()
        self.tokens, self.every = tokens, every

    def forward(self, tokens):
        following = torch.full_like(tokens, tasks.BEGIN)
        for i, row in enumerate(tokens.tolist()):
            for n in range(1, len(row) + 1):
                said = self.following(row[:n])
                following[i, n - 1] = said
        return F.one_hot(following, tasks.N_TOKENS).float()

    def following(self, row):
        for known in self.tokens.tolist():
            if known[: len(row)] == row and len(known) > len(row):
                wrong = sum((3 * i + 1) * token for i, token in enumerate(row)) % self.every == 0
                return tasks.BEGIN if wrong else known[len(row)]
        return tasks.BEGIN


@check("tasks")
@generated(10, task=st.sampled_from(tasks.TASKS), every=st.sampled_from([5, 11, 40]), seed=SEED)
def one_pass_judges_as_greedy_writing(api, task, every, seed):
    tokens = tasks.draw(task, 8, lengths=(1, 4), seed=seed)
    model = Writer(tokens, every)
    judged = api.tasks.exactly_right(model, tokens)
    for row, right in zip(tokens.tolist(), judged.tolist(), strict=True):
        wanted = [token for token in row if token != tasks.PAD]
        written = row[: row.index(tasks.EQUALS) + 1]
        while len(written) < len(wanted):
            written.append(model.following(written))
        assert right == (written == wanted)


@check("tasks")
@generated(15, task=st.sampled_from(tasks.TASKS), seed=SEED)
def the_loss_counts_the_answer_only(api, task, seed):
    tokens = tasks.draw(task, 5, lengths=(1, 4), seed=seed)
    torch.manual_seed(seed)
    table = torch.randn(tasks.N_TOKENS, tasks.N_TOKENS)
    found = api.tasks.answer_loss(lambda rows: table[rows], tokens)
    losses = []
    for row in tokens.tolist():
        begin, end = row.index(tasks.EQUALS) + 1, row.index(tasks.END)
        losses += [-table[row[i - 1]].log_softmax(0)[row[i]].item() for i in range(begin, end + 1)]
    assert math.isclose(found.item(), np.mean(losses), rel_tol=1e-4)
    padded = F.pad(tokens, (0, 3))
    assert torch.isclose(api.tasks.answer_loss(lambda rows: table[rows], padded), found)


@check("tasks")
def tasks_that_are_none_are_refused(api):
    with pytest.raises(ValueError, match="task must be one of copy, sort, count, parity; got 'x'"):
        api.tasks.answer("x", np.array([0]))
    for n, wrong in ((3, (0, 4)), (3, (4, 3)), (0, (1, 2))):
        with pytest.raises(ValueError, match=r"1 or more, the least length first; got \d and"):
            api.tasks.draw("copy", n, lengths=wrong, seed=0)


# --- the model with six schemes ----------------------------------------------------------------


@check("lengths")
@generated(18, scheme=st.sampled_from(lengths.SCHEMES), n=st.integers(1, 20), seed=SEED)
def a_layer_is_attention_forward_and_backward(api, scheme, n, seed):
    torch.manual_seed(seed)
    layer = api.lengths.PositionedLayer(scheme)
    if scheme == "relative":
        nn.init.normal_(layer.by_distance)
    x = torch.randn(2, n, lengths.D_MODEL, requires_grad=True)
    query, key, value = layer.queries_keys_values(x)
    mask = torch.full((lengths.N_HEADS, n, n), -math.inf)
    for head in range(lengths.N_HEADS):  # each score's addend, written out
        for i in range(n):
            for j in range(i + 1):
                mask[head, i, j] = {
                    "relative": lambda h=head, d=i - j: layer.by_distance[h, min(d, 12)].item(),
                    "ALiBi": lambda h=head, d=i - j: -d * 2.0 ** (-8 * (h + 1) / lengths.N_HEADS),
                }.get(scheme, lambda: 0.0)()
    heads, _ = attention(query, key, value, mask=mask)
    wanted = x + layer.combine(heads.transpose(1, 2).flatten(2))
    wanted = wanted + layer.feed_forward(layer.before_feed_forward(wanted))
    found = layer(x)
    assert torch.allclose(found, wanted, atol=1e-5)
    one, other = (torch.autograd.grad(out.square().sum(), x)[0] for out in (found, wanted))
    assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)


@check("lengths")
@generated(18, scheme=st.sampled_from(lengths.SCHEMES), seed=SEED)
def a_model_does_not_see_what_follows_and_sees_the_order(api, scheme, seed):
    torch.manual_seed(seed)
    model = api.lengths.PositionedModel(scheme).double()
    with torch.no_grad():
        for parameter in model.parameters():  # differences as large as after training
            parameter.mul_(1.5)
        tokens = torch.randint(4, tasks.N_TOKENS, (1, 9))
        tokens[0, :4] = torch.tensor([4, 5, 6, 7])
        changed = tokens.clone()
        changed[0, 6:] = 4 + (tokens[0, 6:] + 1) % 8
        assert torch.allclose(model(tokens)[:, :6], model(changed)[:, :6])
        assert not torch.allclose(model(tokens)[:, 6:], model(changed)[:, 6:])
        turned = tokens[:, [1, 0, 2, 3, 4, 5, 6, 7, 8]]
        difference = (model(tokens)[0, 8] - model(turned)[0, 8]).abs().max()
        assert difference > 1e-6  # the second layer notices even without positions


@check("lengths")
def one_layer_without_positions_is_blind_and_others_are_not(api):
    torch.manual_seed(0)
    x = torch.randn(1, 9, lengths.D_MODEL)
    turned = x[:, [1, 0, 2, 3, 4, 5, 6, 7, 8]]
    for scheme in lengths.SCHEMES:
        layer = api.lengths.PositionedLayer(scheme)
        if scheme == "relative":
            nn.init.normal_(layer.by_distance)
        blind = scheme in ("none", "sinusoidal", "learned")
        with torch.no_grad():
            assert torch.allclose(layer(x)[:, -1], layer(turned)[:, -1], atol=1e-6) == blind


@check("lengths")
def models_side_by_side_are_trained_as_if_alone(api):
    for scheme in ("learned", "relative"):
        models, losses = api.lengths.fit("count", scheme, (3, 4), trained=(2, 4), steps=3)
        assert losses.shape == (2, 3)
        for seed, model, found in zip((3, 4), models, losses, strict=True):
            torch.manual_seed(seed)
            alone = lengths.PositionedModel(scheme)
            optimizer = torch.optim.AdamW(alone.parameters(), weight_decay=0.0)
            tokens = tasks.draw("count", 3 * lengths.BATCH, lengths=(2, 4), seed=seed)
            for step, batch in enumerate(tokens.split(lengths.BATCH)):
                loss = tasks.answer_loss(alone, batch)
                assert math.isclose(loss.item(), found[step], rel_tol=1e-4)
                optimizer.zero_grad()
                loss.backward()
                rate = warmed_up_rate(step + 1, peak=lengths.PEAK, warm_up=lengths.WARM_UP)
                optimizer.param_groups[0]["lr"] = rate
                optimizer.step()
            with torch.no_grad():
                assert torch.allclose(alone(tokens[:5]), model(tokens[:5]), atol=1e-3)
    shares = api.lengths.by_length(models[0], "count")
    assert len(shares) == len(lengths.LENGTHS)
    assert all(0 <= share <= 1 for share in shares)
    _, losses = api.lengths.fit("count", "none", (3,), steps=3, stop=2)
    assert losses.shape == (1, 2)


@check("lengths")
def schemes_and_rows_that_are_none_are_refused(api):
    with pytest.raises(ValueError, match=r"scheme must be one of none, .* got 'x'"):
        api.lengths.PositionedModel("x")
    model = api.lengths.PositionedModel("learned")
    assert model(torch.ones(1, lengths.LONGEST, dtype=torch.long)).shape[1] == lengths.LONGEST
    with pytest.raises(ValueError, match="at most 128 in a row; got 129"):
        model(torch.ones(1, lengths.LONGEST + 1, dtype=torch.long))


# --- curves ------------------------------------------------------------------------------------


@check("learning")
@generated(
    30,
    power=st.floats(-1, 1),
    factor=st.floats(0.01, 0.9),
    ratio=st.floats(0.1, 0.9),
    gap=st.floats(0.05, 0.5),
)
def slopes_and_crossings_of_power_laws(api, power, factor, ratio, gap):
    sizes = [10, 30, 100, 300]
    ours = factor * np.array(sizes) ** power
    assert math.isclose(api.learning.slope(sizes, ours), power, abs_tol=1e-9)
    where = 10 * 30**ratio  # from 14 to 213
    theirs = ours * (np.array(sizes) / where) ** gap
    for pair in ((ours, theirs), (theirs, ours)):
        (found,) = api.learning.crossings(sizes, *pair)
        assert math.isclose(found, where, rel_tol=1e-6)
    assert api.learning.crossings(sizes, ours, 0.9 * ours) == []


@check("learning")
def points_without_a_slope_are_refused(api):
    for sizes, errors in (([10], [0.1]), ([10, 20], [0.1, 0.0]), ([10, 20], [0.1])):
        with pytest.raises(ValueError, match="two or more positive numbers"):
            api.learning.slope(sizes, np.array(errors))


@check("learning")
def more_examples_include_fewer(api):
    examples = [Example(f"number {i}", "integer", "numpy") for i in range(20)]
    few, many = (api.learning.some_examples(examples, n, 3) for n in (5, 12))
    assert many[:5] == few
    assert len(set(many)) == 12
    assert api.learning.some_examples(examples, 5, 4) != few
    for n in (0, 21):
        with pytest.raises(ValueError, match=f"n must be from 1 to 20; got {n}"):
            api.learning.some_examples(examples, n, 3)


def easy(n, library="numpy"):
    words = {"integer": "the number of", "boolean": "whether to use", "string": "the name of"}
    kinds = list(words)
    return [Example(f"{words[kinds[i % 3]]} thing {i}", kinds[i % 3], library) for i in range(n)]


@check("learning")
def all_readers_learn_what_is_easy(api):
    training, held_out = easy(48), easy(60)[48:]
    for name in learning.TEXT_NETWORKS:
        model, vocabulary = api.learning.fit_texts(name, training, held_out, 0, steps=30)
        assert api.learning.accuracy_on(model, vocabulary, held_out) > 0.6
        assert api.learning.accuracy_on(model, vocabulary, [Example("name", "array", "")]) == 0
    counts = api.learning.fit_counts(training, held_out)
    assert api.learning.counts_accuracy(counts, held_out) == 1
    with pytest.raises(ValueError, match="name must be one of learned query, mean, GRU; got 'x'"):
        api.learning.build("x", 10, 0)


# --- overfitting -------------------------------------------------------------------------------


@check("overfitting")
@generated(15, n=st.integers(1, 60), share=st.floats(0, 1), seed=SEED)
def the_share_of_wrong_labels_is_exact(api, n, share, seed):
    rng = np.random.default_rng(seed)
    part = Digits(torch.rand(n, 8, 8), torch.from_numpy(rng.integers(10, size=n)))
    before = part.labels.clone()
    found = api.overfitting.with_wrong_labels(part, share, seed)
    assert torch.equal(found.images, part.images)
    assert torch.equal(part.labels, before)
    assert (found.labels != before).sum() == round(share * n)
    assert ((found.labels >= 0) & (found.labels < 10)).all()


@check("overfitting")
@generated(8, n_heads=st.integers(1, 12), seed=SEED)
def a_random_head_is_attention_over_patches(api, n_heads, seed):
    images = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(seed))
    found = api.overfitting.random_heads(images, n_heads, seed)
    more = api.overfitting.random_heads(images, n_heads + 3, seed)
    assert torch.allclose(more[:, :n_heads], found)
    drawn = np.random.default_rng(seed).normal(size=(n_heads, 2, 12))
    for image, numbers in zip(images, found.tolist(), strict=True):
        spots = overfitting.places().numpy()
        x = np.concatenate([4 * patches_of(image[None])[0].numpy(), spots], axis=1)  # (16, 12)
        for (query, reader), number in zip(drawn, numbers, strict=True):
            weights = np.exp(2 * x @ query / math.sqrt(12))
            wanted = max(0.0, (weights / weights.sum()) @ x @ reader)
            assert math.isclose(number, wanted, rel_tol=1e-5, abs_tol=1e-6)


@check("overfitting")
def least_squares_are_those_of_scikit_learn(api):
    parts = load_parts()
    training = Digits(*(tensor[:60] for tensor in parts["training"]))
    test = Digits(*(tensor[:100] for tensor in parts["test"]))
    shuffled = Digits(training.images, training.labels.roll(1))
    # With more heads than pictures any labels are learned by heart.
    assert api.overfitting.least_squares_mistakes(shuffled, shuffled, 200, 0) == 0
    assert api.overfitting.least_squares_mistakes(shuffled, shuffled, 20, 0) > 0.3
    for n_heads in (30, 150):
        model = Ridge(alpha=50.0, fit_intercept=False)
        rows, others = (overfitting.random_heads(p.images, n_heads, 1) for p in (training, test))
        model.fit(rows.numpy(), F.one_hot(training.labels, 10).numpy() - 0.1)
        wanted = (model.predict(others.numpy()).argmax(axis=1) != test.labels.numpy()).mean()
        found = api.overfitting.least_squares_mistakes(training, test, n_heads, 1, penalty=50.0)
        assert abs(found - wanted) < 0.011


@check("overfitting")
def a_run_is_watched(api):
    run = api.overfitting.watch("CNN", 8, 0, steps=80)
    assert run["steps"] == [40, 80]
    assert {len(numbers) for numbers in run.values()} == {2}
    assert all(0 <= share <= 1 for name in ("training", "test") for share in run[name])
    assert run["test"][1] < 0.85
    # Without wrong labels the network gives more of its training labels by then.
    clean = api.overfitting.watch("CNN", 8, 0, overfitting.REMEDIES["right labels"], steps=80)
    assert run["training"][1] > clean["training"][1] + 0.05
    made = {"validation loss": [3.0, 1.0, 2.0], "test": [0.5, 0.4, 0.3]}
    assert api.overfitting.stopped(made) == 0.4


@check("overfitting")
def what_is_no_share_penalty_or_kind_is_refused(api):
    part = Digits(*(tensor[:5] for tensor in load_parts()["test"]))
    with pytest.raises(ValueError, match=r"share must be from 0 to 1; got 1.5"):
        api.overfitting.with_wrong_labels(part, 1.5, 0)
    with pytest.raises(ValueError, match=r"penalty must not be negative; got -1"):
        api.overfitting.least_squares_mistakes(part, part, 3, 0, penalty=-1.0)
    with pytest.raises(ValueError, match="kind must be one of Vision Transformer, CNN; got 'x'"):
        api.overfitting.build("x", 8, 0.0, 0)


# --- noise -------------------------------------------------------------------------------------


@check("noise")
@generated(8, n_columns=st.integers(1, 9), batch=st.integers(1, 4), seed=SEED)
def reading_the_class_token_only_changes_nothing(api, n_columns, batch, seed):
    torch.manual_seed(seed)
    reader = api.noise.ColumnReader(n_columns)
    whole = FeatureTransformer(n_columns, d_model=noise.D_MODEL, n_heads=noise.N_HEADS, n_layers=1)
    whole.load_state_dict(reader.state_dict())
    x = torch.randn(batch, n_columns, requires_grad=True)
    with torch.no_grad():
        assert reader.eval()(x).shape == (batch,)
    outputs = reader(x), whole.eval()(x)
    assert torch.allclose(*outputs, atol=1e-5)
    one, other = (torch.autograd.grad(output.sum(), x)[0] for output in outputs)
    assert torch.allclose(one, other, atol=1e-5)


@check("noise")
def the_weight_on_noise_is_that_of_the_layer(api):
    table = tables = noise.tables(4, 0)["test"]
    table = noise.Table(tables.columns[:20], tables.labels[:20])
    torch.manual_seed(0)
    reader = noise.ColumnReader(34)
    with torch.no_grad():
        reader.weight.mul_(5)
    whole = FeatureTransformer(34, d_model=noise.D_MODEL, n_heads=noise.N_HEADS, n_layers=1)
    whole.load_state_dict(reader.state_dict())
    with evaluating(whole), recording(whole) as record:
        whole(noise.as_tensors(table)[0])
    weights = record.weights[0][:, :, 0, 1:].mean(dim=(0, 1))  # (34,)
    wanted = (weights[30:].sum() / weights.sum()).item()
    assert math.isclose(api.noise.weight_on_noise(reader, table), wanted, rel_tol=1e-4)


@check("noise")
def noise_stands_behind_and_the_test_part_scales_nothing(api):
    few, many = api.noise.tables(3, 1), api.noise.tables(6, 1)
    for name, n in (("training", 100), ("validation", 100), ("test", 369)):
        assert few[name].columns.shape == (n, 33)
        assert many[name].columns.shape == (n, 36)
        assert np.allclose(many[name].columns[:, :33], few[name].columns)
    own = few["training"].columns
    assert np.allclose(own.mean(axis=0), 0)
    assert np.allclose(own.std(axis=0), 1)
    assert np.abs(few["test"].columns.mean(axis=0)).max() > 0.01
    together = np.concatenate([few[name].columns for name in few])
    labels = np.concatenate([few[name].labels for name in few])
    related = np.abs(np.corrcoef(together.T, labels)[-1, :-1])
    assert related[:30].mean() > 0.4
    assert related[30:].max() < 0.15


@check("noise")
def the_penalties_are_on_squares_and_on_sizes(api):
    parts = noise.tables(40, 0)
    squares, sizes = (api.noise.fit_linear(name, parts) for name in noise.LINEAR)
    assert (squares.coef_ == 0).sum() == 0
    assert (sizes.coef_ == 0).sum() > 20
    for model in (squares, sizes):
        assert api.noise.accuracy(model, parts["test"]) > 0.9
    with pytest.raises(ValueError, match=r"name must be one of logistic .* got 'x'"):
        api.noise.fit_linear("x", parts)


@check("noise")
def attention_over_columns_learns(api):
    parts = noise.tables(5, 0)
    model = api.noise.fit_attention(parts, 0, steps=20)
    assert api.noise.accuracy(model, parts["test"]) > 0.85


# --- transfer ----------------------------------------------------------------------------------


@check("transfer")
def a_text_of_two_libraries_is_left_out(api):
    examples = [
        Example("The axis.", "integer", "numpy"),
        Example("The axis.", "integer", "pandas"),
        Example("The name.", "string", "numpy"),
        Example("the  name.", "string", "numpy"),
        Example("A value.", "float", "scipy"),
        Example("A value.", "integer", "scipy"),
        Example("A flag.", "boolean", "scipy"),
    ]
    found = api.transfer.by_library(examples)
    assert set(found) == set(transfer.LIBRARIES)
    assert found["numpy"] == [examples[2]]
    assert found["scipy"] == [examples[6]]
    assert found["pandas"] == []


BROKEN = {
    "every answer is right": (
        "learning",
        "return (guesses == part.kinds).double().mean().item()",
        "return (guesses >= 0).double().mean().item()",
    ),
    "learns the opposite": (
        "noise",
        "(model(as_tensors(table)[0]) > 0)",
        "(model(as_tensors(table)[0]) < 0)",
    ),
    "the longest are never drawn": (
        "tasks",
        "rng.integers(least, greatest + 1, size=n)",
        "rng.integers(least, greatest, size=n, endpoint=least == greatest)",
    ),
    "any right token will do": ("tasks", "right.all(dim=1)", "right.any(dim=1)"),
    "sorted downwards": ("tasks", "return np.sort(question)", "return -np.sort(-question)"),
    "counts the zeros": ("tasks", "np.ones(question.sum()", "np.ones((1 - question).sum()"),
    "parity of the length": ("tasks", "question.sum(keepdims=True) % 2", "question[:1] * 0"),
    "the end is missing": ("tasks", "*(answer(task, question) + ZERO), END]", "*question]"),
    "the loss counts the question": (
        "tasks",
        "return behind & (tokens != EQUALS) & (tokens != PAD)",
        "return (tokens != EQUALS) & (tokens != PAD)",
    ),
    "judged one token late": (
        "tasks",
        "(guesses == tokens[:, 1:])",
        "(guesses.roll(1, 1) == tokens[:, 1:])",
    ),
    "no task is refused": ("tasks", "if task not in TASKS:", "if False:"),
    "no lengths are refused": ("tasks", "if not 1 <= least <= greatest or n < 1:", "if False:"),
    "slope of the errors themselves": ("learning", "np.log(errors), 1)", "errors, 1)"),
    "every size is positive": ("learning", "or min(*sizes, *errors) <= 0", ""),
    "crossings on a linear scale": (
        "learning",
        "found.append(float(np.exp(places[i] + share",
        "found.append(float(np.exp(places[i] + 0 * share",
    ),
    "another draw for every n": (
        "learning",
        "np.random.default_rng(seed).permutation(len(examples))[:n]",
        "np.random.default_rng((seed, n)).permutation(len(examples))[:n]",
    ),
    "the first column is read": (
        "noise",
        "entered[:, :1], entered)\n        x =",
        "entered[:, 1:2], entered)\n        x =",
    ),
    "the class token is not read": (
        "noise",
        "got, _ = layer.attention(entered[:, :1], entered)",
        "got, _ = layer.attention(entered[:, :1], entered[:, 1:])",
    ),
    "the weight on the class token counts": ("noise", "[1:]  # (n_columns,)", "  # (n_columns,)"),
    "scaled by all rows": ("noise", "own = columns[:N_TRAINING]", "own = columns"),
    "noise in front": (
        "noise",
        "np.concatenate([data.data, noise.T], axis=1)",
        "np.concatenate([noise.T, data.data], axis=1)",
    ),
    "one penalty for both": ("noise", "ratio = LINEAR.index(name)", "ratio = 0"),
    "texts of several libraries": ("transfer", "if len(homes[words]) == 1:", "if True:"),
    "kinds do not count": (
        "transfer",
        "homes[words].add((example.library, example.kind))",
        "homes[words].add((example.library, ''))",
    ),
    "all trained on the first batch": (
        "lengths",
        "parameters, buffers, batches[:, step])",
        "parameters, buffers, batches[:, 0])",
    ),
    "all get the parameters of the first": (
        "lengths",
        "parameter.copy_(parameters[name][i])",
        "parameter.copy_(parameters[name][0])",
    ),
    "the future is seen": (
        "lengths",
        "causal = torch.from_numpy(causal_mask(n, n))",
        "causal = torch.ones(n, n, dtype=torch.bool)",
    ),
    "rotary turns nothing": (
        "lengths",
        "query, key = rotate(query), rotate(key)",
        "query, key = query, key",
    ),
    "values are turned too": (
        "lengths",
        "query, key = rotate(query), rotate(key)",
        "query, key = rotate(query), key",
    ),
    "the distance turned round": (
        "lengths",
        "-relative_positions(n, n)",
        "relative_positions(n, n)",
    ),
    "one distance less": ("lengths", "0, FARTHEST))", "0, FARTHEST - 1))"),
    "a price without its sign": (
        "lengths",
        "torch.from_numpy(alibi_bias(N_HEADS, n, n)).float()",
        "-torch.from_numpy(alibi_bias(N_HEADS, n, n)).float()",
    ),
    "heads mixed up": ("lengths", "heads.transpose(1, 2).flatten(2)", "heads.reshape(x.shape)"),
    "positions are not added": ("lengths", "x = x + self.table[:n]", "x = x + self.table[:1]"),
    "a table without end": ("lengths", "if n > LONGEST:", "if n > 2 * LONGEST:"),
    "any scheme": ("lengths", "if scheme not in SCHEMES:", "if False:"),
    "no label is wrong": (
        "overfitting",
        "training = with_wrong_labels(drawn, remedy.wrong, seed)",
        "training = drawn",
    ),
    "stops at the best test score": (
        "overfitting",
        'run["test"][int(np.argmin(run["validation loss"]))]',
        'min(run["test"])',
    ),
    "fits almost nothing": ("overfitting", "rtol=1e-10", "rtol=0.5"),
    "the penalty is forgotten": ("overfitting", "+ penalty * torch.eye(", "+ 1e-6 * torch.eye("),
    "any penalty": ("overfitting", "if not penalty >= 0:", "if False:"),
    "heads without the softmax": (
        "overfitting",
        "got, _ = attention(2 * query, x, x)",
        "got = (query @ x.transpose(1, 2) / 16) @ x",
    ),
    "a head has no positive part": ("overfitting", "sum(dim=-1).relu()", "sum(dim=-1)"),
    "a wrong label may be right": ("overfitting", "rng.integers(1, N_CLASSES", "rng.integers(0, 2"),
    "labels changed in place": (
        "overfitting",
        "labels = part.labels.clone()",
        "labels = part.labels",
    ),
}


def zoo(module):
    """A mistake is looked for by the checks of its own module: that is most of the time saved."""
    broken = {name: mistake for name, mistake in BROKEN.items() if mistake[0] == module}
    return Zoo(CHECKS[module], rewritten(MODULES, broken), broken)


class TestTasks(ZooTests):
    zoo = zoo("tasks")


class TestLengths(ZooTests):
    zoo = zoo("lengths")


class TestLearning(ZooTests):
    zoo = zoo("learning")


class TestOverfitting(ZooTests):
    zoo = zoo("overfitting")


class TestNoise(ZooTests):
    zoo = zoo("noise")


class TestTransfer(ZooTests):
    zoo = zoo("transfer")


def test_the_command_measures_parts_and_keeps_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "RESULTS", tmp_path / "new" / "results.json")
    monkeypatch.setattr(command, "PARTS", {"one": lambda: {"a": [1 / 3]}, "two": lambda: 2.0})
    command.main(["one"])
    command.main(["two"])
    text = command.RESULTS.read_text(encoding="utf8")
    assert '"one": {"a": [0.3333]}' in text
    assert '"two": 2.0' in text
    with pytest.raises(SystemExit):
        command.main(["three"])
    assert "there is no part three; there are one, two" in capsys.readouterr().err
