"""Each pixel of a scene labelled: which digit, and whether it equals the cue in the corner."""
