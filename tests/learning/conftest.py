"""The learners were traced with one thread, so what repeats a part of that is, too."""

from experiments.conftest import one_thread  # noqa: F401
