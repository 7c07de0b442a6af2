"""Each application has all its parts, and nothing lies about that belongs to none."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest
import yaml

from attn_tutorial import applications
from attn_tutorial.applications import APPLICATIONS, __main__
from attn_tutorial.applications.results import Results, load

ROOT = Path(__file__).parents[2]
PACKAGE = Path(applications.__file__).parent
CHAPTERS = ROOT / "chapters/applications"
OVERVIEW = "overview"


@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_has_code_chapter_results_and_tests(name):
    experiment = importlib.import_module(f"attn_tutorial.applications.{name}.experiment")
    assert inspect.signature(experiment.measure).return_annotation in (Results, "Results")
    assert (CHAPTERS / f"{name}.ipynb").is_file()
    assert (Path(__file__).parent / f"test_{name}.py").is_file()
    assert __main__.FOLDER == CHAPTERS / "results"
    assert load(CHAPTERS / f"results/{name}.json").n_test > 0


def test_there_are_no_others():
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == set(
        APPLICATIONS
    )
    assert {path.stem for path in CHAPTERS.glob("*.ipynb")} == {*APPLICATIONS, OVERVIEW}
    assert {path.stem for path in (CHAPTERS / "results").iterdir()} == set(APPLICATIONS)


def test_the_book_has_them_in_the_same_order():
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf8"))
    (part,) = [part for part in contents["parts"] if part["caption"] == "Applications"]
    files = [chapter["file"] for chapter in part["chapters"]]
    assert files == [f"chapters/applications/{name}" for name in (OVERVIEW, *APPLICATIONS)]


def test_a_name_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        __main__.main(["astrology"])
    assert "invalid choice: 'astrology'" in capsys.readouterr().err


def test_the_command_stores_what_is_measured(tmp_path, monkeypatch, capsys):
    module = importlib.import_module(f"attn_tutorial.applications.{APPLICATIONS[0]}.experiment")
    stored = load(CHAPTERS / f"results/{APPLICATIONS[0]}.json")
    monkeypatch.setattr(module, "measure", lambda: stored)
    monkeypatch.setattr(__main__, "FOLDER", tmp_path / "results")
    __main__.main([APPLICATIONS[0]])
    assert capsys.readouterr().out == f"{APPLICATIONS[0]}: stored\n"
    assert load(tmp_path / f"results/{APPLICATIONS[0]}.json") == stored


@pytest.mark.parametrize("name", APPLICATIONS)
def test_no_score_is_typed_in(name):
    """A system is made of what was computed: no fraction stands in the call."""
    for path in (PACKAGE / name).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "System":
                constants = [one for one in ast.walk(node) if isinstance(one, ast.Constant)]
                assert not [one for one in constants if isinstance(one.value, float)], path.name
