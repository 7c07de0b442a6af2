"""Attention that decides for itself how many keys it takes: sparse, shortened, scaled, or none."""
