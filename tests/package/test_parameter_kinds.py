"""The project: its data, its models, its runs and its command line."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attn_tutorial.parameter_kinds import data as data_module
from attn_tutorial.parameter_kinds import model as model_module
from attn_tutorial.parameter_kinds import training as training_module
from attn_tutorial.parameter_kinds.__main__ import main
from attn_tutorial.parameter_kinds.baselines import baselines, fit_baselines, score_baselines
from attn_tutorial.parameter_kinds.data import (
    KINDS,
    PADDING,
    PARTS,
    UNKNOWN,
    Example,
    Vocabulary,
    kind_of,
    labels,
    load_examples,
    split,
    versions,
    words_of,
)
from attn_tutorial.parameter_kinds.training import Settings, load_model, run, scores
from attn_tutorial.training import evaluating
from package.zoo import Zoo, ZooTests, rewritten

OPENINGS = {
    "array": ("array of {}", "vector of {}"),
    "boolean": ("whether to {}", "if true, use {}"),
    "callable": ("function of {}",),
    "float": ("rate of {}", "share of {}"),
    "integer": ("number of {}", "count of {}"),
    "mapping": ("keywords for {}",),
    "string": ("name of {}", "label of {}"),
}
THINGS = [
    "rows",
    "columns",
    "groups",
    "trees",
    "steps",
    "plots",
    "nodes",
    "edges",
    "fits",
    "terms",
    "lags",
    "scores",
]


def examples_for_tests() -> list[Example]:
    """Some invented examples for each library, since reading the true ones takes ten seconds."""
    draw = random.Random(0)
    return [
        Example(draw.choice(openings).format(f"{one} and {other} {library}"), kind, library)
        for libraries in PARTS.values()
        for library in libraries
        for kind, openings in OPENINGS.items()
        for one, other in zip(THINGS, THINGS[1:] + THINGS[:1], strict=True)
    ]


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder in which a run finds the examples for tests instead of those of the libraries."""
    fill(tmp_path)
    return tmp_path


def fill(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    content = {
        "versions": versions(),
        "examples": [asdict(example) for example in examples_for_tests()],
    }
    (folder / "examples.json").write_text(json.dumps(content), encoding="utf8")


QUICK = Settings(d_model=16, steps=60, validate_every=10, checkpoint_every=7, patience=3, warm_up=5)


# The data


@pytest.mark.parametrize(
    ("declared", "kind"),
    [
        ("int", "integer"),
        ("int, optional", "integer"),
        ("int or None, default=None", "integer"),
        ("float, default=1.0", "float"),
        ("bool, default: False", "boolean"),
        ("{'C', 'F'}, optional", "string"),
        ("str", "string"),
        ("callable", "callable"),
        ("dict", "mapping"),
        ("ndarray", "array"),
        ("array_like", "array"),
        ("array-like of int, shape (n,)", "array"),
        ("ndarray of float", "array"),
        ("int or float", None),
        ("str or callable", None),
        ("array_like or int", None),
        ("list of str", None),
        ("tuple of int", None),
        ("{'a', 'b'", None),
        ("object", None),
        ("", None),
        ("interval", None),
        ("Axes, optional (default: an int)", None),
    ],
)
def test_the_kind_is_read_off_the_type(declared, kind):
    assert kind_of(declared) == kind


def test_words_are_lower_case_and_numbers_are_alike():
    assert words_of("If True, use 12.5 of `n_jobs`.") == [
        *("if", "true", ",", "use", "0", "of", "`", "n_jobs", "`", "."),
    ]


def test_a_docstring_is_read(monkeypatch):
    text = (
        "Sort.\n\nParameters\n----------\naxis : int, optional\n    The axis to sort along.\n"
        "a, b : list\n    Left out, since a list is no kind.\nkind : str\n    Short.\n"
    )
    monkeypatch.setattr(data_module, "docstrings", lambda module: iter([text]))
    assert data_module.read_library("numpy") == [
        Example("The axis to sort along.", "integer", "numpy")
    ]


@pytest.fixture(scope="module")
def true_examples(tmp_path_factory):
    return load_examples(tmp_path_factory.mktemp("true") / "examples.json")


def test_every_library_gives_examples(true_examples):
    parts = split(true_examples)
    for name, examples in parts.items():
        assert len(examples) > 1500
        assert {example.library for example in examples} == set(PARTS[name])
        assert {example.kind for example in examples} == set(KINDS)


def test_the_parts_share_no_library_and_no_text(true_examples):
    parts = split(true_examples)
    texts = {
        name: [tuple(words_of(example.text)) for example in examples]
        for name, examples in parts.items()
    }
    for of_part in texts.values():
        assert len(set(of_part)) == len(of_part)
    names = list(texts)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not set(texts[names[one]]) & set(texts[names[other]])
        assert not set(PARTS[names[one]]) & set(PARTS[names[other]])


def test_some_known_parameters_are_among_them(true_examples):
    """From NumPy's and scikit-learn's documentation, as anybody may read it there."""
    kinds = {(example.library, example.text[:40]): example.kind for example in true_examples}
    assert kinds["numpy", "Number of samples to generate. Default i"] == "integer"
    assert kinds["scikit-learn", "The maximum depth of the tree. If None, "] == "integer"


def test_a_text_of_two_kinds_is_left_out_and_the_test_part_keeps_its_texts():
    made = [
        Example("The same words here", "integer", "scipy"),
        Example("the same WORDS here", "float", "scipy"),
        Example("In both parts 1", "integer", "scipy"),
        Example("in both parts 2", "integer", "numpy"),
        Example("Only in training", "string", "scipy"),
        Example("Only in training", "string", "scikit-learn"),
    ]
    parts = split(made)
    assert [example.text for example in parts["training"]] == ["Only in training"]
    assert [example.text for example in parts["test"]] == ["in both parts 2"]
    assert parts["validation"] == []


def test_a_cache_of_other_versions_is_refused(folder):
    assert load_examples(folder / "examples.json") == examples_for_tests()
    content = json.loads((folder / "examples.json").read_text())
    content["versions"]["numpy"] = "0.1"
    (folder / "examples.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"made from .*'numpy': '0.1'.*installed are"):
        load_examples(folder / "examples.json")


def test_the_vocabulary_knows_what_training_uses_twice():
    vocabulary = Vocabulary(["a b", "a c", "c"])
    assert vocabulary.words == ["a", "c"]
    assert len(vocabulary) == 4
    tokens = vocabulary.encode(["a b c", "c"], length=2)
    assert tokens.tolist() == [[2, UNKNOWN], [3, PADDING]]
    assert Vocabulary.of_words(vocabulary.words).number == vocabulary.number
    with pytest.raises(ValueError, match="at least one word; got ''"):
        vocabulary.encode([""], length=2)


# The models. Each check is a function of the module, so that broken modules can be shown to fail.


CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def small(api, **options):
    torch.manual_seed(0)
    return api.AttentionClassifier(20, length=8, d_model=16, **options).eval()


TOKENS = torch.tensor(
    [[2, 3, 4, 5, 6, 7, 8, 9], [9, 3, 2, 0, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0, 0, 0]]
)


@check
def weights_are_positive_and_sum_to_one(api):
    for n_layers in (0, 1, 2):
        _, weights = small(api, n_layers=n_layers).attend(TOKENS)
        assert weights.shape == TOKENS.shape
        assert (weights >= 0).all()
        torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))


@check
def padding_gets_no_weight_and_changes_nothing(api):
    for n_layers in (0, 1):
        model = small(api, n_layers=n_layers)
        logits, weights = model.attend(TOKENS)
        assert (weights[TOKENS == PADDING] == 0).all()
        torch.testing.assert_close(model(TOKENS[1:2, :3]), logits[1:2])
        torch.testing.assert_close(model(TOKENS[2:, :1]), logits[2:])


@check
def the_order_of_the_words_matters(api):
    model = small(api)
    turned = TOKENS[:1].flip(1)
    assert not torch.allclose(model(turned), model(TOKENS[:1]), atol=1e-4)


@check
def words_attend_to_words(api):
    """The vector of a word that gets all the weight still depends on the others."""
    model = small(api, n_layers=1)
    with torch.no_grad():
        model.key.weight.zero_()  # uniform weights in the pooling
        model.key.bias.zero_()
    pair, single = torch.tensor([[2, 3]]), torch.tensor([[2], [3]])
    assert not torch.allclose(model(pair), model(single).mean(dim=0, keepdim=True), atol=1e-3)


@check
def every_parameter_is_trained(api):
    """The query, the keys, the embedding: a gradient reaches each."""
    model = small(api)
    api.kind_loss(model, TOKENS, torch.tensor([0, 1, 2])).backward()
    for name, parameter in model.named_parameters():
        if not name.endswith("key.bias"):  # a shift of all scores changes no weight
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 1e-7, name


@check
def training_hides_words_and_evaluation_does_not(api):
    hide = api.WordDropout(0.25)
    torch.manual_seed(0)
    many = torch.arange(2, 10002)[None]  # (1, 10000)
    many[0, -5000:] = PADDING
    hidden = hide.train()(many)
    assert (hidden[0, -5000:] == PADDING).all()
    share = (hidden[0, :5000] == UNKNOWN).float().mean()
    assert 0.2 < share < 0.3
    assert torch.equal(hidden[hidden > UNKNOWN], many[hidden > UNKNOWN])
    assert torch.equal(hide.eval()(many), many)


@check
def both_models_hide_words(api):
    for model in (small(api, dropout=0.0), api.MeanClassifier(20, dropout=0.0)):
        model.train()
        torch.manual_seed(0)
        outputs = torch.stack([model(TOKENS[:1]) for _ in range(10)])
        assert outputs.std(dim=0).max() > 1e-3


@check
def the_mean_is_a_mean_over_words(api):
    model = api.MeanClassifier(20, d_model=4).eval()
    vectors = model.embedding.weight[[9, 3, 2]].mean(dim=0)
    torch.testing.assert_close(model(TOKENS[1:2])[0], model.decide(vectors))


@check
def labels_are_smoothed_in_training_only(api):
    kinds = torch.tensor([0, 1, 2])
    model = api.MeanClassifier(20, dropout=0.0, word_dropout=0.0)
    log_p = model(TOKENS).log_softmax(dim=-1)
    plain = -log_p[range(3), kinds].mean()
    smooth = 0.9 * plain - 0.1 * log_p.mean()
    torch.testing.assert_close(api.kind_loss(model.eval(), TOKENS, kinds), plain)
    torch.testing.assert_close(api.kind_loss(model.train(), TOKENS, kinds), smooth)


BROKEN = {
    "padding attended to in the pooling": ("mask=mask[:, 0]", "mask=None"),
    "padding attended to in the layers": ("layer(x, mask=mask)", "layer(x, mask=None)"),
    "no layers": ("for layer in self.layers:", "for layer in ():"),
    "softmax over the batch": (
        "return Attended(logits, weights[:, 0])",
        "return Attended(logits, (weights[:, 0] * 5).softmax(dim=0))",
    ),
    "a query that is not learned": (
        "self.query = nn.Parameter(torch.zeros(1, d_model))",
        'self.register_buffer("query", torch.zeros(1, d_model)); '
        "self.unused = nn.Parameter(torch.zeros(1))",
    ),
    "a query that starts at zero": ("nn.init.normal_(self.query, std=d_model**-0.5)", "pass"),
    "key and value exchanged": ("self.query, self.key(x), x,", "self.query, x, self.key(x),"),
    "words hidden in evaluation": ("if not self.training:", "if self.training:"),
    "padding hidden": ("hidden & (tokens != PADDING)", "hidden"),
    "all but the share hidden": ("< self.probability", "> self.probability"),
    "words not hidden": (
        "self.embedding(self.hide_words(tokens))  # (batch, length, d_model)\n        mask",
        "self.embedding(tokens)\n        mask",
    ),
    "mean over the padding": (
        "return self.decide(x.sum(dim=1) / words.sum(dim=1))",
        "return self.decide(x.mean(dim=1))",
    ),
    "padding in the mean": ("x = x * words", "pass"),
    "labels smoothed in evaluation": ("if model.training else 0.0", "if True else 0.0"),
    "labels never smoothed": ("LABEL_SMOOTHING if model.training else 0.0", "0.0"),
    "positions left out": ("self.embedding = Embedding(", "self.embedding = _without_positions("),
}
WITHOUT_POSITIONS = """

def _without_positions(*arguments, **options):
    embedding = Embedding(*arguments, **options)
    embedding.positions.zero_()
    return embedding
"""


def build(name):
    module = rewritten(model_module, BROKEN)(name)
    exec(WITHOUT_POSITIONS, vars(module))
    return module


class TestModel(ZooTests):
    zoo = Zoo(CHECKS, build, BROKEN)


# The runs


def test_a_run_learns_and_leaves_its_files(folder):
    history, result = run(folder, QUICK)
    assert {path.name for path in folder.iterdir()} == {
        *("checkpoint.pt", "examples.json", "model.pt", "scores.json", "settings.json")
    }
    assert np.mean(history.losses[-5:]) < np.mean(history.losses[:5])
    assert result["test"]["accuracy"] > 0.5
    assert result["steps"] == len(history.losses) <= QUICK.steps
    assert json.loads((folder / "scores.json").read_text()) == result


def test_the_scores_are_those_of_the_kept_model(folder):
    """By hand: the saved model, asked one description at a time."""
    _, result = run(folder, QUICK)
    model, vocabulary, settings = load_model(folder)
    assert not model.training
    parts = split(load_examples(folder / "examples.json"))
    with torch.no_grad():
        guesses = [
            model(vocabulary.encode([example.text], length=settings.length)).argmax().item()
            for example in parts["test"]
        ]
    right = [guess == KINDS.index(e.kind) for guess, e in zip(guesses, parts["test"], strict=True)]
    assert result["test"]["accuracy"] == pytest.approx(np.mean(right))


def test_the_best_model_is_kept(folder):
    settings = replace(QUICK, steps=200, patience=100, peak=0.02, validate_every=5)
    history, result = run(folder, settings)
    validations = dict(history.validations)
    assert min(validations.values()) == validations[result["best step"]]
    model, vocabulary, _ = load_model(folder)
    part = training_module.encode(
        split(load_examples(folder / "examples.json")), vocabulary, length=settings.length
    )["validation"]
    with evaluating(model):
        loss = model_module.kind_loss(model, *part.tensors).item()
    assert loss == pytest.approx(min(validations.values()), rel=1e-4)


def test_scores_of_a_known_case():
    kinds = torch.tensor([0, 0, 0, 1])
    predicted = torch.tensor([0, 0, 1, 1])
    # F1 of kind 0: 2·2/(2·2 + 0 + 1) = 0.8; of kind 1: 2/3; of the others, which are not there, 0.
    assert scores(predicted, kinds) == {
        "accuracy": 0.75,
        "macro F1": pytest.approx((0.8 + 2 / 3) / len(KINDS)),
    }


def test_the_seed_decides(tmp_path):
    losses = []
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        fill(tmp_path / name)
        losses.append(run(tmp_path / name, replace(QUICK, steps=5, seed=seed))[0].losses)
    assert losses[0] == losses[1] != losses[2]


def test_a_stopped_run_goes_on_without_losing_or_repeating_a_step(tmp_path):
    for name in ("whole", "stopped"):
        fill(tmp_path / name)
    whole, result = run(tmp_path / "whole", QUICK)
    asked = iter(range(1000))
    stopped, nothing = run(tmp_path / "stopped", QUICK, should_stop=lambda: next(asked) == 23)
    assert nothing is None
    assert not (tmp_path / "stopped" / "scores.json").exists()
    assert len(stopped.losses) == 23
    history, resumed = run(tmp_path / "stopped", QUICK)
    assert history == whole
    assert resumed == result
    assert history.losses[:23] == stopped.losses
    for name, tensor in load_model(tmp_path / "whole")[0].state_dict().items():
        assert torch.equal(tensor, load_model(tmp_path / "stopped")[0].state_dict()[name])


def test_a_finished_run_is_scored_again_and_not_trained_again(folder):
    first = run(folder, QUICK)
    assert run(folder, QUICK) == first


def test_other_settings_are_refused(folder):
    run(folder, replace(QUICK, steps=2))
    with pytest.raises(
        ValueError, match="holds a run with d_model = 16; now asked for d_model = 8"
    ):
        run(folder, replace(QUICK, steps=2, d_model=8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "magic"}, "model must be one of attention, mean; got 'magic'"),
        ({"length": 0}, "length must be at least 1; got 0"),
        ({"d_model": 0}, "d_model must be at least 1; got 0"),
        ({"patience": 0}, "patience must be at least 1; got 0"),
        ({"n_layers": -1}, "n_layers must be at least 0; got -1"),
    ],
)
def test_settings_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Settings(**changes)


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no trained model"):
        load_model(tmp_path)


def test_the_baselines_are_scored_on_other_libraries():
    parts = split(examples_for_tests())
    results = score_baselines(fit_baselines(parts), parts)
    assert results.keys() == baselines().keys()
    assert results["logistic regression, words"]["test"]["accuracy"] > 0.9
    counts = np.bincount(labels(parts["training"]))
    commonest = (labels(parts["test"]) == int(counts.argmax())).double().mean().item()
    assert results["commonest kind"]["test"]["accuracy"] == pytest.approx(commonest)


# The command line

COMMAND = [sys.executable, "-m", "attn_tutorial.parameter_kinds"]
OPTIONS = ["--d-model", "16", "--steps", "150", "--validate-every", "50", "--checkpoint-every", "9"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def train_process(folder: Path, *options: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*COMMAND, "train", str(folder), *OPTIONS, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )


def wait_for(path: Path, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.fixture
def one_thread():
    """As the process has: sums in another order have other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def train_here(folder: Path, *options: str) -> None:
    """The same as `train_process`, without a process of its own."""
    assert main(["train", str(folder), *OPTIONS, *options]) == 0


def test_an_interrupted_process_ends_like_one_that_was_not(tmp_path, capsys, one_thread):
    for name in ("whole", "broken"):
        fill(tmp_path / name)
    train_here(tmp_path / "whole")
    out, err = capsys.readouterr()
    assert "lowest validation loss" in out
    assert re.search(r"test +accuracy [01]\.\d{3}, macro F1 [01]\.\d{3}", out)
    assert "step" in err  # the progress bar
    assert (tmp_path / "whole" / "curves.png").read_bytes().startswith(b"\x89PNG")

    checkpoint = tmp_path / "broken" / "checkpoint.pt"
    interrupted = train_process(tmp_path / "broken", "--quiet")
    wait_for(checkpoint, interrupted)
    interrupted.send_signal(signal.SIGINT)
    out, err = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, err
    assert not (tmp_path / "broken" / "scores.json").exists()
    assert re.search(r"Stopped after step \d+\. The same command goes on from there\.", out)

    train_here(tmp_path / "broken", "--quiet")
    assert capsys.readouterr().err == ""
    states = [
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)
        for name in ("whole", "broken")
    ]
    assert states[0]["history"] == states[1]["history"]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name])


def test_a_trained_model_answers(folder, capsys):
    run(folder, replace(QUICK, steps=200, patience=100))
    assert main(["ask", str(folder), "whether to plots and zebras"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("boolean")
    shares = re.findall(r"([\d.]+)%", out)
    assert sum(float(share) for share in shares[: len(KINDS)]) == pytest.approx(100, abs=0.5)
    assert sum(float(share) for share in shares[len(KINDS) :]) == pytest.approx(100, abs=0.5)
    assert "zebras  (unknown)" in out


def test_the_mean_model_answers_too(folder, capsys):
    run(folder, replace(QUICK, model="mean", peak=0.02, steps=100))
    assert main(["ask", str(folder), "number of rows"]) == 0
    assert "33.3%  rows" in capsys.readouterr().out


def test_the_baselines_are_printed(folder, capsys):
    assert main(["baselines", str(folder)]) == 0
    out = capsys.readouterr().out
    for name in baselines():
        assert name in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ask", "{folder}", "number of rows"], "error: {name} holds no trained model"),
        (["train", "{folder}", "--steps", "0"], "error: steps must be at least 1; got 0"),
        (["train", "{folder}", "--patience", "0"], "error: patience must be at least 1; got 0"),
    ],
)
def test_errors_are_told_in_a_line(folder, capsys, words, message):
    words = [word.format(folder=folder) for word in words]
    assert main(words) == 2
    assert message.format(name=folder.name) in capsys.readouterr().err


def test_threads_are_one():
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        main(["ask", "no-such-folder", "number of rows"])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(threads)
