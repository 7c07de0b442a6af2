"""Benign or malignant from thirty features, by a Transformer over features and by plain models."""
