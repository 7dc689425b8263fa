"""Products of small complex matrices. BLAS shares them among threads, and to wait for those on a busy machine was seen
to take 22 ms instead of 0.1."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types

from .cache import SOURCES, array, compiled
from .machine import WHOLE, specialising, staged

Array = np.ndarray[Any, Any]

ROWS = 4  # of the result at once: 8 chains of multiply-adds hide their latency


@specialising(SOURCES)
@dataclass(frozen=True)
class Vectors:
    """What the kernel is specialised to: complex numbers in a pair of vectors."""

    lanes: int


@staged
def rows_of_product(m: Any, spec: Any, a: Any, b: Any, c: Any, first: Any, rows: Any, inner: Any, columns: Any) -> None:
    """c[i] = sum_j a[j, i] b[j] for ROWS rows from `first` on, or for one where there are fewer; complex numbers as
    re, im."""
    n = spec.lanes

    def block(start: Any, count: int) -> None:
        def vector(k: Any, live: Any) -> None:
            rest = None if live is None else live * 2
            zero = m.const(c, [0.0] * n)

            def term(j: Any, sums: list[Any]) -> list[Any]:
                re, im = m.split(m.load(b, (j * columns + k) * 2, 2 * n, live=rest))
                new = []
                for i in range(count):
                    at = (j * rows + start + i) * 2
                    x, y = m.load(a, at), m.load(a, at + 1)
                    new += [sums[2 * i] + re * x - im * y, sums[2 * i + 1] + im * x + re * y]
                return new

            sums = m.loop(0, inner, term, [zero] * (2 * count))
            for i in range(count):
                place = ((start + i) * columns + k) * 2
                m.store(c, place, m.interleave(sums[2 * i], sums[2 * i + 1]), live=rest)

        whole = m.quotient(columns, n)
        m.loop(0, whole, lambda k, _: vector(k * n, None))
        done = whole * n
        m.loop(done, m.select(done < columns, done + 1, done), lambda k, _: vector(k, columns - k))

    few = m.select(rows < ROWS, rows, rows * 0)
    m.loop(0, m.select(rows < ROWS, rows * 0, rows * 0 + 1), lambda _, __: block(first, ROWS))
    m.loop(0, few, lambda i, _: block(i, 1))


def _product(spec, a, b, c, rows, inner, columns):  # type: ignore[no-untyped-def]
    if rows < ROWS:
        rows_of_product(spec, a, b, c, 0, rows, inner, columns)
    else:
        for i in range(0, rows, ROWS):
            rows_of_product(spec, a, b, c, min(i, rows - ROWS), rows, inner, columns)


@functools.cache
def _compiled(dtype: str) -> tuple[Callable[..., Any], Vectors]:
    spec, i64, flat = Vectors(WHOLE // np.dtype(dtype).itemsize), types.int64, array(dtype, 1, "C")
    return compiled(_product, dtype, (spec._numba_type_, flat, flat, flat, i64, i64, i64)), spec  # type: ignore[attr-defined]


def transposed_product(a: Array, b: Array, c: Array) -> None:
    """c = a^T b, of contiguous complex matrices (inner, rows), (inner, columns), (rows, columns)."""
    real = "float32" if a.itemsize == 8 else "float64"
    kernel, spec = _compiled(real)
    kernel(spec, *(x.reshape(-1).view(real) for x in (a, b, c)), a.shape[1], *b.shape)
