"""Questions about scenes, and one space for pictures and words: each broken version is caught."""

import copy
import math

import numpy as np
import pytest
import torch

from attn_tutorial.applications.digits import load_parts
from attn_tutorial.applications.pictures_and_words import alignment as word_alignment
from attn_tutorial.applications.pictures_and_words import data as scene_questions
from attn_tutorial.applications.pictures_and_words import experiment as pictures_and_words
from attn_tutorial.applications.pictures_and_words import models as question_models
from attn_tutorial.attribution import recording
from package.zoo import Zoo, ZooTests, rewritten

DIGITS = load_parts()
WAYS = scene_questions.layouts()
MODULES = {
    "data": scene_questions,
    "models": question_models,
    "fitting": pictures_and_words,
    "words": word_alignment,
}
NUMBERS = list(scene_questions.NUMBERS)

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def sharp(model):
    """The same with larger queries, so that its attention is far from equal."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("query.weight"):
                parameter.mul_(4)
    return model.eval()


def words_ask(api):
    torch.manual_seed(0)
    return sharp(api.models.CrossAttention(api.models.Eye()))


def towers(api):
    torch.manual_seed(0)
    return sharp(api.words.Towers())


def solve(text, grid):
    """The answer by looking at the scene, from the words alone."""
    words, place = text.split(), {value: divmod(i, 3) for i, value in enumerate(grid)}
    rows, columns = ("top", "middle", "bottom"), ("left", "middle", "right")
    steps = {"above": (-1, 0), "below": (1, 0), "left": (0, -1), "right": (0, 1)}
    value = NUMBERS.index(words[-1]) if words[-1] in NUMBERS else None
    if words[0] in ("is", "do", "can"):
        return "yes" if value in grid else "no"
    if "at" in words:
        return NUMBERS[grid[3 * rows.index(words[-2]) + columns.index(words[-1])]]
    if "even" in words or "odd" in words:
        return NUMBERS[sum(v >= 0 and v % 2 == ("odd" in words) for v in grid)]
    row, column = place[value]
    if "row" in words or "high" in words:
        return rows[row]
    if "column" in words or "far" in words:
        return columns[column]
    ((down, right),) = (steps[word] for word in words if word in steps)
    return NUMBERS[grid[3 * (row + down) + column + right]]


def relation(text):
    """What is asked of the value that a question names."""
    signs = {"is there": "exists", "see": "exists", "find": "exists"}
    signs |= {"row": "row", "high": "row", "column": "column", "far": "column"}
    signs |= {"left": "left of", "right": "right of", "above": "above", "below": "below"}
    return next(meaning for sign, meaning in signs.items() if sign in text)


def texts(part):
    return [
        " ".join(scene_questions.VOCABULARY[word] for word in row if word > scene_questions.ASK)
        for row in part.words.tolist()
    ]


@check
def answers_are_those_of_the_scenes(api):
    part = api.data.draw(DIGITS["test"], WAYS["test"], 300, seed=0)
    for text, grid, answer in zip(
        texts(part), part.grids.tolist(), part.answers.tolist(), strict=True
    ):
        assert scene_questions.ANSWERS[answer] == solve(text, grid), text
    assert len(part.kinds.unique()) == 6


@check
def no_question_of_the_test_of_combinations_is_ever_trained(api):
    for new in (False, True):
        part = api.data.draw(DIGITS["training"], WAYS["training"], 300, seed=1, new=new)
        named = [text for text in texts(part) if text.split()[-1] in NUMBERS]
        assert len(named) > 100
        for text in named:
            kept = scene_questions.NEW[relation(text)]
            assert (NUMBERS.index(text.split()[-1]) in kept) == new


@check
def scenes_show_their_digits(api):
    part = api.data.draw(DIGITS["test"], WAYS["test"], 12, seed=2)
    for image, grid, sources in zip(part.images, part.grids, part.sources, strict=True):
        for cell in range(9):
            top, left = 8 * (cell // 3), 8 * (cell % 3)
            shown = image[top : top + 8, left : left + 8]
            if sources[cell] == -1:
                assert grid[cell] == -1
                assert shown.sum() == 0
            else:
                assert DIGITS["test"].labels[sources[cell]] == grid[cell]
                assert torch.equal(shown, DIGITS["test"].images[sources[cell]])


@check
def cells_that_are_named_and_that_answer(api):
    part = api.data.draw(DIGITS["test"], WAYS["test"], 200, seed=3)
    for i, text in enumerate(texts(part)):
        last = text.split()[-1]
        if last in NUMBERS and part.named[i] >= 0:
            assert part.grids[i, part.named[i]] == NUMBERS.index(last)
        if part.answered[i] >= 0:
            answer = scene_questions.ANSWERS[part.answers[i]]
            assert NUMBERS[part.grids[i, part.answered[i]]] == answer


@check
def padding_does_not_leak(api):
    words = scene_questions.encode(["is there a five", "what is above the two"])  # 4 and 5 words
    images = torch.rand(2, 24, 24, generator=torch.manual_seed(0))
    torch.manual_seed(0)
    for model in (words_ask(api), api.models.FiLM(api.models.Eye()).eval()):
        with torch.no_grad():
            torch.testing.assert_close(model(images, words), model(images, words[:, :6]))
            assert (model(images, words) - model(images, words.flip(0))).abs().max() > 1e-3


@check
def each_cell_is_seen_in_its_place(api):
    model = words_ask(api)
    images = torch.zeros(2, 24, 24)
    images[1, 8:16, 16:24] = DIGITS["test"].images[0]  # the middle row, at the right
    with torch.no_grad():
        moved = (model.cells[0](images).diff(dim=0)[0] != 0).any(dim=-1)
    assert moved.tolist() == [cell == 5 for cell in range(9)]


@check
def the_picture_decides(api):
    images = torch.stack([DIGITS["test"].images[i].repeat(3, 3) for i in range(6)])
    words = scene_questions.encode(["what is at the top left"]).repeat(6, 1)
    torch.manual_seed(0)
    for model in (words_ask(api), api.models.FiLM(api.models.Eye()).eval()):
        with torch.no_grad():
            assert model(images, words).std(dim=0).max() > 1e-3


@check
def guessers_are_blind_on_one_eye(api):
    images = torch.rand(2, 24, 24, generator=torch.manual_seed(0))
    words = scene_questions.encode(["is there a five", "count the odd digits"])
    for sees, same in (("question", (images.flip(0), words)), ("picture", (images, words.flip(0)))):
        torch.manual_seed(0)
        model = api.models.Pooling(api.models.Eye(), sees).eval()
        with torch.no_grad():
            torch.testing.assert_close(model(images, words), model(*same))


@check
def film_scales_and_shifts(api):
    torch.manual_seed(0)
    model = api.models.FiLM(api.models.Eye()).eval()
    images = torch.rand(1, 24, 24, generator=torch.manual_seed(0))
    words = scene_questions.encode(["is there a five"])
    with torch.no_grad():
        model.changes.weight.zero_()
        model.changes.bias.zero_()
        plain = model(images, words)
        model.changes.bias[:48] = -1  # no scale, no shift in the first block
        for one, value in ((plain, False), (model(images, words), True)):
            x = model.cells(images).mT.unflatten(2, (3, 3))
            for i in range(2):
                y = model.ones[i](x).relu()
                z = model.norms[i](model.threes[i](y)).relu()
                x = y if value and i == 0 else y + z
            torch.testing.assert_close(one, model.head(x.amax((2, 3))))


@check
def only_the_cross_attention_is_made_equal(api):
    model = words_ask(api)
    part = scene_questions.draw(DIGITS["test"], WAYS["test"], 4, seed=0)
    with api.fitting.equal_cross_weights(model), recording(model) as record, torch.no_grad():
        model(part.images, part.words)
    for name, weights in zip(record.names, record.weights, strict=True):
        equal = torch.allclose(weights[..., 1:2], weights[..., 0:1])
        assert equal == ("cross" in name)


@check
def shares_of_the_weight_by_loops(api):
    model = words_ask(api)
    part = scene_questions.draw(DIGITS["test"], WAYS["test"], 12, seed=0)
    found = api.fitting.attended(model, part)
    sums = {key: [[], []] for key in found}
    for i, text in enumerate(texts(part)):
        if part.kinds[i] != 5:
            continue
        with recording(model) as record, torch.no_grad():
            model(part.images[i : i + 1], part.words[i : i + 1])
        calls = zip(record.names, record.weights, strict=True)
        cross = [weights[0].mean(0) for name, weights in calls if "cross" in name]
        for layer, weights in enumerate(cross):
            for asks, query in {"number word": len(text.split()), "<ask>": 0}.items():
                for key, cell in {"named": part.named[i], "answer": part.answered[i]}.items():
                    sums[f"{asks} to {key}"][layer].append(weights[query, cell].item())
    for key, layers in sums.items():
        np.testing.assert_allclose(found[key], np.mean(layers, axis=1), rtol=1e-4)


@check
def scores_by_hand(api):
    part = scene_questions.draw(DIGITS["test"], WAYS["test"], 60, seed=0)
    parts = dict.fromkeys(("training", "test", "new combinations"), part)
    scores = api.fitting.most_frequent(parts)
    total = 0
    for kind, name in enumerate(scene_questions.KINDS):
        answers = part.answers[part.kinds == kind].tolist()
        hits = max(answers.count(answer) for answer in answers)
        assert scores[name] == pytest.approx(hits / len(answers))
        total += hits
    assert scores["accuracy"] == pytest.approx(total / 60)


@check
def the_contrastive_loss_by_loops(api):
    model = towers(api)
    images, tokens = DIGITS["test"].images[:4], api.words.letters(["zero", "um", "dois", "sei"])
    with torch.no_grad():
        found = api.words.contrastive_loss(model, images, tokens).item()
        scores = (model.pictures(images) @ model.words(tokens).T).double().numpy() / 0.07
    losses = []
    for table in (scores, scores.T):
        for i, row in enumerate(table):
            losses.append(math.log(sum(math.exp(score) for score in row)) - row[i])
    assert found == pytest.approx(np.mean(losses), rel=1e-4)


@check
def letters_that_are_not_there_do_not_leak(api):
    model = towers(api)
    tokens = api.words.letters(["um", "tre"])
    with torch.no_grad():
        torch.testing.assert_close(model.words(tokens), model.words(tokens[:, :3]))
        torch.testing.assert_close(model.words(tokens).norm(dim=-1), torch.ones(2))
        assert (
            model.words(tokens[:, [1, 0, *range(2, 9)]]) - model.words(tokens)
        ).abs().max() > 0.01


@check
def no_word_of_an_unseen_language_is_paired(api):
    images, tokens = api.words.pairs(DIGITS["validation"])
    paired = {tuple(row) for row in tokens.tolist()}
    same = {
        language: [
            word
            for word in (api.words.spell(i, language) for i in range(10))
            if tuple(api.words.letters([word])[0].tolist()) in paired
        ]
        for language in word_alignment.UNSEEN
    }
    # Some words are written alike in two languages; the chapter says which.
    assert same == {
        "pt": ["zero", "tres", "cinco", "seis", "nove"],
        "sv": ["tre"],
        "fi": [],
        "tr": [],
    }
    assert len(images) == len(tokens) == 6 * 250


@check
def retrieval_by_hand(api):
    digits = DIGITS["test"]._replace(labels=torch.tensor([0, 1, 2]))
    one = np.eye(10)
    ten = {language: one for language in word_alignment.PAIRED}
    space = word_alignment.Space(one[[0, 1, 5]], ten)  # the third looks like a five
    assert api.words.named_right(space, digits) == dict.fromkeys(ten, 2 / 3)
    assert api.words.recall(space, digits, 1)["word"] == pytest.approx(2 / 3)
    # Zero and one find their picture, five finds a two; the rest all tie, and the first is a zero.
    assert api.words.recall(space, digits, 1)["picture"] == pytest.approx(0.2)
    assert api.words.gap(space) == pytest.approx(
        np.linalg.norm(one[[0, 1, 5]].mean(0) - np.full(10, 0.1))
    )


@check
def edits_of_textbooks(api):
    for one, other, wanted in (
        ("kitten", "sitting", 3), ("", "ab", 2), ("abc", "", 3), ("ab", "ab", 0), ("ab", "ba", 2)
    ):  # fmt: skip
        assert api.words.edits(one, other) == wanted


BROKEN = {
    "left and right exchanged": ("data", '"left of": (0, -1), "right of": (0, 1)',
                                 '"left of": (0, 1), "right of": (0, -1)'),
    "odd for even": ("data", '("even", "odd")):', '("odd", "even")):'),
    "the test's combinations in training": ("data", "(value in NEW[relation]) == new", "True"),
    "rows side by side": ("data", "grid.transpose(2, 3)", "grid"),
    "the cell that asks as the answer": ("data", "cell, other))", "other, cell))"),
    "the mask turned round": ("models", "mask = (words != PAD)", "mask = (words == PAD)"),
    "no mask": ("models", "layer(x, cells, mask=mask)", "layer(x, cells)"),
    "words that ask words": ("models", "layer(x, cells, mask=mask)", "layer(x, x, mask=mask)"),
    "columns for rows": ("models", "n (row column) (y x)", "n (column row) (y x)"),
    "the question looks": ("models", 'self.sees == "question"', 'self.sees == "nothing"'),
    "the picture listens": ("models", 'self.sees == "picture"', 'self.sees == "nothing"'),
    "FiLM reads the padding": ("models", "(words != PAD).sum(dim=1) - 1]", "-1]"),
    "FiLM without scale": ("models", "(1 + scale) *", "1 *"),
    "all attention made equal": ("fitting",
        "nn.ModuleList(layer.cross_attention for layer in model.layers)", "model"),
    "the word before": ("fitting", "(words != PAD).sum(dim=1) - 1,",
                        "(words != PAD).sum(dim=1) - 2,"),
    "the kinds of another part": ("fitting", 'found["test"][parts["test"].kinds == kind]',
                                  'found["test"][parts["test"].kinds == 0]'),
    "one direction": ("words", "F.cross_entropy(scores.T, own)", "F.cross_entropy(scores, own)"),
    "letters without a mask": ("words", "self.word_pool(x, mask)", "self.word_pool(x)"),
    "letters without an order": ("words", "self.letters(tokens)", "self.letters.tokens(tokens)"),
    "an unseen language is paired": ("words",
        "for language in PAIRED for label in digits.labels]\n    return",
        'for language in (*PAIRED[:5], "pt") for label in digits.labels]\n    return'),
    "the farthest": ("words", "np.argsort(-scores, axis=1)", "np.argsort(scores, axis=1)"),
    "replacing costs nothing": ("words", "before[j - 1] + (letter != sign)", "before[j - 1]"),
}  # fmt: skip


class TestPicturesAndWords(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


def test_parts_share_neither_layouts_nor_digits():
    ways = [set(WAYS[part]) for part in ("training", "validation", "test")]
    assert [len(one) for one in ways] == [150, 30, 30]
    assert len(set.union(*ways)) == 210
    images = [{tuple(i.flatten().tolist()) for i in DIGITS[part].images} for part in WAYS]
    assert not images[0] & images[2]


def test_training_is_a_function_of_the_seed(monkeypatch):
    eye = question_models.Eye().requires_grad_(False)
    monkeypatch.setattr(question_models, "trained_eye", lambda seed: copy.deepcopy(eye))
    part = scene_questions.draw(DIGITS["training"], WAYS["training"], 200, seed=0)
    one, same, other = (
        pictures_and_words.fit("cross-attention", part, seed, steps=3) for seed in (1, 1, 2)
    )
    assert torch.equal(one.head[1].weight, same.head[1].weight)
    assert not torch.equal(one.head[1].weight, other.head[1].weight)


RAISES = {
    "kind": (
        lambda: scene_questions.ask("why", [-1] * 9, None),
        r"kind must be one of \('exists', .*\); got 'why'",
    ),
    "number": (
        lambda: scene_questions.draw(DIGITS["test"], [], 3, seed=0),
        r"wanted n ≥ 1 and a layout or more; got n = 3, 0 layouts",
    ),
    "word": (
        lambda: scene_questions.encode(["is there a cat"]),
        r"wanted at most 8 known words; got 'is there a cat', unknown: \['cat'\]",
    ),
    "name": (
        lambda: question_models.build("CLIP", 0),
        r"name must be one of \('cross-attention', .*\); got 'CLIP'",
    ),
    "letters": (
        lambda: word_alignment.letters(["fünf"]),
        r"words must have at most 9 letters from a to z; got 'fünf'",
    ),
    "k": (
        lambda: word_alignment.recall(None, None, 0),
        r"k must be at least 1; got 0",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_errors_name_what_is_wrong(name):
    call, message = RAISES[name]
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
