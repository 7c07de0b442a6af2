"""Two tasks on sentences: labels that follow, parts that share no source, and readers of words."""

import itertools
from collections import Counter

import numpy as np
import pytest
import torch

from attn_tutorial.applications.text_classification import data as text_data
from attn_tutorial.applications.text_classification import experiment as text_classification
from attn_tutorial.applications.text_classification import models as text_models
from attn_tutorial.applications.text_classification import requests as request_data
from attn_tutorial.attribution import uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {
    "reviews": text_data,
    "requests": request_data,
    "models": text_models,
    "scoring": text_classification,
}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def texts(*sentences, labels=None):
    labels = labels or [0] * len(sentences)
    return [
        text_data.Text(tuple(sentence.split()), label, (False,) * len(sentence.split()), "")
        for sentence, label in zip(sentences, labels, strict=True)
    ]


def reader(api, **settings):
    """An untrained reader with large weights, so that its attention is far from equal."""
    torch.manual_seed(0)
    model = api.models.AttentionReader(9, 3, d_model=8, n_heads=2, **settings)
    with torch.no_grad():
        for one in [model.pooling, *(layer.attention for layer in model.layers)]:
            one.query.weight *= 6
    return model.eval()


@check
def labels_by_hand(api):
    clause, review = api.reviews.Clause, api.reviews.Review
    bad = clause("was", "", "food", "", "bad")
    clean = clause("was", "", "room", "very", "clean")
    double = clause("was", "i do not think that", "food", "not", "good")
    hoped = clause("expected", "", "pool", "not", "dirty")
    far = clause("seemed", "i must say that", "bar", "far from", "noisy")
    wanted = {
        review((bad,)): ("the food was bad", 0, "bad"),
        review((double,)): (
            "i do not think that the food was not good",
            1,
            "i do not think that not good",
        ),
        review((hoped,)): ("i expected the pool to be dirty and it was not", 1, "dirty not"),
        review((bad, clean), "but"): ("the food was bad , but the room was very clean", 1, "clean"),
        review((bad, clean), "although first"): (
            "although the food was bad , the room was very clean",
            1,
            "clean",
        ),
        review((bad, double), "although last"): (
            "the food was bad , although i do not think that the food was not good",
            0,
            "bad",
        ),
        review((far,)): ("i must say that the bar seemed far from noisy", 1, "far from noisy"),
    }
    for one, (sentence, label, decisive) in wanted.items():
        text = one.text()
        assert " ".join(text.words) == sentence
        assert text.label == label
        assert " ".join(w for w, d in zip(text.words, text.decisive, strict=True) if d) == decisive


def read(words):
    """The label, from the words alone."""
    sentence = " ".join(words)
    if "although" in sentence:
        first, second = sentence.split(" , ")
        deciding = second if first.startswith("although") else first
    else:
        deciding = sentence.split(" , but ")[-1]
    negations = ("not", "hardly", "never", "anything but", "far from", "nobody")
    turns = sum(f" {deciding} ".count(f" {negation} ") for negation in negations)
    (adjective,) = set(deciding.split()) & set(text_data.ADJECTIVES)
    return int(text_data.ADJECTIVES[adjective] * (-1) ** turns > 0)


def drawn(api):
    """Reviews of two clauses by part."""
    found = {}
    for part in text_data.PARTS:
        rng = np.random.default_rng(7)
        found[part] = [api.reviews.draw_review(part, 2, rng) for _ in range(60)]
    return found


@check
def labels_follow_from_the_words(api):
    for reviews in drawn(api).values():
        assert {one.connective for one in reviews} == set(text_data.CONNECTIVES)
        for text in (one.text() for one in reviews):
            assert text.label == read(text.words)


@check
def partners_have_the_same_words_and_opposite_labels(api):
    pairs, kinds = api.reviews.draw_pairs("test", 15, seed=1)
    assert Counter(kinds) == dict.fromkeys(text_data.KINDS_OF_PAIRS, 5)
    for one, other in zip(pairs[::2], pairs[1::2], strict=True):
        assert sorted(one.words) == sorted(other.words)
        assert one.words != other.words
        assert {one.label, other.label} == {0, 1}
        assert [read(text.words) for text in (one, other)] == [one.label, other.label]
    assert len({text.words for text in pairs}) == 30


@check
def parts_of_the_reviews_share_no_source(api):
    sources, combinations = {}, {}
    for part, reviews in drawn(api).items():
        pairs = api.reviews.draw_pairs(part, 6, seed=2)[0]
        everything = [*(one.text() for one in reviews), *pairs]
        sources[part] = {text.source for text in everything}
        combinations[part] = set()
        for text in everything:
            for clause in " ".join(text.words).split(" , "):
                (adjective,) = set(clause.split()) & set(text_data.ADJECTIVES)
                for negation in text_data.NEGATIONS:
                    if clause.endswith(f" {negation} {adjective}"):
                        combinations[part].add((negation, adjective))
                    if clause.endswith(f"{adjective} and it was {negation}"):
                        combinations[part].add(("to be", adjective))
        assert combinations[part]
    for one, other in itertools.combinations(text_data.PARTS, 2):
        assert not sources[one] & sources[other]
        assert not combinations[one] & combinations[other]


@check
def parts_of_the_requests_share_no_source(api):
    by_part = {part: api.requests.draw_requests(part, 3, seed=0) for part in text_data.PARTS}
    outside = api.requests.draw_out_of_scope(3, seed=0)
    for one, other in itertools.combinations(text_data.PARTS, 2):
        assert not {t.source for t in by_part[one]} & {t.source for t in by_part[other]}
        known = api.requests.fillers(one), api.requests.fillers(other)
        assert all(not set(known[0][slot]) & set(known[1][slot]) for slot in known[0])
    everything = {text.source for part in by_part.values() for text in part}
    assert len(everything) == 80
    assert [len(part) for part in by_part.values()] == [120, 48, 72]
    for part, requests in by_part.items():
        assert {text.label for text in requests} == set(range(8))
        strange = {
            word
            for slot, words in request_data.SLOTS.items()
            for word in set(words) - set(api.requests.fillers(part)[slot])
        }
        assert not strange & {word for text in requests for word in text.words}
    test = {word for words in api.requests.fillers("test").values() for word in words}
    slots = {word for words in request_data.SLOTS.values() for word in words}
    assert {word for text in outside for word in text.words} & slots <= test
    assert {text.label for text in outside} == {-1}


@check
def stars_mark_the_decisive_words(api):
    for text in api.requests.draw_requests("test", 2, seed=0):
        marked = [w for w, d in zip(text.words, text.decisive, strict=True) if d]
        assert marked == [w[1:] for w in text.source.split() if w.startswith("*")]
        assert not any("*" in word or "{" in word for word in text.words)


@check
def words_get_numbers(api):
    vocabulary = api.models.Vocabulary(texts("b a", "c"))
    assert len(vocabulary) == 5
    assert vocabulary.encode(texts("a b c", "c new")).tolist() == [[2, 3, 4], [4, 1, 0]]


@check
def padding_changes_nothing(api):
    tokens = torch.tensor([[5, 3, 2, 0, 0], [2, 2, 4, 5, 6]])
    torch.manual_seed(0)
    for model in (reader(api), api.models.RecurrentReader(9, 3, d_model=8)):
        with torch.no_grad():
            alone = model(tokens[:1, :3])
            torch.testing.assert_close(model(tokens)[:1], alone, atol=1e-5, rtol=1e-5)


@check
def only_positions_tell_one_order_from_another(api):
    tokens = torch.tensor([[5, 3, 2, 8, 0], [8, 5, 2, 3, 0]])
    for positions in (True, False):
        for n_layers in (1, 2):
            with torch.no_grad():
                one, other = reader(api, positions=positions, n_layers=n_layers)(tokens)
            assert torch.allclose(one, other, atol=1e-5) != positions


@check
def attention_is_used_in_every_layer(api):
    tokens = torch.tensor([[5, 3, 2, 8, 6]])
    model = reader(api)
    for part in (model.layers[0], model.layers[1], model):
        with torch.no_grad():
            plain = model(tokens)
            name = "pooling" if part is model else "attention"
            holder = torch.nn.ModuleList([getattr(part, name)])
            with uniform_weights(holder):
                assert (model(tokens) - plain).abs().max() > 1e-4


@check
def counts_of_words_and_of_pairs(api):
    training = texts("a b", "b a", "c a", "c b", labels=[0, 1, 1, 0]) * 3
    words = api.models.Counts("words", training, training)
    one, other = words.probabilities(texts("a b", "b a"))
    np.testing.assert_allclose(one, other)
    pairs = api.models.Counts("words and pairs", training, training)
    assert pairs.probabilities(texts("a b", "b a")).argmax(1).tolist() == [0, 1]
    np.testing.assert_allclose(pairs.probabilities(training).sum(1), 1)


@check
def the_validation_part_chooses_the_strength(api):
    training = texts("good", "bad", labels=[1, 0]) * 2 + texts("good x", "bad", labels=[0, 0])
    scores = {}
    for strength in api.models.Counts.STRENGTHS:
        model = api.models.Counts.__new__(api.models.Counts)
        model.STRENGTHS = (strength,)
        model.__init__("words", training, training)
        scores[strength] = (model.probabilities(training).argmax(1) == model.labels).mean()
    chosen = api.models.Counts("words", training, training).strength
    assert chosen == max(scores, key=scores.get)
    assert len(set(scores.values())) > 1


@check
def the_nearest_neighbour_by_hand(api):
    training = texts("a b", "b c", "c d", labels=[0, 1, 1])
    model = api.models.Counts("neighbour", training, training)
    found = model.probabilities(texts("a", "d", "b c"))
    assert found.argmax(1).tolist() == [0, 1, 1]
    assert found[2, 1] == pytest.approx(1)
    assert found[1, 0] == 0


@check
def in_or_out_by_counting(api):
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 6, 20) / 5, rng.integers(0, 5, 15) / 5
    counted = np.mean([(a > b) + 0.5 * (a == b) for a in inside for b in outside])
    assert api.scoring.in_or_out(inside, outside) == pytest.approx(counted)


class Says(torch.nn.Module):
    """Gives logits by the number of the first word."""

    def forward(self, tokens):
        return torch.nn.functional.one_hot(tokens[:, 0] - 2, 3).float()


def says_task(name="reviews"):
    test = texts("b", "a", "b", "b", labels=[1, 0, 0, 1])
    alone = texts("a", "b", labels=[1, 1])
    parts = {"training": texts("a b c"), "test": test, "one clause": alone}
    return text_classification.Task(name, parts, text_models.Vocabulary(parts["training"]), 3)


@check
def scores_by_hand(api):
    found = api.scoring.evaluate(Says(), says_task())
    assert found == {"pairs": 0.75, "both right": 0.5, "one clause": 0.5}


@check
def shares_on_decisive_words(api):
    parts = {"test": request_data.draw_requests("test", 1, seed=0)}
    vocabulary = text_models.Vocabulary(parts["test"])
    task = text_classification.Task("requests", parts, vocabulary, 8)
    torch.manual_seed(0)
    model = text_models.AttentionReader(len(vocabulary), 8).eval()
    weights = api.scoring.pooling_weights(model, task, "test")
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    with uniform_weights(model):
        equal = api.scoring.share_on_decisive(model, task, "test")
    assert equal["weights"] == pytest.approx(equal["words"], abs=1e-5)
    by_hand = [
        sum(w for w, d in zip(row, text.decisive, strict=False) if d)
        for row, text in zip(weights, parts["test"], strict=True)
        if any(text.decisive)
    ]
    found = api.scoring.share_on_decisive(model, task, "test")["weights"]
    assert found == pytest.approx(np.mean(by_hand), abs=1e-5)
    assert found != pytest.approx(equal["weights"], abs=1e-4)


BROKEN = {
    "negations do not turn": ("reviews", "-1 if self.operator in NEGATIONS else 1", "1"),
    "wrappers do not turn": ("reviews", "WRAPPERS[self.wrapper] * negated", "negated"),
    "although decides": ("reviews", 'self.connective == "although last"',
                         'self.connective == "although first"'),
    "every clause is decisive": ("reviews", "decisive and deciding", "decisive"),
    "partners of the same label": ("reviews", "made.text().label != review.text().label",
                                   "made != review"),
    "operators where none can stand": ("reviews", 'if any(c.form == "expected" and',
                                       'if any(c.form == "none" and'),
    "templates leak": ("reviews", "_SHAPE_PARTS[review.shapes] != part", "False"),
    "combinations leak": ("reviews", "_COMBINATION_PARTS[one] == part for", "True for"),
    "partners of another part": ("reviews", "not belongs(other, part) or", ""),
    "templates of the requests leak": ("requests", "order[begin:end]", "order[:end]"),
    "fillers leak": ("requests", "words[ends[at] : ends[at + 1]]", "words[: ends[at + 1]]"),
    "stars stay": ("requests", 'word.lstrip("*")', "word"),
    "outside has the fillers of training": ("requests", '-1, "test", rng', '-1, "training", rng'),
    "new words are padding": ("models", "get(word, UNKNOWN)", "get(word, PAD)"),
    "the mask turned round": ("models", "mask = _words(tokens)", "mask = ~_words(tokens)"),
    "padding is attended to": ("models", "x, _ = layer(x, mask=mask)", "x, _ = layer(x)"),
    "padding is pooled": ("models", "self.norm(x), mask=mask)", "self.norm(x))"),
    "the GRU reads padding": ("models", "padding_value=-torch.inf", "padding_value=9.0"),
    "positions stay": ("models", "if not positions:", "if False:"),
    "no positions at all": ("models", "if not positions:", "if True:"),
    "the first word in place of pooling": ("models", "self.classes(pooled[:, 0])",
                                           "self.classes(self.norm(x)[:, 0] + 0 * pooled[:, 0])"),
    "words alone": ("models", 'n_words = 2 if kind == "words and pairs" else 1', "n_words = 1"),
    "always pairs": ("models", 'n_words = 2 if kind == "words and pairs" else 1', "n_words = 2"),
    "the last strength": ("models", "if right > best:", "if True:"),
    "the farthest neighbour": ("models", ".max(1) for one in", ".min(1) for one in"),
    "inside and outside exchanged": ("scoring", "np.repeat([1, 0],", "np.repeat([0, 1],"),
    "one of a pair is enough": ("scoring", ".all(1).mean()", ".any(1).mean()"),
    "weights over the wrong axis": ("scoring", "record.weights[-1][:, :, 0].mean(1)",
                                    "record.weights[-1][:, :, 0].mean(1).softmax(0)"),
    "the weights of another layer": ("scoring", "record.weights[-1][:, :, 0]",
                                     "record.weights[0][:, :, 0].flip(-1)"),
}  # fmt: skip


class TestTextClassification(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


def small_task():
    parts = {part: request_data.draw_requests(part, 2, seed=0) for part in text_data.PARTS}
    return text_classification.Task("requests", parts, text_models.Vocabulary(parts["training"]), 8)


def test_training_is_a_function_of_the_seed_and_lowers_the_loss():
    task = small_task()
    assert max(task.vocabulary.encode(task.parts["test"]).flatten()) < len(task.vocabulary)
    models = [text_classification.fit("encoder", task, seed, steps=3) for seed in (1, 1, 2)]
    models.append(text_classification.fit("encoder", task, 1, equal_weights=True, steps=3))
    first = [model.classes.weight for model in models]
    assert torch.equal(first[0], first[1])
    assert not torch.equal(first[0], first[2])
    assert not torch.equal(first[0], first[3])
    fresh = text_classification.build("encoder", task, 1)
    trained = text_classification.fit("encoder", task, 1, steps=50)
    learned, before = (
        text_classification.right(one, task, "training").mean() for one in (trained, fresh)
    )
    assert learned > before + 0.2


def test_generators_are_functions_of_the_seed():
    for draw in (
        lambda seed: text_data.draw_pairs("validation", 9, seed)[0],
        lambda seed: text_data.draw_reviews("training", 9, seed, n_clauses=1),
        lambda seed: request_data.draw_requests("training", 1, seed),
        lambda seed: request_data.draw_out_of_scope(1, seed),
    ):
        assert draw(1) == draw(1)
        assert draw(1) != draw(2)


RAISES = {
    "part of reviews": (
        lambda: text_data.draw_review("future", 1, np.random.default_rng(0)),
        r"part must be one of \('training', 'validation', 'test'\); got 'future'",
    ),
    "clauses": (
        lambda: text_data.draw_review("test", 3, np.random.default_rng(0)),
        r"n_clauses must be 1 or 2; got 3",
    ),
    "kind of pair": (
        lambda: text_data.partner(text_data.Review(()), "none"),
        r"kind must be one of \('adjectives exchanged', .*\); got 'none'",
    ),
    "part of requests": (
        lambda: request_data.templates("future"),
        r"part must be one of \('training', 'validation', 'test'\); got 'future'",
    ),
    "no words": (
        lambda: text_models.Vocabulary([]).encode([]),
        r"texts must have 1 to 40 words; got 0",
    ),
    "too many words": (
        lambda: text_models.Vocabulary([]).encode(texts("a " * 41)),
        r"texts must have 1 to 40 words; got 41",
    ),
    "counts": (
        lambda: text_models.Counts("letters", [], []),
        r"kind must be 'words', 'words and pairs' or 'neighbour'; got 'letters'",
    ),
    "task": (
        lambda: text_classification.load_task("mail"),
        r"name must be one of \('reviews', 'requests'\); got 'mail'",
    ),
    "kind": (
        lambda: text_classification.build("CNN", small_task(), 0),
        r"kind must be one of \('encoder', .*\); got 'CNN'",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_errors_name_what_is_wrong(name):
    call, message = RAISES[name]
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
