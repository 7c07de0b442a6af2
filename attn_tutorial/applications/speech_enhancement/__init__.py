"""Masks on noisy speech from attention over frames, against Wiener filters."""
