"""Digits found in scenes by object queries, by a grid of cells and by a sliding window."""
