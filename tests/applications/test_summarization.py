"""Summarization: its data, baselines and models, and broken versions of them."""

import itertools
import math
import types

import numpy as np
import pytest
import torch

from attn_tutorial.applications.summarization import baselines as summaries_baselines
from attn_tutorial.applications.summarization import data as summaries_data
from attn_tutorial.applications.summarization import models as summaries_models
from attn_tutorial.applications.summarization import training as summaries_training
from attn_tutorial.applications.summarization.data import (
    BEGIN,
    END,
    PADDING,
    UNKNOWN,
    Document,
    Words,
    words_of,
)
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.parameter_kinds.data import PARTS
from package.zoo import Zoo, ZooTests, rewritten

# What is checked of the models. Each check is a function of the module.
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def some_sentences():
    torch.manual_seed(0)
    sentences = torch.randn(3, 5, 8)
    mask = torch.arange(5) < torch.tensor([[5], [3], [1]])  # (3, 5)
    return sentences, mask


def some_words():
    source = torch.tensor([[4, 9, 5, 9, 11], [6, 10, 7, PADDING, PADDING]])
    target = torch.tensor([[BEGIN, 5, 9, 4, END], [BEGIN, 12, 10, END, PADDING]])
    return source, target


def a_generator(api, *, seed=1, **settings):
    torch.manual_seed(seed)
    model = api.Generator(8, d_model=16, **settings).eval()
    for parameter in model.parameters():  # weights that are far from equal
        parameter.data = torch.randn_like(parameter) * 0.5
    if model.switch is not None:  # and a switch that stands in the middle
        model.switch.weight.data *= 0.1
    return model


@check
def the_choice_is_a_distribution_over_the_sentences(api):
    sentences, mask = some_sentences()
    model = api.SentenceChooser(8, 5, d_model=16).eval()
    weights = model(sentences, mask).exp()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    assert (weights[~mask] == 0).all()
    assert weights[2, 0] == 1


@check
def sentences_that_are_padding_change_no_choice(api):
    sentences, mask = some_sentences()
    model = api.SentenceChooser(8, 5, d_model=16).eval()
    other = sentences.masked_fill(~mask[..., None], 7.0)
    torch.testing.assert_close(model(other, mask), model(sentences, mask))


@check
def other_sentences_matter_only_with_context(api):
    """Between two sentences the ratio of the weights depends on a third, or does not."""
    sentences, mask = some_sentences()
    other = sentences.clone()
    other[0, 4] += 3.0
    for context in (True, False):
        model = api.SentenceChooser(8, 5, d_model=16, context=context).eval()
        before, after = (model(x, mask)[0] for x in (sentences, other))
        same = torch.isclose(before[0] - before[1], after[0] - after[1], atol=1e-5)
        assert bool(same) is not context


@check
def the_mixture_is_a_sum_over_places(api):
    rng = np.random.default_rng(0)
    known, weights = rng.dirichlet(np.ones(8), (2, 3)), rng.dirichlet(np.ones(5), (2, 3))
    generated = rng.random((2, 3, 1))
    source, _ = some_words()
    wanted = np.zeros((2, 3, 13))
    for b, t in itertools.product(range(2), range(3)):
        wanted[b, t, :8] = generated[b, t, 0] * known[b, t]
        for i, word in enumerate(source[b]):
            wanted[b, t, word] += (1 - generated[b, t, 0]) * weights[b, t, i]
    step = api.Step(*(torch.from_numpy(array) for array in (known, weights, generated)))
    found = api.mixture(step, source, 13)
    np.testing.assert_allclose(found, wanted)
    np.testing.assert_allclose(found.sum(dim=-1), 1)


@check
def what_a_generator_says_is_a_distribution(api):
    source, target = some_words()
    model = a_generator(api)
    step = model(api.known_only(source, 8), api.known_only(target, 8))
    torch.testing.assert_close(step.known.sum(dim=-1), torch.ones(2, 5))
    torch.testing.assert_close(step.weights.sum(dim=-1), torch.ones(2, 5))
    assert ((step.generated > 0) & (step.generated < 1)).all()
    assert (step.weights[1, :, 3:] == 0).all()


@check
def the_pointer_asks_the_text(api):
    """The weights differ between places, between words written, and with the text."""
    source, target = some_words()
    model = a_generator(api)
    weights = model(api.known_only(source, 8), api.known_only(target, 8)).weights
    assert weights[0].std(dim=1).min() > 1e-3
    assert weights[0].std(dim=0).max() > 1e-3


@check
def padding_changes_nothing(api):
    source, target = some_words()
    model = a_generator(api)
    alone = model(api.known_only(source[1:, :3], 8), api.known_only(target[1:], 8))
    padded = model(api.known_only(source, 8), api.known_only(target, 8))
    torch.testing.assert_close(padded.known[1:], alone.known)
    torch.testing.assert_close(padded.weights[1:, :, :3], alone.weights)


@check
def the_future_changes_no_past(api):
    source, target = some_words()
    model = a_generator(api)
    before = api.known_only(target, 8)
    other = before.clone()
    other[:, 3] = 6
    one, two = (model(api.known_only(source, 8), words) for words in (before, other))
    for first, second in zip(one, two, strict=True):
        torch.testing.assert_close(first[:, :3], second[:, :3])
    assert not torch.allclose(one.known[:, 3:], two.known[:, 3:])


@check
def the_loss_is_that_of_the_mixture(api):
    """Word by word: known ones, 9 and 10 that can only be copied, 12 that nothing can say."""
    source, target = some_words()
    for points in (True, False):
        model = a_generator(api, points=points)
        step = model(api.known_only(source, 8), api.known_only(target[:, :-1], 8))
        total = api.mixture(step, source, 13)
        losses = []
        for b, t in itertools.product(range(2), range(4)):
            word = int(target[b, t + 1])
            if word == PADDING:
                continue
            sayable = word < 8 or (points and word in source[b])
            losses.append(-math.log(float(total[b, t, word if sayable else UNKNOWN].detach())))
        assert len(losses) == 7
        found = api.summary_loss(model, api.known_only(source, 8), source, target)
        assert found.item() == pytest.approx(np.mean(losses), rel=1e-5)


@check
def writing_is_the_likeliest_word_at_each_step(api):
    source, _ = some_words()
    model = a_generator(api)
    words, weights, generated = api.write(
        model, api.known_only(source, 8), source, n_words=13, max_length=6
    )
    assert weights.shape == (2, words.shape[1], 5)
    assert generated.shape == words.shape
    for b in range(2):
        so_far = [BEGIN]
        for written in words[b].tolist():
            step = model(
                api.known_only(source[b : b + 1], 8),
                api.known_only(torch.tensor([so_far]), 8),
            )
            total = api.mixture(step, source[b : b + 1], 13)[0, -1].detach()
            total[[PADDING, UNKNOWN, BEGIN]] = 0
            if END in so_far:
                assert written == PADDING
                continue
            best = int(total.argmax())
            assert written == (PADDING if best == END else best)
            so_far.append(best)


@check
def after_the_end_there_is_nothing(api):
    """Where one text ends before the other, and the model would like to go on."""
    source, _ = some_words()
    lengths = set()
    for seed in range(12):
        model = a_generator(api, seed=seed)
        model.bias.data[END] += 0.7
        words, _, _ = api.write(model, api.known_only(source, 8), source, n_words=13, max_length=9)
        assert (words != END).all()
        there = (words != PADDING).int()
        assert (there.diff(dim=1) <= 0).all()  # once it is padding, it stays padding
        lengths.add(tuple(there.sum(dim=1).tolist()))
    assert any(0 < one < other for one, other in lengths | {pair[::-1] for pair in lengths})


BROKEN = {
    "mask of the chooser turned round": (
        "mask=mask[:, None, None, :])",
        "mask=~mask[:, None, None, :])",
    ),
    "softmax of the choice over the texts": (
        "scores.masked_fill(~mask, -torch.inf).log_softmax(dim=-1)",
        "scores.masked_fill(~mask, -torch.inf).log_softmax(dim=0)",
    ),
    "padding may be chosen": ("scores.masked_fill(~mask, -torch.inf)", "scores"),
    "context left out": ("if self.attention is None:", "if True:"),
    "mask of the text turned round": ("(source != PADDING)[:, None", "(source == PADDING)[:, None"),
    "no mask of the text": (
        "self.attention(decoded, states, mask=mask,",
        "self.attention(decoded, states,",
    ),
    "query and key swapped": ("self.attention(decoded, states,", "self.attention(states, decoded,"),
    "equal weights": (
        "weights = weights[:, 0]",
        "weights = (mask / mask.sum(-1, True))[:, 0].expand_as(weights[:, 0])",
    ),
    "decoder reads backwards": (
        "self.decoder(embedded, state)",
        "self.decoder(embedded.flip(1), state)",
    ),
    "softmax over the places": ("+ self.bias).softmax(dim=-1)", "+ self.bias).softmax(dim=1)"),
    "label leaks": ("target[:, :-1], target[:, 1:]", "target[:, 1:], target[:, 1:]"),
    "padding is to be learned": ("there = after != PADDING", "there = after >= PADDING"),
    "switch turned round": (
        "(1 - step.generated) * step.weights)",
        "step.generated * step.weights)",
    ),
    "only one place counts": ("total.scatter_add(", "total.scatter("),
    "unknown is right though it can be copied": ("| ~same.any(dim=-1))", "| True)"),
    "goes on after the end": ("finished |= word == END", "finished = word == END"),
    "the end is written": ("word.masked_fill(finished, PADDING)", "word"),
}


class TestModels(ZooTests):
    zoo = Zoo(CHECKS, rewritten(summaries_models, BROKEN), BROKEN)


def test_uniform_weights_make_the_pointer_blind():
    source, target = some_words()
    model = a_generator(summaries_models)
    with uniform_weights(model):
        weights = model(
            summaries_models.known_only(source, 8), summaries_models.known_only(target, 8)
        ).weights
    torch.testing.assert_close(weights[1, :, :3], torch.full((5, 3), 1 / 3))


# --- data ------------------------------------------------------------------------------------

DOCSTRING = """mean(a, axis=None)

Compute the arithmetic *mean* of ``a``.

Returns the average of the elements of :class:`~numpy.ndarray`, e.g. over one axis [1]_.
It equals :math:`\\sum_i x_i / n` in ``float64``. It satisfies::

    mean(a) == sum(a) / len(a)

.. deprecated:: 1.0
   Use something else for this, please, from now on.

- a list that is no prose at all

See `here <http://x.y>`_ for more of it. A second paragraph is read as well.

Parameters
----------
a : array
    Not a part of the text.
"""


def test_a_docstring_is_read():
    document = summaries_data.read(DOCSTRING, "numpy")
    assert document.summary == "Compute the arithmetic mean of a."
    assert document.sentences == [
        "Returns the average of the elements of numpy.ndarray, e.g. over one axis.",
        "It equals formula in float64.",
        "A second paragraph is read as well.",
    ]


@pytest.mark.parametrize(
    "docstring",
    ["Only a summary.", "A summary.\n\nParameters\n----------\nx : int", "f(x)\n\nA summary."],
)
def test_what_has_no_text_is_left_out(docstring):
    assert summaries_data.read(docstring, "numpy") is None


def a_document(library, summary, word, *, n=10):
    return Document(summary, [" ".join([word] * n), " ".join([word, *["again"] * 20])], library)


def test_parts_share_no_library_no_text_and_no_summary():
    documents = [
        a_document("numpy", "One two three.", "a"),
        a_document("pandas", "Four five six.", "a"),  # the text of a test document
        a_document("scipy", "One two three.", "b"),  # its summary
        a_document("scipy", "Seven eight nine.", "c"),
        a_document("scipy", "Seven eight ten.", "c"),  # a text twice
        a_document("pandas", "Good one here.", "d"),
        a_document("pandas", "Short.", "e"),
        Document("A short text.", [" ".join("fghijklmnop")], "scipy"),
    ]
    parts = summaries_data.split(documents)
    found = {name: [d.summary for d in part] for name, part in parts.items()}
    assert found == {
        "test": ["One two three."],
        "validation": ["Good one here."],
        "training": ["Seven eight nine."],
        "short": ["A short text."],
    }
    for one, other in itertools.combinations(PARTS.values(), 2):
        assert not set(one) & set(other)


def test_known_words_come_from_the_documents_given():
    documents = [a_document("scipy", "c c d.", "c"), a_document("scipy", "c d.", "e")]
    words = Words(documents, fewest=2)
    n_known = words.n_known
    assert words.words[4:] == [".", "again", "c", "d"]  # e stands often, but in one
    (row,) = words.sources([Document("x", ["again new c new"], "numpy")]).tolist()
    assert row == [5, n_known, 6, n_known]
    assert (words.n_known, len(words)) == (n_known, n_known + 1)
    assert words.text(row) == "again new c new"
    assert words.targets([Document("c", ["c"], "numpy")]).tolist() == [[BEGIN, 6, END]]


# --- measures and baselines ------------------------------------------------------------------


def longest_common_subsequence(a, b):
    return max(
        k
        for k in range(len(a) + 1)
        if {c for c in itertools.combinations(a, k)} & {c for c in itertools.combinations(b, k)}
    )


def test_rouge_by_brute_force():
    rng = np.random.default_rng(0)
    for _ in range(10):
        a, b = (rng.choice(list("abcde"), rng.integers(2, 8)).tolist() for _ in range(2))
        one, _, long, _ = summaries_baselines.rouge(" ".join(a), " ".join(b))
        common = sum(min(a.count(letter), b.count(letter)) for letter in "abcde")
        assert one == pytest.approx(200 * common / (len(a) + len(b)))
        assert long == pytest.approx(200 * longest_common_subsequence(a, b) / (len(a) + len(b)))


def test_content_words_leave_out_what_says_nothing():
    *_, content = summaries_baselines.rouge("sort the array of numbers", "the array of of the")
    assert content == pytest.approx(100 * 2 * 1 / (3 + 1))
    *_, content = summaries_baselines.rouge("sort the array", "of the")
    assert content == 0


def test_text_rank_by_its_own_equation():
    sentences = ["a b c d x", "a b e f", "a b c e g h", "k l m n a"]
    bags = [set(words_of(sentence)) for sentence in sentences]
    lengths = [len(words_of(sentence)) for sentence in sentences]
    weights = np.array(
        [
            [
                0 if i == j else len(bags[i] & bags[j]) / math.log(lengths[i] * lengths[j])
                for j in range(4)
            ]
            for i in range(4)
        ]
    )
    matrix = weights / weights.sum(axis=1, keepdims=True)
    ranks = np.ones(4)
    for _ in range(200):
        ranks = 0.15 + 0.85 * matrix.T @ ranks
    assert summaries_baselines.text_rank(sentences, None) == ranks.argmax()
    assert summaries_baselines.text_rank(["a b c", "d e f"], None) == 0  # a tie: the first


def test_centroid_and_longest():
    sentences = ["red red blue words", "blue words here", "green words"]
    tfidf = types.SimpleNamespace(words=types.SimpleNamespace())
    counts = np.array([[2.0, 1, 1, 0], [0, 1, 1, 1], [0, 0, 1, 0]])
    tfidf.words.transform = lambda _: types.SimpleNamespace(toarray=lambda: counts)
    assert summaries_baselines.centroid(sentences, tfidf) == 0
    assert summaries_baselines.longest(sentences, tfidf) == 0


def test_manners_by_hand():
    documents = [Document("mean of arrays", ["this sums arrays quickly newword"], "numpy")]
    words = Words([Document("mean of arrays", ["this sums arrays quickly"], "scipy")], fewest=1)
    words.targets([Document("newword", ["a"], "numpy")])
    documents.append(Document("newword is", ["a newword"], "numpy"))
    found = summaries_baselines.manners(documents, ["this this mean wrong", "newword"], words)
    assert found == {
        "in the text": 3 / 5,
        "in neither": 1 / 5,
        "repeated": 1 / 2,
        "unknown found": 1.0,
    }


def a_part(n=4):
    torch.manual_seed(0)
    mask = torch.arange(10) < torch.tensor([[10], [3], [2], [1]])
    rouge = torch.rand(n, 10, 4).masked_fill(~mask[..., None], 0) * 100
    documents = [Document("a b c", ["x y z"] * 10, "numpy")] * n
    words = torch.ones(n, 3).long()
    return summaries_training.Part(documents, torch.randn(n, 10, 65), mask, rouge, words, words)


def test_shuffling_moves_sentences_with_their_scores():
    part = a_part()
    marked = torch.arange(10.0).expand(4, 10)
    part.sentences[..., 0] = marked
    part.rouge[..., 2] = marked
    mixed = summaries_training.shuffled(part, seed=1)
    torch.testing.assert_close(mixed.sentences[..., 0], mixed.rouge[..., 2])
    for row, mask in zip(mixed.rouge[..., 2], part.mask, strict=True):
        n = int(mask.sum())
        assert sorted(row[:n].tolist()) == list(range(n))
    assert not torch.equal(mixed.rouge, part.rouge)


def test_the_target_of_the_chooser_prefers_what_scores_well():
    part = a_part()
    target = (part.rouge[..., 2] / 10).masked_fill(~part.mask, -torch.inf).softmax(dim=1)
    entropy = -torch.xlogy(target, target).sum(dim=1).mean()

    def perfect(sentences, mask):
        return target.log()

    arguments = (part.sentences, part.mask, part.rouge[..., 2])
    assert summaries_training.chooser_loss(perfect, *arguments) == pytest.approx(float(entropy))
    chooser = summaries_models.SentenceChooser(65, 10)
    assert summaries_training.chooser_loss(chooser, *arguments) > entropy


def test_errors_name_what_was_wrong():
    part = a_part()
    with pytest.raises(ValueError, match=r"choice must have one number for each of 4 texts; got"):
        summaries_training.choice_scores(part, [0])
    with pytest.raises(ValueError, match="points needs attends"):
        summaries_models.Generator(9, attends=False)
    with pytest.raises(ValueError, match="source must have one word or more in each row"):
        summaries_models.Generator(9).encode(torch.zeros(1, 3).long())
    with pytest.raises(ValueError, match=r"mask must have shape \(batch, n\) with one True"):
        summaries_models.SentenceChooser(8, 5)(torch.zeros(1, 5, 8), torch.zeros(1, 5).bool())
