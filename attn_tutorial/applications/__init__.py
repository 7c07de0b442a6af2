"""One trained model for each application that the documents name: the code behind those chapters.

Each module has a function `measure()`, which trains its systems over several seeds and returns
`results.Results`; `python -m attn_tutorial.applications NAME` stores what it returns.
"""
