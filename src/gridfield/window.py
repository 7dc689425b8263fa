"""The window of the non-uniform FFT: a prolate function as one more kernel table, and how wide it has to be.

A signal that is spread with a window phi onto a grid sigma times finer than its modes need, and divided by the
window's Fourier transform afterwards, is wrong by what phi lets through of the grid's other periods:

    error**2 = mean over |k| <= 1 / (2 sigma) of  sum over m != 0 of (phi^(k + m) / phi^(k))**2

The prolate spheroidal function of order zero with c = pi width (1 - 1 / (2 sigma)) has the least energy there of all
functions of that width (Slepian and Pollak, Bell Syst. Tech. J. 40 (1961), 43-63; as a gridding window: Jackson et
al., IEEE Trans. Med. Imaging 10 (1991), 473-478). Ours is that function less its value at the ends, so that it is
continuous there and a difference quotient sees no jump; that costs a fifth of the accuracy.
"""

from __future__ import annotations

import functools
from math import ceil, log, pi, prod, sqrt

import numpy as np
from numpy.polynomial import chebyshev, legendre
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from .kernel import Kernel

WIDTHS = range(2, 16)
FINE, LESS_FINE = 2.0, 1.5  # the sigma there are
# the error above per sigma and width, rounded up (tests/test_window.py works it out)
ERRORS = {
    FINE: dict(zip(WIDTHS, (3.3e-2, 4.9e-3, 4.9e-4, 4.8e-5, 5e-6, 5.4e-7, 5.4e-8, 5.6e-9, 6.4e-10, 6.7e-11, 6.9e-12,
                            7.2e-13, 7.6e-14, 9e-15), strict=True)),
    LESS_FINE: dict(zip(WIDTHS, (6.8e-2, 1.3e-2, 1.7e-3, 2.7e-4, 4e-5, 5.8e-6, 9.6e-7, 1.4e-7, 2.3e-8, 3.7e-9, 5.5e-10,
                                 8.5e-11, 1.4e-11, 2.2e-12), strict=True)),
}  # fmt: skip
# what rounding adds: of the window, of the FFT, of the coordinates; and the least error that a type is good for
ROUNDING = {"float32": 5e-7, "float64": 2e-13}
DIGIT = {"float32": 2.0**-24, "float64": 2.0**-53}  # half of the last one
FEW = 16  # modes
BEST = {"float32": 1e-6, "float64": 1e-12}


def prolate(c: float, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The prolate spheroidal wave function of order zero and bandwidth c on [-1, 1], 1 at 0.

    By its series in even Legendre polynomials, the lowest eigenvector of a tridiagonal matrix (H. Xiao, V. Rokhlin,
    N. Yarvin, Inverse Problems 17 (2001), 805-838, equations 60-64).
    """
    k = 2.0 * np.arange(int(40 + 2 * c))
    diagonal = k * (k + 1) + c * c * (2 * k * (k + 1) - 1) / ((2 * k + 3) * (2 * k - 1))
    beside = c * c * (k + 1) * (k + 2) / ((2 * k + 3) * np.sqrt((2 * k + 1) * (2 * k + 5)))
    _, vectors = eigh_tridiagonal(diagonal, beside[:-1], select="i", select_range=(0, 0))
    series = np.zeros(2 * len(k))
    series[::2] = vectors[:, 0] * np.sqrt(k + 0.5)
    return legendre.legval(x, series) / legendre.legval(0.0, series)


@functools.cache
def window(width: int, sigma: float = FINE) -> Kernel:
    """The window of so many taps for a grid `sigma` times finer than the modes need.

    Each piece is a polynomial of degree `width` through the function at Chebyshev's points, the ends among them, so
    that neighbours agree at the breaks.
    """
    c = pi * width * (1 - 1 / (2 * sigma))
    end = prolate(c, np.array(1.0))
    t = (1 - np.cos(pi * np.arange(width + 1) / width)) / 2
    x = np.clip((2 * (1 + np.arange(width)[:, None] - t) / width) - 1, -1, 1)
    pieces = chebyshev.chebfit(2 * t - 1, (prolate(c, x) - end).T / (1 - end), width)
    return Kernel(pieces.T @ _powers(width), f"window({width}, {sigma:g})")


def _powers(degree: int) -> NDArray[np.float64]:
    """Chebyshev's polynomials of 2 t - 1 in powers of t, a row each: numpy.polynomial takes 20 ms for a window."""
    rows = np.zeros((degree + 1, degree + 1))
    rows[0, 0] = 1
    for j in range(degree):  # T_(j+1) = 2 (2 t - 1) T_j - T_(j-1)
        rows[j + 1, 1:] = 4 * rows[j, :-1]
        rows[j + 1] -= 2 * rows[j]
        if j:
            rows[j + 1] -= rows[j - 1]
        else:
            rows[1] /= 2
    return rows


def band(width: int, sigma: float, k: NDArray[np.float64]) -> NDArray[np.float64]:
    """The window's Fourier transform within the band, |k| <= 1 / (2 sigma).

    By a polynomial in k**2, to 1e-14: Kernel.fourier takes 16 kB and 50 us for each k, and there may be millions.
    """
    return np.asarray(chebyshev.chebval(2 * (2 * sigma * k) ** 2 - 1, _series(width, sigma)), np.float64)


@functools.cache
def _series(width: int, sigma: float) -> NDArray[np.float64]:
    nodes = chebyshev.chebpts1(20)
    values = window(width, sigma).fourier(np.sqrt((nodes + 1) / 2) / (2 * sigma))
    return np.asarray(chebyshev.chebfit(nodes, np.real(values), len(nodes) - 1), np.float64)


@functools.cache
def leak(width: int, n: int, sigma: float = FINE) -> tuple[float, float, float]:
    """The error squared of each of n modes, on the least fine grid there may be for them: mean, mean square, largest.

    It is largest at the ends of the band, 8 times the mean error: of few modes those count. Of very many a sample does.
    """
    fine = 8 * ceil(max(sigma * n, 2 * width) / 8)
    k = np.linspace(-(n // 2), (n - 1) // 2, min(n, 128)) / fine
    # the midpoint rule, good up to 8 cycles, takes a fortieth of the time that Kernel.fourier does; of an even function
    x = (np.arange(8 * width) + 0.5) / 16
    hat = np.cos(2 * pi * (k + np.arange(-4, 5)[:, None])[..., None] * x) @ window(width, sigma)(x)
    squares = (np.delete(hat, 4, 0) ** 2).sum(0) / hat[4] ** 2
    return float(squares.mean()), float((squares**2).mean()), float(squares.max())


def error(width: int, shape: tuple[int, ...], dtype: str, sigma: float = FINE) -> float:
    """The relative error in l2 that a transform of random amplitudes has at most, but for one in a thousand.

    The share that one mode has in all is as exp(-share * number of modes): Bernstein's bound for sums of those.
    """
    means, squares, largest = zip(*(leak(width, n, sigma) for n in shape), strict=True)
    rare, rounding = (
        log(1000) / prod(shape),
        max(ROUNDING[dtype], 1.5 * DIGIT[dtype] * _gain(width, sigma) ** len(shape)),
    )
    return sqrt(sum(means) + sqrt(2 * rare * sum(squares)) + rare * max(largest) + rounding**2)


@functools.cache
def _gain(width: int, sigma: float) -> float:
    """By how much rounding grows, per axis, as modes are divided by the window's transform.

    Measured: as the power 0.6 of what white noise does; for sigma = 1.5 twofold for each three taps in 3-D.
    """
    k = (np.arange(200) + 0.5) / 400 / sigma
    return float(np.mean((band(width, sigma, np.zeros(1)) / band(width, sigma, k)) ** 2) ** 0.3)


def width_for(eps: float, shape: tuple[int, ...], dtype: str, sigma: float = FINE) -> int:
    """The least width that gives an error of at most eps; the greatest where none does.

    A tap more for few modes: their sums over points may cancel, all of them at once.
    """
    likely = (w for w in WIDTHS[:-1] if ERRORS[sigma][w] <= 10 * eps)
    width = next((w for w in likely if error(w, shape, dtype, sigma) <= eps), WIDTHS[-2])
    return min(width + (prod(shape) < FEW), WIDTHS[-2])
