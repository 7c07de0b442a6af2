"""Questions about pictures answered by cross-attention, and words aligned with pictures."""
