"""Graph attention on a karate club, on the functions of scientific Python, and on a look-up."""
