"""How much data attention needs, how far it overfits, and what it makes of longer or other data."""
