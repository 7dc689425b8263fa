"""Sums of waves at few points, without a grid: one matrix product, of waves along the last axis with the rest.

20 points and 128**2 modes take less time than the FFT alone.
"""

from __future__ import annotations

import functools
from math import prod
from typing import Any

import numpy as np
from numba import types

from ..scheme import Waves
from .cache import array, compiled

Array = np.ndarray[Any, Any]
Orders = tuple[int, ...]

SUM_NS = 0.16  # measured: one mode of one point
APART = 8  # powers of a wave in so many chains: a product waits for the one before it


def _powers(angles, first, out):  # type: ignore[no-untyped-def]
    """out[p, k] = exp(i angles[p] (first + k))."""
    for p in range(len(angles)):
        for k in range(min(APART, out.shape[1])):
            angle = angles[p] * (first + k)
            out[p, k] = complex(np.cos(angle), np.sin(angle))
        step = complex(np.cos(APART * angles[p]), np.sin(APART * angles[p]))
        for k in range(APART, out.shape[1]):
            out[p, k] = out[p, k - APART] * step


@functools.cache
def _entry() -> Any:
    wide = np.float64
    signature = array(wide, 1, "C"), types.float64, array(np.complex128, 2, "C")
    return compiled(_powers, "", signature, contract=True)


class Tables:
    """The waves of some points (n, ndim) along each axis: (n, modes), complex, in the order of the modes."""

    def __init__(self, points: Array, waves: Waves) -> None:
        self.waves, self.dtype = waves, np.complex64 if points.dtype == np.float32 else np.complex128
        self.axes, self.products = [], {}
        for x, period, size in zip(points.T.astype(np.float64), waves.periods, waves.shape, strict=True):
            folded = np.remainder(x, period) if np.abs(x).max() > period else x  # so that multiples of it stay exact
            table = np.empty((len(x), size), np.complex128)
            _entry()(waves.sign * 2 * np.pi / period * folded, float(-(size // 2)), table)
            self.axes.append(table if waves.centered else np.fft.ifftshift(table, 1))

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
        tables = []
        for table, o, period, k in zip(self.axes, order, self.waves.periods, self.waves.modes, strict=True):
            tables.append(table * (1j * self.waves.sign * 2 * np.pi / period * k) ** o if o else table)
        rows = np.ones((len(tables[0]), 1))
        for table in tables[:-1]:
            rows = (rows[:, :, None] * table[:, None]).reshape(len(table), -1)
        return rows.astype(self.dtype), tables[-1].astype(self.dtype)

    def sample(self, orders: tuple[Orders, ...], modes: Array, out: Array) -> None:
        """out (orders, n, 2) from modes (*shape, 2)."""
        modes = modes.view(self.dtype).reshape(-1, modes.shape[-2])
        for k, order in enumerate(orders):
            rows, columns = self._of(order)
            sums = np.einsum("pk,pk->p", rows @ modes, columns)
            out[k, :, 0], out[k, :, 1] = sums.real, sums.imag

    def splat(self, orders: tuple[Orders, ...], values: Array, modes: Array) -> None:
        """modes (*shape, 2) from values (orders, n, 2)."""
        flat = modes.view(self.dtype).reshape(-1, modes.shape[-2])
        for k, order in enumerate(orders):
            rows, columns = self._of(order)
            weighted = (values[k, :, 0] + 1j * values[k, :, 1]).astype(self.dtype)[:, None] * columns.conj()
            if k:
                flat += rows.conj().T @ weighted
            else:
                np.matmul(rows.conj().T, weighted, out=flat)


def cost_ns(waves: Waves, points: int) -> float:
    """What the sums take."""
    return SUM_NS * prod(waves.shape) * points * len(waves.orders)
