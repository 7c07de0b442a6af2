"""What applications store: the form is checked when it is made and when it is read."""

import dataclasses
import json
import time

import pytest
import torch
from torch import nn

from attn_tutorial.applications import results
from attn_tutorial.applications.digits import load_parts
from attn_tutorial.applications.measuring import Clock, n_parameters, over_seeds
from attn_tutorial.applications.results import PLUS_MINUS, Results, System

MODEL = System("attention", {"accuracy": [0.9, 0.7, 0.8], "loss": [1, 2, 3]}, 1234, 2.345)


def example(**changes):
    fields = {
        "task": "which digit",
        "data": "scikit-learn's digits",
        "origin": "real",
        "split": "blocks",
        "metric": "accuracy",
        "higher_is_better": True,
        "n_training": 10,
        "n_test": 5,
        "seeds": [0, 1, 2],
        "systems": {
            "a | b": MODEL,
            "weaker": System("attention", {"accuracy": [0.5, 0.6, 0.7]}, 7, 100.4),
            "nearest": System("baseline", {"accuracy": [0.75]}),
        },
        "libraries": results.versions("numpy"),
    }
    return Results(**(fields | changes))


def test_what_is_saved_is_what_is_read(tmp_path):
    stored = example(more={"curve": [1, 0.123456789], "name": "ü"})
    results.save(stored, tmp_path / "x.json")
    read = results.load(tmp_path / "x.json")
    assert read.more == {"curve": [1, 0.123457], "name": "ü"}
    assert dataclasses.replace(read, more={}) == dataclasses.replace(stored, more={})


def test_means_and_spreads_are_over_the_seeds():
    stored = example()
    assert stored.mean("a | b") == pytest.approx(0.8)
    assert stored.spread("a | b") == pytest.approx(0.1)
    assert stored.mean("a | b", "loss") == 2
    assert stored.spread("nearest") == 0
    assert stored.score("a | b", 2) == "0.80\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}0.10"
    assert stored.score("nearest", 3) == "0.750"
    below = example(systems=stored.systems | {"c": System("rival", {"accuracy": [-0.001]})})
    assert below.score("c", 2) == "0.00"


def test_the_best_of_a_role_knows_the_metrics_direction():
    assert example().best("attention") == "a | b"
    assert example(higher_is_better=False).best("attention") == "weaker"
    assert example().best("baseline") == "nearest"


def test_the_table_shows_all_systems():
    lines = example().table({"accuracy": 2, "loss": 0}).splitlines()
    assert lines == [
        "| System | Role | Parameters | Seconds | accuracy | loss |",
        "| --- | --- | --- | --- | --- | --- |",
        r"| a \| b | attention | 1,234 | 2.3 | 0.80 ± 0.10 | 2 ± 1 |".replace(" ± ", PLUS_MINUS),
        f"| weaker | attention | 7 | 100 | 0.60{PLUS_MINUS}0.10 |  |",
        "| nearest | baseline |  |  | 0.75 |  |",
    ]


WRONG = {
    "origin": ({"origin": "web"}, r"^origin must be one of .*; got 'web'$"),
    "two seeds": ({"seeds": [0, 1]}, r"^seeds must be 3 or more different numbers; got \[0, 1\]$"),
    "a seed twice": ({"seeds": [0, 1, 1]}, r"^seeds must be 3 or more different numbers"),
    "no baseline": (
        {"systems": {"a": MODEL}},
        r"^systems must include one with attention and a baseline; got roles \['attention'\]$",
    ),
    "no such role": (
        {"systems": example().systems | {"c": System("oracle", {"accuracy": [1.0]})}},
        r"^c: role must be one of .*; got 'oracle'$",
    ),
    "no score": (
        {"systems": example().systems | {"c": System("rival", {"loss": [1.0]})}},
        r"^c: scores must hold the metric 'accuracy'$",
    ),
    "one seed of three": (
        {"systems": example().systems | {"c": System("attention", {"accuracy": [1.0]}, 1, 1.0)}},
        r"^c: accuracy must be finite numbers, as many as \[3\]; got \[1.0\]$",
    ),
    "not a number": (
        {"systems": example().systems | {"c": System("rival", {"accuracy": [float("nan")]})}},
        r"^c: accuracy must be finite numbers, as many as \[1, 3\]; got \[nan\]$",
    ),
    "a model without size": (
        {"systems": example().systems | {"c": System("attention", {"accuracy": [1, 1, 1]})}},
        r"^c: a model needs n_parameters and seconds$",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_results_are_refused(name):
    changes, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        example(**changes)


def test_a_file_with_something_else_is_refused(tmp_path):
    results.save(example(), tmp_path / "x.json")
    content = json.loads((tmp_path / "x.json").read_text())
    del content["split"]
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"^x.json: wanted an object with \['data', "):
        results.load(tmp_path / "x.json")


def test_numbers_that_are_no_numbers_are_not_stored(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        results.save(example(more={"curve": [float("inf")]}), tmp_path / "x.json")


@pytest.mark.parametrize(
    ("number", "words"), [(0.0312, "0.031"), (2.44, "2.4"), (9.6, "9.6"), (75.4, "75")]
)
def test_seconds_in_words(number, words):
    assert results.seconds(number) == words


def test_over_seeds_trains_once_with_each_seed_and_times_only_that():
    asked = []

    def fit(seed):
        asked.append(seed)
        begin = time.process_time()
        while time.process_time() - begin < 0.02:
            pass
        return nn.Linear(seed + 1, 1)

    def evaluate(model):
        begin = time.process_time()
        while time.process_time() - begin < 0.1:
            pass
        return {"width": float(model.in_features)}

    system, models = over_seeds("rival", [3, 1, 2], fit, evaluate)
    assert asked == [3, 1, 2]
    assert [model.in_features for model in models] == [4, 2, 3]
    assert system.scores == {"width": [4.0, 2.0, 3.0]}
    assert system.n_parameters == 5  # of the first
    assert 0.02 <= system.seconds < 0.06


def test_frozen_parameters_do_not_count():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert n_parameters(layer) == 6


def test_a_clock_stops_after_an_error():
    clock = Clock()
    with pytest.raises(ZeroDivisionError), clock.running():
        raise ZeroDivisionError
    first = clock.seconds
    with clock.running():
        pass
    assert 0 <= first <= clock.seconds < 0.1


def test_the_digits_parts_share_no_picture():
    parts = load_parts()
    assert {name: len(part.labels) for name, part in parts.items()} == {
        "training": 1000,
        "validation": 250,
        "test": 547,
    }
    pictures = {image.numpy().tobytes() for part in parts.values() for image in part.images}
    assert len(pictures) == 1797
    images, labels = parts["test"]
    assert images.dtype == torch.float32
    assert images.shape == (547, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert set(labels.tolist()) == set(range(10))
    assert torch.equal(images * 16, (images * 16).round())
