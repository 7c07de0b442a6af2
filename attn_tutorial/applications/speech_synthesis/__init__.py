"""Frames of speech from letters by guided attention, and a recogniser that judges them."""
