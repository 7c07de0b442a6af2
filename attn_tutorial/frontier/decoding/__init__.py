"""Decoding token by token: what has to be kept of the tokens before, and how it can be made small.

`sizes` counts what a cache keeps. `grouped` turns many heads of keys and values into few. `latent`
keeps one short vector in place of all keys and values. `stores` keeps them in 8 bits, or in blocks
that sequences share. `speculative` asks the large model less often.
"""
