"""Summary lines of docstrings: a sentence chosen, or words written and copied."""
