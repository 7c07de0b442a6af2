"""Start several processes that work on one thing, and end them all, whatever happens to one."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from typing import Any

import torch
import torch.distributed as dist

from attn_tutorial.frontier.parallel.peers import Processes, Stopped, Threads

Job = Callable[..., Any]
LOCALHOST = "127.0.0.1"


def in_threads(
    job: Job, size: int, *arguments: Any, timeout: float = 10.0, **settings: Any
) -> list[Any]:
    """What job(peers, *arguments, **settings) returns in each of several threads of this process.

    They share a memory and do not use it: they send each other copies, as processes do. A function
    of a notebook runs so too.

    Parameters
    ----------
    job : function
        Its first argument is a `Peers`.
    size : int
        How many threads.
    timeout : float
        Seconds that one waits for a message of another.

    Raises
    ------
    ValueError
        Where the size is not positive.
    RuntimeError
        Where the job fails in one thread: its rank, and its error as the cause. The other threads
        end too.
    """
    _check_size(size)
    boxes: dict[tuple[int, int], queue.SimpleQueue[Any]] = {
        (sender, receiver): queue.SimpleQueue()
        for sender in range(size)
        for receiver in range(size)
    }

    def run(rank: int) -> Any:
        peers = Threads(rank, size, boxes, timeout)
        try:
            return job(peers, *arguments, **settings)
        except BaseException:
            peers.stop()
            raise

    with ThreadPoolExecutor(size) as pool:
        futures = [pool.submit(run, rank) for rank in range(size)]
        errors = [future.exception() for future in futures]
    found = [(rank, error) for rank, error in enumerate(errors) if error is not None]
    if found:  # the others' errors are only that this one stopped
        rank, error = min(found, key=lambda one: isinstance(one[1], Stopped))
        raise RuntimeError(_failure(rank, size, error)) from error
    return [future.result() for future in futures]


def in_processes(
    job: Job,
    size: int,
    *arguments: Any,
    timeout: float = 60.0,
    backend: str = "gloo",
    **settings: Any,
) -> list[Any]:
    """What job(peers, *arguments, **settings) returns in each of several processes of this machine.

    They find each other through a free port of this machine and talk by torch.distributed. What
    they write to the standard error is dropped; an error that they raise comes back. All of
    them have ended when this function returns or raises. A script has to call it under
    `if __name__ == "__main__":`, since its processes import the script.

    Parameters
    ----------
    job : function of a module that can be imported
        Its first argument is a `Peers`. The other arguments and what it returns are pickled.
    size : int
        How many processes.
    timeout : float
        Seconds after which all are stopped.
    backend : str
        "gloo" for processors; "nccl" for as many GPUs as processes.

    Raises
    ------
    ValueError
        Where the size is not positive, or the job is a function of a notebook or script.
    RuntimeError
        Where one process fails or dies; the message ends with what it last said.
    TimeoutError
        Where they take too long; the message names those that had not finished.
    """
    _check_size(size)
    if job.__module__ == "__main__":
        raise ValueError(
            f"job must be a function that other processes can import; got {job.__name__} of "
            "__main__ (in_threads takes any function)"
        )
    store = dist.TCPStore(
        LOCALHOST, 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=timeout)
    )
    content = pickle.dumps((job, arguments, settings))
    context = _context()
    processes, readers = [], []
    end = time.monotonic() + timeout
    try:
        for rank in range(size):
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(
                target=_work,
                args=(rank, size, store.port, timeout, backend, content, writer),
                daemon=True,
            )
            process.start()
            writer.close()  # so that the reader sees the end if the process dies
            processes.append(process)
            readers.append(reader)
        return _collected(processes, readers, end, timeout)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(2)
            if process.is_alive():
                process.kill()
                process.join()
        for reader in readers:
            reader.close()


def _collected(
    processes: list[Any], readers: list[Connection], end: float, timeout: float
) -> list[Any]:
    """The results in the order of the ranks, or an error as soon as one process has failed."""
    size, results = len(readers), {}
    while len(results) < size:
        waiting = [reader for rank, reader in enumerate(readers) if rank not in results]
        ready = wait(waiting, max(0.0, end - time.monotonic()))
        if not ready:
            missing = ", ".join(str(rank) for rank in range(size) if rank not in results)
            raise TimeoutError(
                f"after {timeout:g} s nothing came from rank {missing} of {size}; all were stopped"
            )
        said = {}
        for reader in ready:
            rank = readers.index(reader)
            try:
                said[rank] = pickle.loads(reader.recv_bytes())
            except EOFError:
                _raise_dead(rank, size, processes[rank])
        for rank, (succeeded, result) in said.items():
            if not succeeded:
                message, trace, may_have_noticed = result
                if may_have_noticed:  # that another process has died
                    others = {
                        process.sentinel: other
                        for other, process in enumerate(processes)
                        if other not in results and other not in said
                    }
                    for sentinel in wait(list(others), 2.0):
                        _raise_dead(others[sentinel], size, processes[others[sentinel]])
                raise RuntimeError(f"{message}\n\n{trace}")
            results[rank] = result
    return [results[rank] for rank in range(size)]


def _raise_dead(rank: int, size: int, process: Any) -> None:
    process.join(2)
    raise RuntimeError(
        f"rank {rank} of {size} died without a word (exit code {process.exitcode})"
    ) from None


def _work(
    rank: int,
    size: int,
    port: int,
    timeout: float,
    backend: str,
    content: bytes,
    writer: Connection,
) -> None:
    """The whole life of one process."""
    # The libraries tell each lost connection there; what matters comes back as an error.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    limit = timedelta(seconds=timeout)
    try:
        store = dist.TCPStore(LOCALHOST, port, is_master=False, timeout=limit)
        if backend == "nccl":
            torch.cuda.set_device(rank)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
        job, arguments, settings = pickle.loads(content)
        said = pickle.dumps((True, job(Processes(), *arguments, **settings)))
        dist.barrier()  # nobody leaves while another still reads
    except BaseException as error:
        trace = "".join(traceback.format_exception(error))
        # What gloo and NCCL say of a lost connection is a RuntimeError.
        said = (_failure(rank, size, error), trace, isinstance(error, RuntimeError))
        writer.send_bytes(pickle.dumps((False, said)))
        # The others would notice that this one is gone, and drown its error in theirs.
        time.sleep(timeout)
        return
    writer.send_bytes(said)
    writer.close()
    dist.destroy_process_group()


def _failure(rank: int, size: int, error: BaseException) -> str:
    return f"rank {rank} of {size} failed: {type(error).__name__}: {error}"


def _context() -> Any:
    """How to start processes: from a server that has torch imported, where the system can fork."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "attn_tutorial.frontier.parallel.preloaded"])
    return context


def _check_size(size: int) -> None:
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")
