"""Language models: texts of other libraries, n-grams that add up, nothing sees what follows."""

import collections
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attn_tutorial.applications.language_model import baselines as lm_baselines
from attn_tutorial.applications.language_model import data as lm_data
from attn_tutorial.applications.language_model import experiment as lm_experiment
from attn_tutorial.applications.language_model import looking as lm_looking
from attn_tutorial.applications.language_model import models as lm_models
from attn_tutorial.applications.language_model import sampling as lm_sampling
from attn_tutorial.applications.language_model import training as lm_training
from attn_tutorial.language_model import generate
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {
    "data": lm_data,
    "baselines": lm_baselines,
    "models": lm_models,
    "sampling": lm_sampling,
    "training": lm_training,
    "looking": lm_looking,
    "experiment": lm_experiment,
}
TEXT = (
    "Sort an array along an axis.\n\nParameters\n----------\naxis : int\n    The axis to sort.\n"
    "Return the sorted array, an array of the same shape and of the same type.\n"
    "The array that is sorted is not changed; a copy of the array is sorted and returned.\n"
)
TOKENS = np.array(lm_data.Characters().encode(TEXT))
N_TOKENS = len(lm_data.Characters())
PAIRS = lm_data.BytePairs([TEXT], 130)
RANDOM = np.random.default_rng(0).integers(0, 5, 400)  # a text of five tokens

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def document(text, library):
    return lm_data.Document(text, library)


def small(api, kind="Transformer", n_tokens=N_TOKENS):
    """An untrained model, its attention far from equal."""
    model = api.models.build(kind, n_tokens, 0)
    for layer in getattr(model, "layers", []):
        with torch.no_grad():
            layer.attention.query.weight *= 8
    return model.eval()


# --- texts -----------------------------------------------------------------------------------


@check
def parts_have_other_libraries_and_other_lines(api):
    one, two, three, four = (f"This is line {n} of all the lines." for n in "abcd")
    documents = [
        document(f"{one}\n{two}", "scipy"),  # one of its two lines is tested on
        document(f"{one}\n{two}\n{three}", "scipy"),  # two of three are new
        document(two, "pandas"),
        document(one, "numpy"),
        document(one, "networkx"),  # a copy
        document("Short.", "numpy"),
        document(f"{four} \N{GREEK SMALL LETTER ALPHA}", "numpy"),
    ]
    parts = api.data.split(documents)
    assert list(parts) == ["training", "validation", "test"]
    assert parts["test"] == [documents[3]]
    assert parts["validation"] == [documents[2]]
    assert parts["training"] == []  # now two lines of three are old
    assert api.data.split([*documents[:2], documents[3]])["training"] == [documents[1]]


@check
def beginnings_are_whole_lines(api):
    assert api.data.beginning("ab\ncd\nef", 8) == "ab\ncd\nef"
    assert api.data.beginning("ab\ncd\nef", 7) == "ab\ncd"
    assert api.data.beginning("ab\ncd\nef", 5) == "ab\ncd"
    assert api.data.beginning("abcdef", 4) == ""


@check
def tokens_give_the_text_back(api):
    documents = [document(TEXT, "numpy"), document("a\n    b", "numpy")]
    for tokens in (api.data.Characters(), api.data.BytePairs([TEXT], 130)):
        numbers = api.data.stream(documents, tokens)
        assert "".join(tokens.pieces(numbers.tolist())) == TEXT + "a\n    b"
        ends = np.flatnonzero(numbers == lm_data.END)
        assert len(ends) == 2
        assert ends[-1] == len(numbers) - 1
        assert 0 < numbers.max() < len(tokens)
    assert len(numbers) < api.data.n_characters(documents) == len(TEXT) + 9
    part = api.training.Part(documents, numbers)
    np.testing.assert_array_equal(part.document_of, [0] * (ends[0] + 1) + [1] * (ends[1] - ends[0]))


@check
def windows_share_only_their_ends(api):
    found = api.training.windows(np.arange(12), 4)
    assert found.tolist() == [[0, 1, 2, 3, 4], [4, 5, 6, 7, 8]]


# --- counting --------------------------------------------------------------------------------


class Slow:
    """N-grams with dictionaries, as the definition says."""

    def __init__(self, tokens, n_tokens, order, method):
        self.n_tokens, self.method = n_tokens, method
        padded = (0,) * (order - 1) + tuple(tokens)
        grams = [padded[i : i + order] for i in range(len(tokens))]
        self.counts = {order: collections.Counter(grams)}
        for length in range(order - 1, 0, -1):
            longer = self.counts[length + 1]
            shorter = collections.Counter()
            for gram, count in longer.items():
                shorter[gram[1:]] += 1 if method == "Kneser-Ney" else count
            self.counts[length] = shorter

    def __call__(self, context, token):
        if len(context) == len(self.counts):
            context = context[1:]
        length = len(context) + 1
        counts = self.counts[length]
        lower = self(context[1:], token) if context else 1 / self.n_tokens
        followers = {gram: n for gram, n in counts.items() if gram[:-1] == context}
        if not followers:
            return lower
        total, count = sum(followers.values()), followers.get((*context, token), 0)
        if self.method == "Witten-Bell":
            return (count + len(followers) * lower) / (total + len(followers))
        cut = self.discounts(counts)
        left = sum(cut[min(n, 3) - 1] for n in followers.values())
        return (count - (cut[min(count, 3) - 1] if count else 0) + left * lower) / total

    @staticmethod
    def discounts(counts):
        n1, n2, n3, n4 = (sum(c == k for c in counts.values()) for k in (1, 2, 3, 4))
        if 0 in (n1, n2, n3, n4):
            return [0.5] * 3
        y = n1 / (n1 + 2 * n2)
        cut = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
        return [min(max(c, 0), k) for k, c in enumerate(cut, 1)]


@check
def ngrams_are_those_of_the_definition(api):
    for tokens, n, orders in ((RANDOM, 5, (1, 2, 4)), (TOKENS, N_TOKENS, (3,))):
        unseen = np.random.default_rng(1).permutation(tokens)[:12]
        for order, method in itertools.product(orders, lm_baselines.METHODS):
            fast, slow = (of(tokens, n, order, method) for of in (api.baselines.NGrams, Slow))
            padded = (0,) * (order - 1) + tuple(unseen)
            wanted = [slow(padded[i : i + order - 1], unseen[i]) for i in range(len(unseen))]
            np.testing.assert_allclose(fast.probabilities(unseen), wanted)


@check
def ngrams_sum_to_one_behind_any_context(api):
    for order, method in itertools.product((1, 2, 5), lm_baselines.METHODS):
        model = api.baselines.NGrams(TOKENS, N_TOKENS, order, method)
        for context in (TOKENS[:40], TOKENS[:1], TOKENS[:0], np.full(9, 96)):
            chances = model.distribution(context)
            assert chances.sum() == pytest.approx(1)
            assert (chances > 0).all()
        following = model.distribution(TOKENS[:40])[TOKENS[40]]
        assert following == pytest.approx(model.probabilities(TOKENS[:41])[-1])


@check
def discounts_by_hand(api):
    counts = np.array([1] * 8 + [2] * 4 + [3] * 2 + [4])  # n1 = 8, n2 = 4, n3 = 2, n4 = 1
    np.testing.assert_allclose(api.baselines.discounts(counts), [0.5, 1.25, 2.0])
    np.testing.assert_allclose(api.baselines.discounts(counts[1:9]), 0.5)


@check
def a_compressor_pays_little_for_what_it_has_seen(api):
    noise = "".join(map(chr, np.random.default_rng(0).integers(33, 127, 3000)))
    for name in ("gzip", "bzip2"):  # xz is slow to begin
        seen, new = (api.baselines.compressed_bits(name, text, noise) for text in (noise, TEXT))
        assert seen < 0.7 * new if name != "bzip2" else seen < new
        assert new > 6 * len(noise)


@check
def a_share_of_the_training_part_is_evenly_chosen(api):
    documents = [document(letter, "scipy") for letter in "abcdefgh"]
    tokens = lm_data.Characters()
    part = api.training.Part(documents, api.data.stream(documents, tokens))
    data = SimpleNamespace(parts={"training": part}, tokens=tokens)
    for share, wanted in ((1, "abcdefgh"), (0.5, "bdfh"), (0.25, "dh")):
        level = api.experiment.ngrams(data, 1, share=share).levels[0]
        seen = tokens.pieces(level.grams.tolist())
        assert "".join(seen) == wanted


# --- predicting ------------------------------------------------------------------------------


@check
def no_probability_depends_on_what_follows(api):
    for kind in lm_models.KINDS:
        model = small(api, kind)
        changed = TOKENS.copy()
        changed[150:] = 5
        before, after = (api.training.probabilities(model, t) for t in (TOKENS, changed))
        np.testing.assert_allclose(after[:150], before[:150], rtol=1e-4)
        assert np.abs(np.log(after[150:] / before[150:])).max() > 0.1


@check
def probabilities_are_those_of_each_next_token(api):
    model = small(api)
    found = api.training.probabilities(model, TOKENS, length=16)
    for i in (0, 1, 7, 8, 15, 16, 23, 24, 100, len(TOKENS) - 1):
        begin = max(i // 8 - 1, 0) * 8  # of the window; in front of the text stands END
        seen = np.concatenate([[lm_data.END], TOKENS])[begin : i + 1]
        assert len(seen) >= min(i + 1, 9)
        with torch.no_grad():
            chances = model(torch.from_numpy(seen)[None])[0][0, -1].softmax(-1)
        assert chances.sum() == pytest.approx(1, abs=1e-5)
        assert found[i] == pytest.approx(chances[TOKENS[i]].item(), rel=1e-3)
    assert found.shape == TOKENS.shape


@check
def equal_weights_change_what_is_predicted(api):
    model = small(api)
    plain, equal = (api.training.probabilities(model, TOKENS, equal=e) for e in (False, True))
    assert np.abs(np.log(equal / plain)).max() > 0.1
    np.testing.assert_array_equal(api.training.probabilities(model, TOKENS), plain)


@check
def bits_do_not_depend_on_how_a_text_is_cut(api):
    """Where each token costs eight bits a character, so does the text."""
    documents = [document(TEXT, "numpy"), document("axis", "numpy")]
    for tokens in (lm_data.Characters(), PAIRS):
        part = api.training.Part(documents, api.data.stream(documents, tokens))
        lengths = [max(len(piece), 1) for piece in tokens.pieces(part.tokens.tolist())]
        chances = 0.5 ** (8 * np.array(lengths, dtype=float))
        assert api.training.bits_per_character(chances, part) == pytest.approx(8)
        np.testing.assert_allclose(
            api.training.bits_of_documents(chances, part), [8 * (len(TEXT) + 1), 40]
        )
        some = np.arange(len(chances)) < 3
        assert api.looking.bits_of(chances, some, part, tokens) == pytest.approx(8)


@check
def the_rate_rises_and_falls_in_straight_lines(api):
    rate = api.training.linear_decay(10)
    found = [rate(step, peak=6.0, warm_up=4) for step in range(1, 11)]
    np.testing.assert_allclose(found, [1.5, 3, 4.5, 6, *6 * np.arange(6, 0, -1) / 7])


@check
def the_mixture_is_the_best_on_the_validation_part(api):
    one = document("axis", "numpy")
    part = api.training.Part([one], api.data.stream([one], lm_data.Characters()))
    data = SimpleNamespace(parts={"validation": part, "test": part})
    ours, theirs = np.array([0.9, 0.1, 0.5, 0.5, 0.5]), np.array([0.1, 0.6, 0.5, 0.5, 0.5])
    kept = lm_experiment.Kept(chances={"validation": [ours, theirs], "test": [theirs, ours]})
    found = api.experiment.mixture(kept, {"validation": theirs, "test": ours}, data)
    # The derivative of log(0.1 + 0.8 s) + log(0.6 - 0.5 s) is zero at s = 0.5375.
    assert found["share"] == [pytest.approx(0.55), 0.0]
    mixed = 0.55 * theirs + 0.45 * ours
    bits = found["bits per character"]
    assert bits == [
        pytest.approx(-np.log2(mixed).sum() / 5),
        pytest.approx(-np.log2(ours).sum() / 5),
    ]


# --- writing ---------------------------------------------------------------------------------


@check
def truncated_scores_by_hand(api):
    scores = torch.tensor([[0.1, 0.5, 0.15, 0.25], [0.25, 0.25, 0.25, 0.25]]).log()
    kept = {
        (1, None): [[1], [0]],
        (2, None): [[1, 3], [0, 1]],
        (None, 0.5): [[1], [0, 1]],
        (None, 0.6): [[1, 3], [0, 1, 2]],
        (None, 1.0): [[0, 1, 2, 3], [0, 1, 2, 3]],
        (2, 0.9): [[1, 3], [0, 1]],
    }
    for (n_best, nucleus), wanted in kept.items():
        found = api.sampling.truncated(scores, n_best=n_best, nucleus=nucleus)
        assert [row.isfinite().nonzero()[:, 0].tolist() for row in found] == wanted
        torch.testing.assert_close(found[found.isfinite()], scores[found.isfinite()])


@check
def sampling_is_that_of_the_package_where_nothing_is_cut(api):
    model = small(api)
    prompt = torch.from_numpy(TOKENS[:12].reshape(2, 6))
    for temperature in (0.5, 1.0):
        one, other = (
            write(model, prompt, n_new=6, temperature=temperature, generator=generator)
            for write, generator in (
                (api.sampling.sample, torch.Generator().manual_seed(3)),
                (generate, torch.Generator().manual_seed(3)),
            )
        )
        assert torch.equal(one, other)
    greedy = generate(model, prompt, n_new=6)
    assert torch.equal(api.sampling.sample(model, prompt, n_new=6, n_best=1), greedy)
    for way in lm_looking.WAYS:
        written = api.looking.written(model, prompt, way, n_new=6, seed=3)
        assert written.shape == (2, 6)
        assert torch.equal(written, greedy[:, 6:]) == (way == "greedy")


@check
def repetition_by_hand(api):
    assert api.sampling.repeated([1, 2, 3, 4, 5]) == 0
    assert api.sampling.repeated([7] * 13) == pytest.approx(0.9)  # ten 4-grams, all the same
    assert api.sampling.repeated([1, 2, 1, 2, 1], length=2) == pytest.approx(0.5)


@check
def prompts_begin_where_documents_begin(api):
    texts = ["ab", "Sort it along", "c", "Sum it all up"]
    documents = [document(text, "numpy") for text in ["x", *texts]]
    part = api.training.Part(documents, api.data.stream(documents, lm_data.Characters()))
    found = api.looking.prompts(part, 5, 4)
    pieces = ["".join(lm_data.Characters().pieces(row)) for row in found.tolist()]
    assert pieces == ["Sor", "Sum"]
    assert (found[:, 0] == lm_data.END).all()


# --- looking ---------------------------------------------------------------------------------


@check
def kinds_of_keys_by_hand(api):
    pieces = ["", "a", "b", "\n  "]
    kinds = api.looking.kinds_of_keys(torch.tensor([[1, 3, 2, 1, 2]]), pieces)
    found = {kind: list(zip(*np.nonzero(mask[0]), strict=True)) for kind, mask in kinds.items()}
    assert found == {
        "itself": [(i, i) for i in range(5)],
        "the token before": [(i, i - 1) for i in range(1, 5)],
        "line breaks": [(i, 1) for i in range(1, 5)],
        "same token": [(3, 0), (4, 2)],
        "behind the same token": [(3, 1), (4, 3)],
    }


@check
def shares_of_equal_weights_are_how_many_keys_there_are(api):
    model = small(api, n_tokens=4)
    tokens = torch.from_numpy(RANDOM[:40].reshape(2, 20) % 4)
    found = api.looking.head_shares(model, tokens, ["", "a", "b", "\n"])
    last = 1 / np.arange(11, 21)  # what a key gets from the later half of the queries
    assert found["itself"][-1] == [pytest.approx(last.mean())]
    assert found["the token before"][-1] == [pytest.approx(last.mean())]
    assert [len(layer) for layer in found["itself"]] == [4, 4, 1]
    model.layers[0].attention.query.weight.data.zero_()  # its biases are zero already
    equal = api.looking.head_shares(model, tokens, ["", "a", "b", "\n"])
    for layers in equal.values():
        np.testing.assert_allclose(layers[0], layers[-1] * 4, rtol=1e-4)


@check
def new_words_by_hand(api):
    one = document("zorn axis zorn lemma a" + " b" * 80 + " zorn", "numpy")
    part = api.training.Part([one], api.data.stream([one], lm_data.Characters()))
    found = api.looking.new_words(part, lm_data.Characters(), {"axis", "lemma"})
    first, again = (np.flatnonzero(found[name]) for name in ("first time", "repeated"))
    assert again.tolist() == [10, 11, 12, 13]
    assert first.tolist() == [0, 1, 2, 3, *range(183, 187)]  # the last one is too far away


BROKEN = {
    "training sees lines of the test": ("data", "seen |= lines", "seen = set()"),
    "a random half is enough": ("data", "2 * len(lines - seen) > len(lines)",
                                "2 * len(lines - seen) >= len(lines)"),
    "half a line": ("data", '"\\n", 0, longest + 1)', '"", 0, longest + 1)'),
    "no end behind a text": ("data", "[*tokens.encode(document.text), END]",
                             "tokens.encode(document.text)"),
    "windows of their own": ("training", "length + 1)[::length]", "length + 1)[::length + 1]"),
    "an end belongs to the next text": ("training", "ends.cumsum() - ends", "ends.cumsum()"),
    "counts instead of contexts": ("baselines", "np.ones_like(counts) if", "counts if"),
    "nothing is taken away": ("baselines", "Level(grams, counts - cut,", "Level(grams, counts,"),
    "nothing left for new contexts": ("baselines", "context, 1.0)  # all, where it is new",
                                      "context, 0.0)"),
    "discounts of the order above": ("baselines", "n[1:] / n[:-1]", "n[:-1] / n[1:]"),
    "the training text is not there": ("baselines", "(training + test, training)", "(test, '')"),
    "the token itself as context": ("training", "logits, _ = model(batch[:, :-1])",
                                    "logits, _ = model(batch[:, 1:])"),
    "the first half of a window counts": ("training", "losses[:, half:].ravel()",
                                          "losses[:, :half].ravel()"),
    "equal weights in any case": ("training", "if equal else contextlib.nullcontext()",
                                  ""),
    "equal weights never": ("training", "uniform_weights(model) if equal else ", ""),
    "bits of a token": ("training", "/ part.n_characters)", "/ len(chances))"),
    "a rate that does not fall": ("training", "peak * min(", "peak * max("),
    "the first share of the texts": ("experiment", "np.diff(steps) > 0",
                                     "np.arange(len(steps) - 1) < steps[-1]"),
    "the mixture chosen on the test part": ("experiment", '+ (1 - share) * counted["validation"]',
                                            '+ (1 - share) * counted["test"]'),
    "the nucleus without its last token": ("sampling", "chances.cumsum(dim=-1) - chances < nucleus",
                                           "chances.cumsum(dim=-1) < nucleus"),
    "scores in the wrong order": ("sampling", "1, order, ordered", "1, order.argsort(-1), ordered"),
    "a cache that is not used": ("sampling", "model(new, caches=caches)", "model(new)"),
    "the temperature turned round": ("sampling", "/ temperature, n_best", "* temperature, n_best"),
    "different instead of repeated": ("sampling", "1 - len(set(grams)) / len(grams)",
                                      "len(set(grams)) / len(grams)"),
    "prompts that begin behind the end": ("looking", "starts[:, None] + np.arange(length)",
                                          "1 + starts[:, None] + np.arange(length)"),
    "queries and keys exchanged": ("looking", "np.tri(n, k=-1, dtype=bool)",
                                   "np.tri(n, k=-1, dtype=bool).T"),
    "the first half of the queries": ("looking", "[..., half:].mean", "[..., :half].mean"),
    "no word is too far away": ("looking", "begin - last[word] <= NEAR", "begin >= 0"),
    "a word is its first character": ("looking", "[begin:end] = True", "[begin] = True"),
    "bits of all tokens": ("looking", "np.log2(chances[chosen])", "np.log2(chances)"),
}  # fmt: skip


class TestLanguageModel(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


def a_little_data():
    documents = [document(TEXT, "numpy")] * 9
    return lm_training.cut(dict.fromkeys(("training", "test"), documents), PAIRS)


@pytest.mark.parametrize("kind", lm_models.KINDS)
def test_training_lowers_the_loss_and_is_a_function_of_the_seed(kind):
    data = a_little_data()
    _, history = lm_training.fit(kind, 0, data, steps=10)
    assert history.losses[0] == pytest.approx(np.log(len(PAIRS)), abs=1.0)
    assert history.losses[-1] < 0.9 * history.losses[0]
    one, other = (lm_training.fit(kind, s, data, steps=10, stop_after=2)[1] for s in (0, 1))
    assert one.losses == history.losses[:2]
    assert one.losses != other.losses


def test_equal_weights_are_trained_so():
    data = a_little_data()
    plain, equal = (
        lm_training.fit("Transformer", 0, data, equal=e, steps=4)[0].layers[0].attention.query
        for e in (False, True)
    )
    start = lm_models.build("Transformer", len(PAIRS), 0).layers[0].attention.query.weight
    assert not torch.allclose(plain.weight, start, atol=1e-3)
    assert torch.allclose(equal.weight, start, atol=1e-3)  # it only decays


def test_writing_is_timed():
    seconds = lm_looking.seconds_to_write((4, 8), N_TOKENS)
    assert {name: len(times) for name, times in seconds.items()} == {
        "with a cache": 2,
        "without": 2,
    }


def test_people_are_measured_on_pieces_of_the_same_length():
    part = lm_training.Part([document(TEXT, "numpy")], np.array([1, *[7] * 13, *range(20, 33)]))
    assert lm_looking.repeated_by_people(part, 13) == pytest.approx((0.9 + 0) / 2)


MODEL = lm_models.build("Transformer", N_TOKENS, 0)
PROMPT = torch.ones((1, 2), dtype=torch.int64)
RAISES = {
    "characters": (
        lambda: lm_data.Characters().encode("a\tb"),
        r"text must hold characters of ALPHABET; got \['\\t'\]",
    ),
    "few pairs": (lambda: lm_data.BytePairs([TEXT], 50), r"n_tokens must be at least 97; got 50"),
    "order": (
        lambda: lm_baselines.NGrams(TOKENS, N_TOKENS, 10),
        r"order must be at least 1, and 97 \*\* order fit in 63 bits; got 10",
    ),
    "method": (
        lambda: lm_baselines.NGrams(TOKENS, N_TOKENS, 2, "Laplace"),
        r"method must be one of \('Kneser-Ney', 'Witten-Bell'\); got 'Laplace'",
    ),
    "tokens": (
        lambda: lm_baselines.NGrams(TOKENS, 5, 2),
        r"tokens must be one or more numbers from 0 to 4",
    ),
    "compressor": (
        lambda: lm_baselines.compressed_bits("zip", "a", "b"),
        r"compressor must be one of \['gzip', 'bzip2', 'xz'\]; got 'zip'",
    ),
    "kind": (
        lambda: lm_models.build("LSTM", 5, 0),
        r"kind must be one of \('Transformer', 'GRU'\); got 'LSTM'",
    ),
    "chances": (
        lambda: lm_training.bits_per_character(np.ones(3), lm_training.Part([], TOKENS)),
        rf"chances must be one for each of {len(TOKENS)} tokens; got \(3,\)",
    ),
    "best": (
        lambda: lm_sampling.truncated(torch.zeros(1, 3), n_best=0),
        r"n_best must be at least 1; got 0",
    ),
    "nucleus": (
        lambda: lm_sampling.truncated(torch.zeros(1, 3), nucleus=1.5),
        r"nucleus must be a share above 0, at most 1; got 1.5",
    ),
    "temperature": (
        lambda: lm_sampling.sample(MODEL, PROMPT, n_new=1, temperature=0.0),
        r"temperature must be positive; got 0.0",
    ),
    "way": (
        lambda: lm_looking.written(MODEL, PROMPT, "beam", n_new=1, seed=0),
        r"way must be one of \['greedy', .*\]; got 'beam'",
    ),
    "short": (
        lambda: lm_sampling.repeated([1, 2, 3]),
        r"tokens must be 4 or more; got 3",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_errors_name_what_is_wrong(name):
    call, message = RAISES[name]
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
