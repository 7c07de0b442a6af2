"""What attention costs, and the methods that change it."""
