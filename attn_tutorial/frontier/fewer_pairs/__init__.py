"""Attention over fewer pairs: windows, sinks and blocks, and what they cost and forget."""
