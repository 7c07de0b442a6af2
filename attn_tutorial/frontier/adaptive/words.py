"""The words of the docstrings of three libraries, one for each part of the data."""

from __future__ import annotations

import json
import re
import sys
import warnings

from attn_tutorial.fresh_process import printed_by
from attn_tutorial.parameter_kinds.data import docstrings

PARTS = {"training": "numpy", "validation": "networkx", "test": "matplotlib"}


def read_libraries() -> dict[str, str]:
    """The words of each part in lower case, with a space between them, read in this process."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            part: " ".join(re.findall("[a-z]+", " ".join(docstrings(library)).lower()))
            for part, library in PARTS.items()
        }


def load_words() -> dict[str, str]:
    """The same, read by a fresh process, since a library may change another's docstrings."""
    return json.loads(printed_by(__name__))


if __name__ == "__main__":
    json.dump(read_libraries(), sys.stdout)
