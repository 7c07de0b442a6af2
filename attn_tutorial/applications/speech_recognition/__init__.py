"""Spoken words spelled by attention over frames, by CTC, and by cutting at pauses."""
