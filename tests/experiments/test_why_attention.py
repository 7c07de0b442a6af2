"""The chapter "Why attention" shows stored results: they are those of its own cells."""

import json

import pytest

from tools.experiments import why_attention


@pytest.fixture(scope="module")
def stored():
    return json.loads(why_attention.RESULTS.read_text(encoding="utf8"))


def test_stored_results_have_these_settings(stored):
    assert stored["training"] == why_attention.FULL
    assert stored["widths"] == why_attention.WIDTHS
    assert tuple(stored["seeds"]) == why_attention.SEEDS
    assert tuple(stored["lengths"]) == why_attention.LENGTHS


def test_every_model_has_every_seed_and_length(stored):
    for name in why_attention.WIDTHS:
        for kind in ("letters", "texts"):
            assert len(stored[kind][name]) == len(why_attention.SEEDS)
            assert all(len(row) == len(why_attention.LENGTHS) for row in stored[kind][name])


def test_shortened_run_gives_what_is_stored(stored):
    """Another processor rounds differently, and training spreads that: hence the margin."""
    found = why_attention.shortened(why_attention.chapter_cells())
    assert found.keys() == stored["shortened"].keys()
    for name, shares in found.items():
        assert shares == pytest.approx(stored["shortened"][name], abs=0.04)


def test_chapter_without_the_cells_is_refused(tmp_path):
    path = tmp_path / "empty.ipynb"
    path.write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    with pytest.raises(ValueError, match="has no cell imports, texts"):
        why_attention.chapter_cells(path)
