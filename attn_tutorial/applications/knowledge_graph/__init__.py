"""Completing a knowledge graph of the CLDR: attention over facts, and over entities."""
