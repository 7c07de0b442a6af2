"""A complete small project: say from a parameter's description what kind of value it takes.

Data, model and training lie in files of their own, and a command line runs them:
`python -m attn_tutorial.parameter_kinds --help`.
"""
