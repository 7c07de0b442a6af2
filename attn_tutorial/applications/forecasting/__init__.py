"""Forecasts of three real series by a patch Transformer, and by what it has to beat."""
