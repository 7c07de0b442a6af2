"""Sentiment with negation, where order matters, and what a customer wants."""
