"""Attention with another kernel than the exponential: a memory of fixed size in place of a cache.

`linear`: sums over keys, in three ways that agree. `delta`: a memory that corrects itself.
`random_features`: the exponential kernel, estimated. `recall`: a task that fills such memories.
"""
