"""Language modelling: a small GPT on docstrings, against n-grams, compressors and a GRU."""
