"""A small thread pool for kernels that release the GIL; the caller takes a share of the work.

Why our own (all tried): prange on OpenMP kills forked DataLoader workers, Numba's workqueue aborts when two Python
threads call it, TBB collides with torch's pool. This one costs about 20 us per parallel call and is re-made after
a fork.
"""

from __future__ import annotations

import functools
import itertools
import os
import queue
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

_jobs: queue.SimpleQueue[_Call] = queue.SimpleQueue()
_workers: list[threading.Thread] = []
_lock = threading.Lock()
_chosen: int | None = None


class _Call:
    """The tasks of one call. Whoever takes the last one wakes the caller, so that nobody waits for idle workers."""

    def __init__(self, tasks: Sequence[Callable[[], Any]]) -> None:
        self.tasks, self.next, self.left = tasks, itertools.count(), len(tasks)
        self.lock, self.done, self.error = threading.Lock(), threading.Event(), None

    def work(self) -> None:
        """Run tasks until none is left to take."""
        while (i := next(self.next)) < len(self.tasks):
            try:
                self.tasks[i]()
            except BaseException as error:  # handed to the caller
                self.error = error
            with self.lock:
                self.left -= 1
                if not self.left:
                    self.done.set()


def _serve(jobs: queue.SimpleQueue[_Call]) -> None:
    while True:
        jobs.get().work()


def _forget() -> None:
    """In a forked child the parent's threads do not exist: start anew."""
    global _jobs, _workers, _lock
    _jobs, _workers, _lock = queue.SimpleQueue(), [], threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def get_num_threads() -> int:
    """How many threads a large call uses.

    Returns
    -------
    int
        What `set_num_threads` chose; else, where torch is loaded, ``torch.get_num_threads()``; else the number
        of processors this process may use.

    Examples
    --------
    >>> import gridfield as gf
    >>> gf.get_num_threads() >= 1
    True
    """
    if _chosen is not None:
        return _chosen
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(n: int | None) -> None:
    """Choose how many threads a large call uses. Results do not depend on it, bit for bit.

    Parameters
    ----------
    n : int or None
        At least 1; None goes back to the automatic choice (see `get_num_threads`).

    Returns
    -------
    None

    Raises
    ------
    ValueError
        If n is not a positive int.

    Examples
    --------
    >>> import gridfield as gf
    >>> gf.set_num_threads(1)
    >>> gf.get_num_threads()
    1
    >>> gf.set_num_threads(None)
    """
    global _chosen
    if n is not None and (not isinstance(n, int) or isinstance(n, bool) or n < 1):
        raise ValueError(f"gf.set_num_threads: n must be a positive int or None, got {n!r}")
    _chosen = n


def run(tasks: Sequence[Callable[[], Any]]) -> None:
    """Run the tasks, some of them on other threads; return when all are done."""
    helpers = min(get_num_threads(), len(tasks)) - 1 if len(tasks) > 1 else 0
    if helpers <= 0:
        for task in tasks:
            task()
        return
    with _lock:
        while len(_workers) < helpers:
            worker = threading.Thread(target=_serve, args=(_jobs,), name="gridfield", daemon=True)
            worker.start()
            _workers.append(worker)
    call = _Call(tasks)
    for _ in range(helpers):
        _jobs.put(call)
    call.work()
    call.done.wait()
    call.tasks = ()  # a helper that has not even woken up would keep the arrays of this call alive
    if call.error is not None:
        raise call.error


def split(start: int, stop: int, work: float, least: float = 1e5, align: int = 64) -> list[tuple[int, int]]:
    """Cut a range into one part per thread, or fewer, so that each has `least` work units (about 1 ns each)."""
    if work < 2 * least:
        return [(start, stop)]
    parts = int(max(1, min(get_num_threads(), work // least, (stop - start) // align)))
    step = -(-(stop - start) // parts)
    step = -(-step // align) * align
    return [(i, min(i + step, stop)) for i in range(start, stop, step)] or [(start, stop)]


def over(f: Callable[[int, int], Any], stop: int, work: float, align: int = 64) -> None:
    """f(i, j) for parts i ... j of range(stop), on as many threads as the work is worth."""
    parts = split(0, stop, work, align=align)
    if len(parts) == 1:
        f(0, stop)
    else:
        run([functools.partial(f, i, j) for i, j in parts])
