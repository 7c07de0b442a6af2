"""What a benchmark ran on, in words and numbers."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch


def processor() -> str:
    """The processor's name, as it calls itself."""
    listed = Path("/proc/cpuinfo")
    if listed.exists():
        found = re.search(r"^model name\s*: (.+)$", listed.read_text(encoding="utf8"), flags=re.M)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def describe(device: str) -> dict[str, str | int | float]:
    """The machine on which a benchmark runs.

    Parameters
    ----------
    device : str
        "cpu" or "cuda".

    Returns
    -------
    dict
        JSON types only. On a GPU its name and memory (GiB) too.

    Raises
    ------
    ValueError
        Where the device is another one, or is not there.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda'; got {device!r}")
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' is not available to torch on this machine")
    found = {
        "device": device,
        "processor": processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__.partition("+")[0],
    }
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        found["gpu"] = properties.name
        found["gpu memory, GiB"] = round(properties.total_memory / 2**30, 1)
    return found


def label(machine: dict) -> str:
    """A short name for files and legends: "cpu", or the GPU's name in lower case."""
    if machine["device"] == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", machine["gpu"].lower()).strip("-")
