"""What the server that starts processes imports before: each process then has it at once."""

import torch

import attn_tutorial.frontier.parallel.jobs  # noqa: F401
from attn_tutorial.core import attention
from attn_tutorial.frontier.memory import Memory

torch.set_num_threads(1)
with Memory():  # much is imported only when it is first used
    attention(*3 * [torch.zeros(1, 1)])
# So much is computed, and no gradient: PyTorch forbids it in a process that was forked after one.
parameter = torch.nn.Parameter(torch.zeros(1))
parameter.grad = torch.zeros(1)
torch.optim.Adam([parameter]).step()
