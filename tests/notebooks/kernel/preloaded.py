"""What a kernel need not import again: see forked_kernels.py in the folder above.

Only packages whose import does nothing else. (`matplotlib.pyplot` looks for IPython.)
"""

# ruff: noqa: F401

import ipykernel.kernelapp
import IPython.core.interactiveshell
import matplotlib.backends.backend_agg
import matplotlib.figure
import matplotlib.font_manager
import matplotlib.style
import networkx
import pandas
import scipy.optimize
import scipy.stats
import sklearn.linear_model
import sklearn.model_selection
import torch

import attn_tutorial
