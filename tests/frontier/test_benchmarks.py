"""What is recorded says on which machine, candidates take turns, and bad devices are refused."""

import importlib
import json
import sys
from types import ModuleType

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import machine, timing


def test_candidates_take_turns_and_the_first_round_does_not_count(monkeypatch):
    """By our clock: one takes a second, the other two, and each ten the first time."""
    now, called = [0.0], []

    def candidate(name, seconds):
        def run():
            now[0] += seconds if called.count(name) else 10
            called.append(name)

        return run

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    found = timing.side_by_side(
        {"one": candidate("one", 1), "two": candidate("two", 2)}, device="cpu", rounds=1
    )
    assert found == {"one": 1, "two": 2}
    assert called == ["one", "two"] * 2


def test_the_median_forgives_one_disturbance(monkeypatch):
    now, times = [0.0], iter([1, 1, 50, 2, 3, 2])

    def run():
        now[0] += next(times)

    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    assert timing.side_by_side({"it": run}, device="cpu", rounds=5) == {"it": 2}


def test_a_machine_is_described():
    found = machine.describe("cpu")
    assert found["threads"] == torch.get_num_threads()
    assert found["torch"] == torch.__version__.partition("+")[0]
    assert found["processor"]
    assert machine.label(found) == "cpu"
    assert json.loads(json.dumps(found)) == found


def test_a_gpu_is_named_by_its_model():
    assert machine.label({"device": "cuda", "gpu": "NVIDIA A100-SXM4 (80GB)"}) == (
        "nvidia-a100-sxm4-80gb"
    )


def test_another_device_is_refused():
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda'; got 'tpu'"):
        machine.describe("tpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="'cuda' is not available to torch on this machine"):
        machine.describe("cuda")


def test_the_command_stores_what_was_measured(monkeypatch, tmp_path, capsys):
    made = ModuleType("benchmarks.costs")
    made.measure = lambda device: {"asked for": device, "threads": torch.get_num_threads()}
    monkeypatch.setitem(sys.modules, "benchmarks.costs", made)
    monkeypatch.setattr(command, "FOLDER", tmp_path / "new")
    before = torch.get_num_threads()
    try:
        command.main(["costs", "--threads", "1"])
    finally:
        torch.set_num_threads(before)
    stored = json.loads((tmp_path / "new" / "costs-cpu.json").read_text(encoding="utf8"))
    assert stored["measured"] == {"asked for": "cpu", "threads": 1}
    assert stored["machine"]["threads"] == 1
    assert capsys.readouterr().out == "costs-cpu.json written\n"


def test_an_unknown_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        command.main(["poetry"])
    assert "costs" in capsys.readouterr().err


@pytest.mark.parametrize("name", command.NAMES)
def test_each_benchmark_can_be_asked_and_has_a_record(name):
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)
    stored = json.loads((command.FOLDER / f"{name}-cpu.json").read_text(encoding="utf8"))
    assert stored["machine"].keys() == machine.describe("cpu").keys()
    assert stored["measured"]
