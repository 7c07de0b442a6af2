"""Run the decisive lines of the documents' programs under TensorFlow, and record what it says.

  make tensorflow                                        install TensorFlow aside, run, and store
  PYTHON -m tools.experiments.tensorflow_programs        the same with a Python that has TensorFlow
  PYTHON -m tools.experiments.tensorflow_programs --check    only say which records would change

The book does not need TensorFlow. Its notebooks show these records, and reproduce the cause of each
in NumPy or torch. The cases are in tools/experiments/tensorflow_cases/, a module a document: CASES
maps a name to a short program. Each runs in a process of its own, so that none sees what another
has switched on. A program prints nothing that another run would print differently.
Results: chapters/code/results/tensorflow_DOCUMENT.json.
"""

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tools/experiments/tensorflow_cases"
RESULTS = ROOT / "chapters/code/results"
SECONDS_A_CASE = 120

# Runs a program from standard input; says what it printed and what it raised.
RUNNER = """
import contextlib, io, json, sys
printed, raised = io.StringIO(), None
with contextlib.redirect_stdout(printed):
    try:
        exec(compile(sys.stdin.read(), "program", "exec"), {"__name__": "__main__"})
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raised = [type(error).__name__, lines[0] if lines else ""]
json.dump({"printed": printed.getvalue(), "raised": raised}, sys.stdout)
"""


def documents() -> list[str]:
    """The documents that have cases."""
    return sorted(path.stem.removeprefix("document_") for path in CASES.glob("document_*.py"))


def cases_of(document: str) -> dict[str, str]:
    """The programs to run, by name."""
    return importlib.import_module(f"tools.experiments.tensorflow_cases.document_{document}").CASES


def run_case(code: str) -> dict:
    """What a program printed, and what it raised: the error's type and first line, or null."""
    process = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=code,
        capture_output=True,
        text=True,
        timeout=SECONDS_A_CASE,
        env={
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": "0",  # its kernels, named in errors, differ by processor
            "PYTHONWARNINGS": "ignore",
        },
    )
    if process.returncode != 0:
        raise RuntimeError(f"the program ended its process:\n{code}\n{process.stderr[-2000:]}")
    return {"code": code, **json.loads(process.stdout)}


def record(document: str) -> dict:
    """All cases of a document, with the versions that ran them."""
    return {
        "command": "python -m tools.experiments.tensorflow_programs",
        "versions": {
            "python": ".".join(platform.python_version_tuple()[:2]),
            "tensorflow": importlib.import_module("tensorflow").__version__,
            "keras": importlib.metadata.version("keras"),
            "numpy": importlib.metadata.version("numpy"),
        },
        "cases": {name: run_case(code) for name, code in cases_of(document).items()},
    }


def path_of(document: str) -> Path:
    return RESULTS / f"tensorflow_{document}.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("document", nargs="*", help=f"from {', '.join(documents())}; all if none")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one changes")
    arguments = parser.parse_args()
    unknown = set(arguments.document) - set(documents())
    if unknown:
        parser.error(f"no cases for {', '.join(sorted(unknown))}; there are {documents()}")

    changed = []
    for document in arguments.document or documents():
        new = json.dumps(record(document), indent=1, ensure_ascii=False) + "\n"
        path = path_of(document)
        if path.exists() and path.read_text(encoding="utf8") == new:
            continue
        changed.append(document)
        if not arguments.check:
            path.write_text(new, encoding="utf8")
    print("changed:", ", ".join(changed) or "none")
    if arguments.check and changed:
        sys.exit(1)


if __name__ == "__main__":
    main()
