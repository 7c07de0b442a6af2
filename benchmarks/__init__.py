"""Timings and memory, on this machine's processor or its GPU, for the chapters on cost."""
