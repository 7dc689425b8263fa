"""NumPy: the ops as they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft

from ..cpu import rounding
from ..cpu.threads import get_num_threads
from ..ops import Face, Op

_NAMES = {np.dtype(t): t for t in ("float32", "float64", "complex64", "complex128")}  # dtype.name takes 1 us


class NumPy(Face):
    """The NumPy face."""

    name, converts = "numpy", True
    reshape = staticmethod(np.reshape)
    moveaxis = staticmethod(np.moveaxis)
    einsum = staticmethod(np.einsum)
    sum = staticmethod(np.sum)
    broadcast_to = staticmethod(np.broadcast_to)
    stack = staticmethod(np.stack)
    matmul = staticmethod(np.matmul)
    transpose = staticmethod(np.transpose)
    where = staticmethod(np.where)
    sin, cos, floor = staticmethod(np.sin), staticmethod(np.cos), staticmethod(np.floor)
    inv, solve = staticmethod(np.linalg.inv), staticmethod(np.linalg.solve)
    cholesky = staticmethod(lambda a: np.linalg.cholesky(a))
    sqrt, log, concatenate = staticmethod(np.sqrt), staticmethod(np.log), staticmethod(np.concatenate)
    amin, amax = staticmethod(lambda x, axis: np.min(x, axis)), staticmethod(lambda x, axis: np.max(x, axis))
    argmin = staticmethod(lambda x, axis: np.argmin(x, axis))
    take = staticmethod(lambda x, indices: x[indices])
    exp, conj, roll = staticmethod(np.exp), staticmethod(np.conj), staticmethod(np.roll)
    concrete = staticmethod(np.asarray)

    @staticmethod
    def fft(x: Any, size: int, axis: int) -> Any:
        """Zeros are appended to that size."""
        return scipy.fft.fft(x, size, axis, workers=get_num_threads())

    @staticmethod
    def ifft(x: Any, size: int, axis: int) -> Any:
        """The inverse."""
        return scipy.fft.ifft(x, size, axis, workers=get_num_threads())

    @staticmethod
    def constant(table: Any, dtype: str, like: Any) -> Any:
        """A NumPy table in another type."""
        return table.astype(dtype, copy=False)

    @staticmethod
    def outside(f: Callable[..., Any], shapes: Any, dtype: str, *arrays: Any) -> tuple[Any, ...]:
        """As it is."""
        return tuple(np.asarray(y, dtype) for y in f(*arrays))

    @staticmethod
    def followed(*arrays: Any) -> bool:
        """By nobody."""
        return False

    @staticmethod
    def numpy(x: Any) -> Any:
        """As it is."""
        return x

    @staticmethod
    def copy(x: Any) -> Any:
        """A copy of its own."""
        return np.array(x)

    @staticmethod
    def fixed(x: Any) -> Any:
        """The same numbers."""
        return x

    def bind(self, op: Op) -> Callable[..., Any]:
        """Nothing to add."""
        return op.run

    @staticmethod
    def dtype(x: Any) -> str:
        """Name of the element type."""
        return _NAMES.get(x.dtype) or x.dtype.name

    @staticmethod
    def astype(x: Any, dtype: str) -> Any:
        """Convert, without a copy where there is nothing to do."""
        return x.astype(dtype, copy=False)

    @staticmethod
    def array(x: Any, dtype: str | None = None) -> Any:
        """From anything array-like."""
        if isinstance(x, np.ma.MaskedArray):
            raise TypeError("a masked array, whose mask would be lost: fill it, e.g. x.filled(np.nan)")
        x = np.asarray(x, dtype)
        return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))

    @staticmethod
    def as_real(x: Any) -> Any:
        """Complex (...) -> real (..., 2)."""
        x = np.ascontiguousarray(x)
        return x.view(x.real.dtype).reshape(*x.shape, 2)

    @staticmethod
    def as_complex(x: Any) -> Any:
        """Real (..., 2) -> complex (...)."""
        x = np.ascontiguousarray(x)
        return x.view(np.result_type(x.dtype, np.complex64)).reshape(x.shape[:-1])

    @staticmethod
    def round_to(x: Any, dtype: str) -> Any:
        """Floats to the nearest integers of a type, saturated; NaN is 0."""
        info = np.iinfo(dtype)
        if info.bits <= 16 and x.dtype.name in ("float32", "float64"):
            return rounding.round_to(x, dtype)
        x = np.nan_to_num(np.rint(x), nan=0.0)
        # the bounds of 64-bit types are no floats: compare, then write the bounds as integers
        low, high = x <= float(info.min), x >= float(info.max)
        y = np.where(low | high, 0.0, x).astype(dtype)
        y[low], y[high] = info.min, info.max
        return y


FACE = NumPy()
