"""Sums of waves at few points, without a grid: one matrix product, of waves along the last axis with the rest.

20 points and 128**2 modes take less time than the FFT alone.
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any

import numpy as np
from numba import types

from ..scheme import Waves, period_rest
from .cache import array, compiled
from .product import transposed_product

Array = np.ndarray[Any, Any]
Orders = tuple[int, ...]

SUM_NS = 0.16  # measured: one mode of one point
COMPLEX = {"float32": np.dtype("complex64"), "float64": np.dtype("complex128")}
APART = 8  # powers of a wave in so many chains: a product waits for the one before it


def _powers(x, period, rest, sign, first, out):  # type: ignore[no-untyped-def]
    """out[p, j] = exp(sign i 2 pi k x[p] / (period + rest)); k from `first` on, those below behind the others."""
    size = out.shape[1]
    for p in range(len(x)):
        at = np.float64(x[p])
        if abs(at) > period:
            turns = np.floor(at / period)  # so that multiples of it stay exact
            at = (at - turns * period) - turns * rest
        angle = sign * 2 * np.pi / period * at
        step = complex(np.cos(APART * angle), np.sin(APART * angle))
        wave = np.empty(APART, np.complex128)
        for j in range(APART):
            wave[j] = complex(np.cos(angle * (j - size // 2)), np.sin(angle * (j - size // 2)))
        for j in range(0, size, APART):
            for i in range(min(APART, size - j)):
                column = j + i - size // 2 - first
                out[p, column if column >= 0 else column + size] = wave[i]
            for i in range(APART):
                wave[i] *= step


def _contract(products, columns, out):  # type: ignore[no-untyped-def]
    """out[p] = sum over the columns of products[p] columns[p], as (re, im)."""
    for p in range(len(products)):
        total = products[p, 0] * columns[p, 0]
        for k in range(1, products.shape[1]):
            total += products[p, k] * columns[p, k]
        out[p, 0], out[p, 1] = total.real, total.imag


def _weigh(values, columns, out):  # type: ignore[no-untyped-def]
    """out[p] = values[p] times the conjugate of columns[p]."""
    for p in range(len(columns)):
        value = complex(values[p, 0], values[p, 1])
        for k in range(columns.shape[1]):
            out[p, k] = value * np.conj(columns[p, k])


@functools.cache
def entry(kind: str, dtype: str) -> Any:
    """A compiled kernel: "powers", "contract" or "weigh"."""
    f64, numbers = types.float64, array(dtype, 2)
    table = array("complex64" if dtype == "float32" else "complex128", 2, "C")
    if kind == "powers":
        return compiled(_powers, dtype, (array(dtype, 1), f64, f64, f64, types.int64, table), contract=True)
    if kind == "contract":
        return compiled(_contract, dtype, (table, table, numbers), contract=True)
    return compiled(_weigh, dtype, (numbers, table, table), contract=True)


class Tables:
    """The waves of some points (n, ndim) along each axis: (n, modes), complex, in the order of the modes."""

    def __init__(self, points: Array, waves: Waves) -> None:
        self.waves, self.real = waves, "float32" if points.itemsize == 4 else "float64"
        self.dtype, powers = COMPLEX[self.real], entry("powers", self.real)
        self.axes: list[Array] = []
        self.products: dict[Orders, tuple[Array, Array]] = {}
        for a, (period, size) in enumerate(zip(waves.periods, waves.shape, strict=True)):
            table = np.empty((len(points), size), self.dtype)
            first = -(size // 2) if waves.centered else 0
            powers(points[:, a], period, period_rest(period), float(waves.sign), first, table)
            self.axes.append(table)

    @staticmethod
    def purpose(waves: Waves) -> tuple[Any, ...]:
        """What they depend on besides the points: not on the derivatives that are asked for."""
        return waves.shape, waves.periods, waves.sign, waves.centered

    def _of(self, order: Orders) -> tuple[Array, Array]:
        """(n, modes of all axes but the last) and (n, modes of the last), for a derivative."""
        if order not in self.products:
            self.products[order] = self._product(order)
        return self.products[order]

    def _product(self, order: Orders) -> tuple[Array, Array]:
        tables = self.axes
        if any(order):
            tables = [
                (table * (1j * self.waves.sign * 2 * np.pi / period * k) ** o).astype(self.dtype) if o else table
                for table, o, period, k in zip(tables, order, self.waves.periods, self.waves.modes, strict=True)
            ]
        if len(tables) == 1:
            return np.ones((len(tables[0]), 1), self.dtype), tables[0]
        rows = tables[0]
        for table in tables[1:-1]:
            rows = (rows[:, :, None] * table[:, None]).reshape(len(table), -1)
        return rows, tables[-1]

    def sample(self, orders: tuple[Orders, ...], modes: Array, out: Array) -> None:
        """out (orders, n, 2) from modes (*shape, 2)."""
        modes, contract = modes.view(self.dtype).reshape(-1, modes.shape[-2]), entry("contract", self.real)
        for k, order in enumerate(orders):
            rows, columns = self._of(order)
            products = np.empty(columns.shape, self.dtype)
            transposed_product(np.ascontiguousarray(rows.T), modes, products)
            contract(products, columns, out[k])

    def splat(self, orders: tuple[Orders, ...], values: Array, modes: Array) -> None:
        """modes (*shape, 2) from values (orders, n, 2)."""
        flat, weigh = modes.view(self.dtype).reshape(-1, modes.shape[-2]), entry("weigh", self.real)
        for k, order in enumerate(orders):
            rows, columns = self._of(order)
            weighted = np.empty(columns.shape, self.dtype)
            weigh(values[k], columns, weighted)
            total = np.empty_like(flat) if k else flat
            transposed_product(rows.conj(), weighted, total)
            if k:
                flat += total


def cost_ns(waves: Waves, points: int) -> float:
    """What the sums take."""
    return SUM_NS * prod(waves.shape) * points * len(waves.orders)
