"""How many threads the kernels use: get, set, for a while, and after a fork.

Unless set here, OpenMP decides, and so ``OMP_NUM_THREADS`` and threadpoolctl. Results do not
depend on it. Below about 65,000 elements a call is serial.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import csoftmax
from csoftmax.arguments import integer
from csoftmax.dispatch import available, kernels, name

__all__ = ["get_num_threads", "set_num_threads", "show_config", "threads"]

# OpenMP cannot start threads in a forked child: stay serial there.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=kernels.set_forked)


def get_num_threads() -> int:
    """Number of threads that a large call uses now.

    Returns
    -------
    int
        What `set_num_threads` set, else OpenMP's number; 1 in a forked child process and where
        csoftmax was built without OpenMP.

    Examples
    --------
    >>> import csoftmax
    >>> with csoftmax.threads(1):
    ...     csoftmax.get_num_threads()
    1
    """
    return kernels.get_num_threads()


def set_num_threads(n: int) -> None:
    """Set the number of threads of the whole process.

    Parameters
    ----------
    n : int
        At least 1. More than the number of cores is allowed, and slow.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or less than 1.

    Examples
    --------
    >>> import csoftmax
    >>> csoftmax.set_num_threads(1)
    """
    kernels.set_num_threads(_count(n))


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Use `n` threads inside a ``with`` block, in the whole process.

    Parameters
    ----------
    n : int
        At least 1.

    Raises
    ------
    TypeError, ValueError
        If `n` is no integer, or less than 1.

    Examples
    --------
    >>> import csoftmax, numpy as np
    >>> with csoftmax.threads(2):
    ...     y = csoftmax.softmax(np.zeros((1000, 1000)))
    """
    former = kernels.set_num_threads(_count(n))
    try:
        yield
    finally:
        kernels.set_num_threads(former)


def show_config() -> None:
    """Print version, instruction sets, threads and OpenMP.

    Examples
    --------
    >>> import csoftmax
    >>> csoftmax.show_config()  # doctest: +ELLIPSIS
    csoftmax ...
    instruction set: ...
    threads: ...
    OpenMP: ...
    """
    print(f"csoftmax {csoftmax.__version__}")
    print(f"instruction set: {name} (available: {', '.join(available())})")
    print(f"threads: {get_num_threads()}")
    print(f"OpenMP: {'yes' if kernels.openmp else 'no'}")


def _count(n: int) -> int:
    if integer(n, "n", "an integer of at least 1") < 1:
        raise ValueError(f"n is {n!r}: expected an integer of at least 1")
    return min(int(n), 1 << 16)
