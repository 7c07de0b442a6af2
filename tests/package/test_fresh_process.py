"""What a fresh process printed is remembered until something changes, and failures never are."""

import sys
from pathlib import Path

import pytest

from attn_tutorial import fresh_process
from attn_tutorial.fresh_process import printed_by

PYTHON = sys.executable


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A module that says how often it ran, and a folder for caches of its own."""
    (tmp_path / "counting.py").write_text(
        "from pathlib import Path\n"
        "ran = Path(__file__).with_name('ran')\n"
        "ran.write_text(ran.read_text() + '×' if ran.exists() else '×')\n"
        "print(ran.read_text())\n",
        encoding="utf8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONUTF8", "1")
    monkeypatch.setattr(
        fresh_process.platformdirs, "user_cache_path", lambda name: tmp_path / "cache" / name
    )
    return tmp_path


def test_a_module_runs_once(program):
    assert [printed_by("counting") for _ in range(3)] == ["×\n"] * 3


@pytest.mark.parametrize("change", ["version", "source", "python"])
def test_it_runs_again_where_something_changed(program, monkeypatch, change):
    printed_by("counting")
    if change == "version":
        installed = [one for one in fresh_process.distributions() if one.name != "numpy"]
        monkeypatch.setattr(fresh_process, "distributions", lambda: installed)
    elif change == "python":
        monkeypatch.setattr(fresh_process.sys, "version", "4.0")
    else:
        (program / "package").mkdir()
        copied = program / "package" / "one.py"
        copied.write_text("1", encoding="utf8")
        monkeypatch.setattr(fresh_process, "__file__", str(copied))
        printed_by("counting")
        (program / "ran").write_text("", encoding="utf8")
        copied.write_text("2", encoding="utf8")
        assert printed_by("counting") == "×\n"
        return
    assert printed_by("counting") == "××\n"


def test_a_folder_that_cannot_be_written_remembers_nothing(program):
    (program / "cache").write_text("in the way", encoding="utf8")
    assert [printed_by("counting") for _ in range(2)] == ["×\n", "××\n"]


def test_a_damaged_memory_is_no_answer(program, caplog):
    printed_by("counting")
    (stored,) = Path(program, "cache").rglob("output.pkl")
    stored.write_bytes(stored.read_bytes()[:-9])
    assert printed_by("counting") == "××\n"
    assert "Exception while loading results" in caplog.text


def test_a_process_that_fails_is_reported_and_not_remembered(program, monkeypatch):
    monkeypatch.setattr(fresh_process.sys, "executable", "false")
    with pytest.raises(RuntimeError, match=r"^counting could not be run:"):
        printed_by("counting")
    monkeypatch.setattr(fresh_process.sys, "executable", PYTHON)
    assert printed_by("counting") == "×\n"
