"""Digits with hidden patches, guessed without labels; then few labels."""
