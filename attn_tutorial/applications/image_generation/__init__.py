"""Image generation: pixel by pixel, from a latent vector, and against an adversary."""
