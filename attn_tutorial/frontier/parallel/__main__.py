"""Compare ring attention on several processes with one process.

  python -m attn_tutorial.frontier.parallel --processes 4
  torchrun --nproc-per-node 4 -m attn_tutorial.frontier.parallel

The second line starts the processes by PyTorch's own program, which also works on many machines;
with GPUs, one for each process, they talk by NCCL.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist

from attn_tutorial.frontier.parallel.jobs import compare
from attn_tutorial.frontier.parallel.peers import Processes
from attn_tutorial.frontier.parallel.starting import in_processes


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attn_tutorial.frontier.parallel",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, default=4)
    chosen = parser.parse_args(arguments)
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        print("\n".join(in_processes(compare, chosen.processes)))
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    print(compare(Processes()))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
