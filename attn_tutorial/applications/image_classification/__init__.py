"""Handwritten digits by a Vision Transformer, by convolutions with gates, and by old methods."""
