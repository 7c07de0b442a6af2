"""Clips of digits that move: which digit, and how? Attention over space and over time."""
