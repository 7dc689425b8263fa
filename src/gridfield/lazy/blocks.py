"""A call for each block of dask arrays: axes by word, those that must be whole, those that are new."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from .. import check

Index = tuple[Hashable, ...]


class InChunks(ValueError):
    """An axis that has to be whole is in several chunks."""

    def __init__(self, where: str, argument: str, axes: Sequence[int], why: str = "") -> None:
        self.where, self.argument, self.axes, self.why = where, argument, tuple(axes), why
        super().__init__(self.text([str(a) for a in axes], ".rechunk"))

    def text(self, names: Sequence[str], method: str) -> str:
        """The message, axes by these names."""
        what = "dim" if method == ".chunk" else "axis"
        several = f"{what}s" if len(names) > 1 and what == "dim" else "axes" if len(names) > 1 else what
        call = f"{method}({{{', '.join(f'{n}: -1' for n in names)}}})"
        return (
            f"{self.where}: {self.argument} is in several chunks along {several} {', '.join(names)}, which must be "
            f"whole{self.why}: {self.argument}{call}"
        )


def is_lazy(x: Any) -> bool:
    """Whether it is an array of dask."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(x, module.Array)


def stack(items: list[Any]) -> Any:
    """Along a new last axis; lazily, if one is lazy."""
    return dask().stack(items, -1) if any(map(is_lazy, items)) else np.stack(items, -1)


def dask() -> Any:
    """dask.array, which an argument came from."""
    import dask.array

    return dask.array


def whole(x: Any, axes: Sequence[int], where: str, argument: str, why: str = "") -> None:
    """Demand that axes of a lazy array are in one chunk each."""
    if is_lazy(x) and (several := [a % x.ndim for a in axes if x.numblocks[a % x.ndim] > 1]):
        raise InChunks(where, argument, several, why)


def known(x: Any, where: str, argument: str) -> None:
    """Demand that all sizes are known (after a selection by a mask, dask does not know them)."""
    if is_lazy(x) and any(n != n for n in x.shape):
        raise ValueError(f"{where}: {argument} has a size that is not known: {argument}.compute_chunk_sizes() first")


def floating(x: Any) -> np.dtype:
    """The type of a result: that of the array, of this machine's byte order; float64 for integers."""
    dtype = np.dtype(x.dtype).newbyteorder("=")
    return np.dtype(np.float64) if check.is_integer(dtype.name) else dtype


def array(x: Any) -> Any:
    """As an array, lazy or of NumPy."""
    return x if is_lazy(x) else np.asarray(x)


def each(
    f: Callable[..., Any],
    out: Index,
    *pairs: Any,
    dtype: Any,
    new: Any = None,
    ones: Sequence[Hashable] = (),
    name: str = "gridfield",
    aligned: bool = True,
) -> Any:
    """f on every block. pairs: an array and the words of its axes, in turn; None goes through as None.

    new: axes that f makes, with sizes; ones: those that a block leaves 1 long; aligned: whether chunks are made alike.
    """
    da, args, passed = dask(), [], []
    for x, index in zip(pairs[::2], pairs[1::2], strict=True):
        if x is None:
            passed.append(None)
            continue
        passed.append(len(args) // 2)
        args += [x if is_lazy(x) else da.from_array(np.asarray(x), chunks=-1), index]

    def run(*blocks: Any) -> Any:
        return f(*[None if i is None else blocks[i] for i in passed])

    meta = np.empty((0,) * len(out), dtype)  # without it dask would call f on empty arrays
    return da.blockwise(
        run, out, *args, new_axes=new or {}, adjust_chunks=dict.fromkeys(ones, 1), concatenate=True, dtype=dtype,
        meta=meta, token=name, align_arrays=aligned,
    )  # fmt: skip


def words(prefix: str, n: int) -> Index:
    """n words."""
    return tuple(f"{prefix}{i}" for i in range(n))
