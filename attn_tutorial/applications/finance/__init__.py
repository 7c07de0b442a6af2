"""Returns and volatility of real prices, forecast with attention and without, and the traps."""
