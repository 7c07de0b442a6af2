"""Translation: the grammar by hand, the split by words, counting by brute force, no leak."""

import collections
import itertools
import math

import numpy as np
import pytest
import torch
from num2words import num2words

from attn_tutorial import additive, attention
from attn_tutorial.applications.translation import data as translation_data
from attn_tutorial.applications.translation import experiment as translation
from attn_tutorial.applications.translation import grammar as translation_grammar
from attn_tutorial.applications.translation import models as translation_models
from attn_tutorial.applications.translation import training as translation_training
from attn_tutorial.applications.translation.grammar import Clause, Pair, Phrase, Sentence
from attn_tutorial.models import Transformer
from attn_tutorial.training import evaluating
from package.zoo import Zoo, ZooTests, rewritten

# What is checked, as functions of the modules, so that broken ones can be shown to fail.
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


MODULES = {
    "data": translation_data,
    "grammar": translation_grammar,
    "models": translation_models,
    "training": translation_training,
    "results": translation,
}


def long_check(function):
    """A check that takes longer, and so runs last."""
    function.generated = True
    return check(function)


# --- the grammar -----------------------------------------------------------------------------

BY_HAND = [
    (
        Sentence(
            Clause("my mother", "buy", Phrase("two", "book", "red"), "at the market", "yesterday")
        ),
        "my mother bought two red books at the market yesterday .",
        "我 妈妈 昨天 在 市场 买 了 两 本 红色 的 书 。",
        "0-0 1-1 2-9 3-6 4-8 5-2 6-2 7-3 9-4 11-5 12-10",
        "8-3 8-5 10-4",
    ),
    (
        Sentence(
            Clause("the doctor", "lose", Phrase("that", "map"), time="tomorrow", future=True),
            question=True,
        ),
        "will the doctor lose that map tomorrow ?",
        "医生 明天 会 弄丢 那 张 地图 吗 ？",
        "0-2 1-6 2-0 3-3 4-4 6-5 7-7 8-7",
        "0-1 5-4 5-5 7-0",
    ),
    (
        Sentence(
            Clause("I", "sell", Phrase("a", "umbrella"), negative=True),
            reason=Clause("she", "find", Phrase("a", "coat", "old", ("he", "hide"))),
        ),
        "I did not sell an umbrella because she found an old coat that he hid .",
        "因为 她 找到 了 一 件 他 藏 的 旧 的 大衣 ， 所以 我 没 卖 一 把 伞 。",
        "0-6 1-7 2-8 3-8 4-9 6-13 7-14 8-12 9-10 11-11 14-0 15-2 16-3 17-4 19-5 20-15",
        "5-9 5-11 10-10 12-6 13-6 15-1 18-4 18-5",
    ),
    (
        Sentence(
            Clause(
                "we",
                "see",
                Phrase("ten", "dictionary"),
                "in Beijing",
                "next week",
                True,
                True,
                True,
            )
        ),
        "next week we will not see ten dictionaries in Beijing .",
        "我们 下周 不 会 在 北京 看见 十 本 词典 。",
        "0-2 1-1 2-4 3-3 4-8 5-9 6-5 7-6 9-7 10-10",
        "1-0 8-6 8-7",
    ),
]


def links(text):
    return {tuple(map(int, pair.split("-"))) for pair in text.split()}


@check
def sentences_by_hand(api):
    for sentence, english, chinese, sure, possible in BY_HAND:
        pair = api.grammar.render(sentence)
        assert " ".join(pair.source) == english
        assert " ".join(pair.target) == chinese
        assert pair.sure == links(sure)
        assert pair.possible == links(sure) | links(possible)


def words_that_meet(source):
    """The verbs and adjectives with their nouns, read off the English words alone."""
    grammar = translation_grammar
    verb_of = {form: verb for verb, (past, _) in grammar.VERBS.items() for form in (verb, past)}
    noun_of = {noun: noun for noun in grammar.NOUNS}
    noun_of |= {noun + "s": noun for noun in grammar.NOUNS} | {"dictionaries": "dictionary"}
    met = set()
    for j, word in enumerate(source):
        if word not in noun_of:
            continue
        noun, first = noun_of[word], j - 1
        if source[first] in grammar.ADJECTIVES:
            met.add((source[first], noun))
            first -= 1
        met.add((verb_of[source[first - 1]], noun))
        if source[j + 1] == "that":
            met.add((next(verb_of[w] for w in source[j + 2 :] if w in verb_of), noun))
    return met


def times_and_places(source):
    """The pairs of a time and a place that stand in one clause."""
    text = " ".join(source)
    clauses = text.split(" because ")
    return {
        (time, place)
        for clause in clauses
        for time in translation_grammar.PAST | translation_grammar.FUTURE
        for place in translation_grammar.PLACES
        if time in clause and place in clause
    }


@check
def combinations_are_those_of_the_words(api):
    rng = np.random.default_rng(0)
    for _ in range(300):
        sentence = api.grammar.draw_sentence(rng)
        source = api.grammar.render(sentence).source
        assert sentence.combinations() == words_that_meet(source) | times_and_places(source)


@check
def the_parts_share_no_combination_of_their_own(api):
    parts = api.data.load_parts(sizes={"training": 300, "validation": 40, "test": 40, "longer": 10})
    owned = api.data.combinations_by_part()
    for one, other in itertools.combinations(owned, 2):
        assert not owned[one] & owned[other]
    every = sum(len(pairs) for pairs in api.data.COMBINATIONS.values())
    assert sum(map(len, owned.values())) == every
    sources = collections.Counter()
    for part, members in parts.items():
        own = owned["test" if part == "longer" else part]
        for _, pair in members:
            sources[pair.source] += 1
            met = words_that_meet(pair.source) | times_and_places(pair.source)
            assert met & own
            assert met <= own | owned["training"]
            assert (len(pair.source) > api.data.LONGEST) == (part == "longer")
    assert set(sources.values()) == {1}


@check
def numbers_are_cut_into_words(api):
    for number in [1, 11, 17, 21, 99, 100, 101, 423, 1000, 1001, 21_021, 999_999]:
        pair = api.data.number_pair(number)
        assert "".join(pair.target) == num2words(number, lang="de")
        spoken = num2words(number).replace("-", " ").replace(",", "").replace(" and ", " ")
        assert " ".join(pair.source) == spoken
    assert api.data.number_pair(423).target == ("vier", "hundert", "drei", "und", "zwanzig")


@long_check
def the_parts_of_the_numbers_are_apart(api):
    parts = api.data.load_numbers()
    sources = {part: {pair.source for pair in pairs} for part, pairs in parts.items()}
    assert sum(map(len, sources.values())) == sum(map(len, parts.values()))
    assert len(set.union(*sources.values())) == sum(map(len, sources.values()))
    known = {word for source in sources["training"] for word in source}
    assert all(set(source) <= known for source in sources["larger"])
    assert all("thousand" in source[:-1] for source in sources["larger"])


@check
def what_is_encoded_is_decoded(api):
    vocabulary = api.data.Vocabulary([("b", "a"), ("c",)])
    rows = vocabulary.encode([("a", "b"), ("c",)], framed=True)
    assert rows.tolist() == [[1, 3, 4, 2], [1, 5, 2, 0]]
    assert vocabulary.decode(rows[:, 1:]) == [("a", "b"), ("c",)]


# --- counting --------------------------------------------------------------------------------

SMALL = [
    Pair(("the", "house"), ("das", "Haus")),
    Pair(("the", "book"), ("das", "Buch")),
    Pair(("a", "book"), ("ein", "Buch")),
    Pair(("a", "book", "a"), ("ein", "ein", "Buch")),
]


def model_1_by_loops(pairs, rounds):
    """Brown et al. (1993), word by word; the empty source word is None."""
    table = collections.defaultdict(lambda: 1.0)
    for _ in range(rounds):
        counts = collections.Counter()
        for pair in pairs:
            for target in pair.target:
                total = sum(table[target, source] for source in (None, *pair.source))
                for source in (None, *pair.source):
                    counts[target, source] += table[target, source] / total
        sums = collections.Counter()
        for (_, source), count in counts.items():
            sums[source] += count
        table = collections.defaultdict(
            float, {key: count / sums[key[1]] for key, count in counts.items()}
        )
    return table


@check
def model_1_is_the_one_by_loops(api):
    table = api.models.WordTable(SMALL, rounds=5)
    expected = model_1_by_loops(SMALL, 5)
    for target, source in itertools.product(["das", "ein", "Buch", "Haus"], ["the", "a", "book"]):
        cell = table.probability[table.target.number[target], table.source.number[source]]
        assert cell == pytest.approx(expected[target, source], abs=1e-12)
    empty = table.probability[table.target.number["Buch"], translation_data.PAD]
    assert empty == pytest.approx(expected["Buch", None])
    assert (np.diff(table.log_likelihoods) >= -1e-9).all()


@check
def a_dictionary_holds_several_words_or_none(api):
    pairs = [
        Pair(("he", "bought", "the"), ("er", "hat", "gekauft")),
        Pair(("he", "saw"), ("er", "sah")),
        Pair(("she", "bought"), ("sie", "hat", "gekauft")),
        Pair(("she", "saw", "the"), ("sie", "sah")),
    ]
    dictionary = api.models.WordTable(pairs).dictionary(pairs)
    assert dictionary == {
        "he": ("er",),
        "she": ("sie",),
        "saw": ("sah",),
        "bought": ("hat", "gekauft"),
        "the": (),
    }
    written = api.models.word_by_word([("she", "bought", "the")], dictionary)
    assert written == [("sie", "hat", "gekauft")]


@check
def a_memory_exchanges_what_differs(api):
    memory = api.models.TranslationMemory(SMALL, api.models.WordTable(SMALL))
    assert memory.translate(("the", "house"), exchange=False) == ("das", "Haus")
    assert memory.translate(("a", "house"), exchange=False) in {("das", "Haus"), ("ein", "Buch")}
    assert memory.translate(("a", "house"), exchange=True) == ("ein", "Haus")


@check
def alignment_errors_by_hand(api):
    pair = Pair(("a", "b", "c"), ("x", "y"), frozenset({(0, 0)}), frozenset({(0, 0), (1, 1)}))
    rate = api.models.alignment_error_rate
    assert rate([pair], [{(0, 0), (1, 1)}]) == 0
    assert rate([pair], [{(0, 0)}]) == 0
    assert rate([pair], [{(0, 2), (1, 0)}]) == 1
    assert rate([pair], [{(1, 1)}]) == pytest.approx(1 - (0 + 1) / (1 + 1))
    assert rate([pair, pair], [{(0, 0)}, {(0, 0), (1, 2)}]) == pytest.approx(1 - 4 / 5)


# --- the models ------------------------------------------------------------------------------

CONTEXTS = ["attention", "equal", "last"]
SOURCE = torch.tensor([[3, 4, 5, 6, 7], [8, 3, 4, 0, 0]])
TARGET = torch.tensor([[1, 3, 4, 5], [1, 5, 6, 7]])


def translator(api, context="attention"):
    torch.manual_seed(0)
    return api.models.RecurrentTranslator(9, 8, d_model=6, context=context)


@check
def additive_attention_is_the_packages(api):
    torch.manual_seed(0)
    layer = api.models.AdditiveAttention(5, 6, 7)
    query, memory = torch.randn(3, 5), torch.randn(3, 4, 6)
    mask = torch.tensor([[True] * 4, [True, True, False, False], [True] * 3 + [False]])
    output, weights = layer(query, layer.of_key(memory), memory, mask)
    score = additive(layer.of_query.weight.T, layer.of_key.weight.T, layer.v.weight[0])
    expected = attention(query[:, None], memory, memory, score=score, mask=mask[:, None])
    torch.testing.assert_close(output, expected[0][:, 0])
    torch.testing.assert_close(weights, expected[1][:, 0])


@check
def padding_changes_nothing(api):
    for context in CONTEXTS:
        model = translator(api, context)
        with evaluating(model):
            together = model(SOURCE, TARGET)[1]
            alone = model(SOURCE[1:, :3], TARGET[1:])[0]
        torch.testing.assert_close(together, alone)


@check
def the_future_changes_no_past(api):
    changed = TARGET.clone()
    changed[:, 2] = 7
    for context in CONTEXTS:
        model = translator(api, context)
        with evaluating(model):
            before, after = model(SOURCE, TARGET), model(SOURCE, changed)
        torch.testing.assert_close(before[:, :2], after[:, :2], rtol=0, atol=0)
        assert (before[:, 2] != after[:, 2]).any()


@check
def weights_are_of_the_source(api):
    task = translation_training.Task({}, *(api.data.Vocabulary([tuple("abcdef")]),) * 2)
    pairs = [Pair(tuple("abc"), tuple("fe")), Pair(tuple("defab"), tuple("abc"))]
    torch.manual_seed(0)
    recurrent = api.models.RecurrentTranslator(9, 9, d_model=6)
    for model in (recurrent, Transformer(9, 9, d_model=8, n_heads=2, n_layers=1)):
        rows = translation_training.cross_weights(model, pairs, task)
        assert [row.shape for row in rows] == [(2, 3), (3, 5)]
        for row in rows:
            np.testing.assert_allclose(row.sum(axis=1), 1, rtol=1e-5)
            assert row.std() > 1e-4


@check
def the_ablation_takes_the_weights_and_gives_them_back(api):
    """With equal weights the order of the source's vectors does not matter to the decoder."""
    torch.manual_seed(0)
    for model in (translator(api), Transformer(9, 8, d_model=8, n_heads=2, n_layers=1)):
        with evaluating(model):
            memory, mask = model.encode(SOURCE[:1])
            turned = memory.clone()
            turned[:, 1:4] = memory[:, [3, 1, 2]]  # the ends stay: a GRU begins with one of them
            before, _ = model.decode(TARGET[:1], memory, mask)
            with api.training.without_weights(model):
                equal, _ = model.decode(TARGET[:1], memory, mask)
                other, _ = model.decode(TARGET[:1], turned, mask)
            after, _ = model.decode(TARGET[:1], memory, mask)
        torch.testing.assert_close(equal, other)
        assert (equal - before).abs().max() > 1e-4
        torch.testing.assert_close(before, after, rtol=0, atol=0)


# --- the scores ------------------------------------------------------------------------------


@check
def scores_by_hand(api):
    pairs = [Pair((), ("我", "买", "书")), Pair((), ("你", "卖", "书"))]
    outputs = [("我", "买", "书"), ("你", "买", "书")]
    scores = api.results.text_scores(outputs, pairs)
    assert scores["exact match"] == 0.5
    perfect = api.results.text_scores([pair.target for pair in pairs] * 4, pairs * 4)
    assert perfect["chrF"] == pytest.approx(100)
    assert 0 < scores["chrF"] < 100
    long = [Pair((), ("图书馆", "在", "北京"))]
    assert api.results.text_scores([("图书", "馆在", "北京")], long)["BLEU"] == pytest.approx(100)


@check
def lengths_have_bins_of_their_own(api):
    pairs = [Pair(("w",) * n, ("x",) * n) for n in (5, 7, 8, 26)]
    outputs = [pairs[0].target, (), pairs[2].target, pairs[3].target]
    assert api.results.by_length(outputs, pairs) == [0.5, 1.0, None, None, None, 1.0]


@check
def each_target_word_is_linked_once(api):
    weights = [np.array([[0.1, 0.9, 0.0], [0.2, 0.7, 0.1]])]
    assert api.results.links_of(weights) == [{(0, 1), (1, 1)}]


@check
def a_measure_words_question_by_hand(api):
    pair = translation_grammar.render(BY_HAND[0][0])
    rows = np.full((len(pair.target), len(pair.source)), 0.0)
    rows[8, 3], rows[8, 5], rows[8, 0] = 0.2, 0.7, 0.1  # 本 asks "two", "books", "my"
    asks = api.results.what_measure_words_ask([rows], [pair])
    assert asks == pytest.approx({"number": 0.2, "noun": 0.7, "elsewhere": 0.1})


# --- broken versions -------------------------------------------------------------------------

BROKEN = {  # the first fails the check that takes longest, which then runs only if needed
    "numbers trained and tested": ("data", "numbers[1500:]}", "numbers[1300:]}"),
    "half right is right": ("results", "output == pair.target", "output[1:] == pair.source"),
    "time behind place": ("grammar", "*time, *tense, *where", "*tense, *where, *time"),
    "possible links called sure": ("grammar", "for i, (_, links, _) in", "for i, (_, _, links) in"),
    "relative clause not counted": (
        "grammar",
        "            if clause.things.relative:\n                found",
        "            if not clause:\n                found",
    ),
    "test's combinations in training": ("data", "shuffled[begin:end]", "shuffled[begin : end + 5]"),
    "validation mixed with test": ("data", "if len(owners) > 1 or sentence", "if sentence"),
    "a piece of a number lost": ("data", "german[len(piece) :]", "german[len(piece) + 1 :]"),
    "end not obeyed": ("data", "token != END, row", "True, row"),
    "shares over the wrong axis": ("models", "likely.sum(axis=2", "likely.sum(axis=1"),
    "table normalised by target": (
        "models",
        "sums = counts.sum(axis=0)",
        "sums = counts.sum(axis=1, keepdims=True)",
    ),
    "the dictionary has one word each": ("models", "for i in linked)]", "for i in linked[:1])]"),
    "exchanges what agrees": ("models", "if exchange and old != new", "if exchange and old == new"),
    "error rate without the possible": ("models", "len(links & pair.possible)", "0"),
    "mask turned round": ("models", "masked_fill(~mask", "masked_fill(mask"),
    "softmax over the batch": ("models", "scores.softmax(dim=-1)", "scores.softmax(dim=0)"),
    "weights always equal": ("models", "self.v(hidden)[..., 0]", "(0 * self.v(hidden))[..., 0]"),
    "reads the padding": (
        "models",
        "embedded, mask.sum(dim=1)",
        "embedded, 0 * mask.sum(dim=1) + mask.shape[1]",
    ),
    "the end read at the padding": ("models", "mask.sum(dim=1) - 1", "0 * mask.sum(dim=1) - 1"),
    "the answer leaks": ("models", "embedded.unbind(dim=1)", "embedded.roll(-1, 1).unbind(dim=1)"),
    "ablation does nothing": ("training", 'model.context = "equal"', "pass"),
    "ablation never ends": ("training", "model.context = context", "pass"),
    "bins without an end": ("results", "<= high\n        ]", "\n        ]"),
    "links asked of the source": ("results", "rows.argmax(axis=1)", "rows.argmax(axis=0)"),
    "number and noun change places": ("results", "number, noun = sort", "noun, number = sort"),
    "BLEU of words": ("results", 'tokenize="zh"', 'tokenize="none"'),
}


class TestTranslation(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


# --- errors ----------------------------------------------------------------------------------

I_SOLD_IT = Clause("I", "sell", Phrase("a", "book"))
ERRORS = {
    "negative question": (
        lambda: translation_grammar.render(
            Sentence(Clause("I", "sell", Phrase("a", "book"), negative=True), question=True)
        ),
        "^a question must be positive and without a reason$",
    ),
    "a question and its reason": (
        lambda: translation_grammar.render(Sentence(I_SOLD_IT, question=True, reason=I_SOLD_IT)),
        "^a question must be positive and without a reason$",
    ),
    "sold tomorrow": (
        lambda: translation_grammar.render(
            Sentence(Clause("I", "sell", Phrase("a", "book"), time="tomorrow"))
        ),
        "^time must fit the tense; got 'tomorrow', future=False$",
    ),
    "a million": (
        lambda: translation_data.number_pair(1_000_000),
        "^number must be from 1 to 999,999; got 1000000$",
    ),
    "unknown word": (
        lambda: translation_data.Vocabulary([("a",)]).encode([("a", "b")]),
        r"^texts must hold known words only; got \['b'\]$",
    ),
    "context": (
        lambda: translation_models.RecurrentTranslator(5, 5, context="first"),
        "^context must be 'attention', 'equal' or 'last'; got 'first'$",
    ),
    "rounds": (
        lambda: translation_models.WordTable(SMALL, rounds=0),
        "^rounds must be at least 1; got 0$",
    ),
    "a set too few": (
        lambda: translation_models.alignment_error_rate(SMALL[:1], []),
        "^found must have one set for each of 1 pairs; got 0$",
    ),
    "no links": (
        lambda: translation_models.alignment_error_rate(SMALL[:1], [set()]),
        "^there is no link, neither found nor true$",
    ),
    "no such system": (
        lambda: translation_training.build("Babel fish", None),
        r"^name must be one of \[\"Bahdanau's model\", .*; got 'Babel fish'$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_is_wrong(name):
    call, message = ERRORS[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_the_loss_of_a_batch_does_not_see_common_padding():
    model = translator(rewritten(MODULES, BROKEN)(None))
    wide = [torch.nn.functional.pad(rows, (0, 3)) for rows in (SOURCE, TARGET)]
    with evaluating(model):
        losses = [
            translation_training.batch_loss(model, *rows) for rows in ((SOURCE, TARGET), wide)
        ]
    torch.testing.assert_close(*losses)
    assert 0.5 < float(losses[0]) / math.log(8) < 2


def test_a_translator_learns_to_turn_round():
    """Trained a moment on pairs turned round, it writes new ones, and looks where it should."""
    rng = np.random.default_rng(0)
    rows = {tuple(rng.permutation(6)[:4].tolist()) for _ in range(300)}
    pairs = [
        Pair(tuple(f"s{i}" for i in row), tuple(f"t{i}" for i in reversed(row)))
        for row in sorted(rows)
    ]
    rng.shuffle(pairs)
    training, test = pairs[:160], pairs[160:200]
    vocabularies = [
        translation_data.Vocabulary(getattr(pair, side) for pair in training)
        for side in ("source", "target")
    ]
    task = translation_training.Task({"training": training}, *vocabularies)
    model = translation_training.fit(0, name=translation_training.BAHDANAU, task=task, steps=60)
    written = translation_training.translate(model, [pair.source for pair in test], task)
    assert np.mean(translation.right(written, test)) > 0.7
    true = [{(i, 3 - i) for i in range(4)}] * len(test)
    found = translation.links_of(translation_training.cross_weights(model, test, task))
    assert np.mean([len(a & b) / 4 for a, b in zip(found, true, strict=True)]) > 0.7
