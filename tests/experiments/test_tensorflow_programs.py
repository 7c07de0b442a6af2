"""What TensorFlow is recorded to have said belongs to the programs that stand here."""

import json
import subprocess
from pathlib import Path

import pytest

from attn_tutorial.recorded import Recorded, load_recorded
from tools.experiments import tensorflow_programs as programs

PYTHON = programs.ROOT / ".venv-tensorflow" / "bin" / "python"
DOCUMENTS = programs.documents()


def test_there_are_programs():
    assert {"000", "001", "002", "004"} <= set(DOCUMENTS)
    assert {path.stem for path in programs.RESULTS.glob("tensorflow_*.json")} == {
        f"tensorflow_{document}" for document in DOCUMENTS
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_records_are_of_these_programs(document):
    versions, cases = load_recorded(programs.path_of(document))
    assert {name: case.code for name, case in cases.items()} == programs.cases_of(document)
    assert versions["tensorflow"] == pinned("tensorflow")
    assert versions["keras"] == pinned("keras")
    assert versions["numpy"] == pinned("numpy")


def pinned(library: str) -> str:
    lines = Path(programs.__file__).with_name("tensorflow_requirements.txt").read_text().split()
    (line,) = [line for line in lines if line.startswith(f"{library}==")]
    return line.partition("==")[2]


@pytest.mark.skipif(not PYTHON.exists(), reason="TensorFlow is not installed: make tensorflow")
def test_tensorflow_still_says_so():
    process = subprocess.run(
        [PYTHON, "-m", "tools.experiments.tensorflow_programs", "--check"],
        cwd=programs.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr


# The recorder


def test_what_a_program_prints_and_raises_is_recorded():
    code = "print('one')\nraise ValueError('two\\nthree')\n"
    assert programs.run_case(code) == {
        "code": code,
        "printed": "one\n",
        "raised": ["ValueError", "two"],
    }
    assert programs.run_case("print(1)")["raised"] is None


def test_a_program_that_ends_its_process_is_told():
    with pytest.raises(RuntimeError, match="ended its process"):
        programs.run_case("import os; os._exit(3)")


def test_a_record_shows_the_program_and_what_came_of_it():
    case = Recorded("one = 1\n\nprint(one)\nnone", "1\n", ("NameError", "no none"))
    assert str(case) == ">>> one = 1\n>>>\n>>> print(one)\n>>> none\n1\nNameError: no none"
    assert str(Recorded("one = 1", "", None)) == ">>> one = 1"


def test_a_file_that_is_no_record_is_refused(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"cases": {}}))
    with pytest.raises(ValueError, match=r"record\.json: wanted an object with 'versions' and"):
        load_recorded(path)
