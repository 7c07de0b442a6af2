"""What a program said where a library was installed that the course does not need.

The chapters on the documents' programs show such records beside a reproduction that runs anywhere.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recorded:
    """One program and what came of it. Printed, it shows both.

    Attributes
    ----------
    code : str
        The program.
    printed : str
        What it printed.
    raised : (str, str) or None
        The type and the first line of the error that ended it; None where it ran to its end.
    """

    code: str
    printed: str
    raised: tuple[str, str] | None

    def __str__(self) -> str:
        lines = [f">>> {line}".rstrip() for line in self.code.rstrip().splitlines()]
        lines += self.printed.rstrip().splitlines()
        if self.raised is not None:
            lines.append(": ".join(self.raised))
        return "\n".join(lines)


def load_recorded(path: str | os.PathLike) -> tuple[dict[str, str], dict[str, Recorded]]:
    """Read a file of records.

    Parameters
    ----------
    path : path
        A JSON file with `versions` and `cases`.

    Returns
    -------
    versions : dict of str
        The version of each library that took part.
    cases : dict of Recorded
        The records by name.

    Raises
    ------
    ValueError
        Where the file is not such a record.
    """
    content = json.loads(Path(path).read_text(encoding="utf8"))
    if not isinstance(content, dict) or not {"versions", "cases"} <= content.keys():
        raise ValueError(f"{Path(path).name}: wanted an object with 'versions' and 'cases'")
    cases = {
        name: Recorded(case["code"], case["printed"], case["raised"] and tuple(case["raised"]))
        for name, case in content["cases"].items()
    }
    return content["versions"], cases
