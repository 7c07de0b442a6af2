"""The applications are measured with one thread, so what repeats a part of them is, too."""

from experiments.conftest import one_thread  # noqa: F401
