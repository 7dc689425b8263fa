"""Kernel: a 1-D piecewise polynomial of compact support, as a table. B-splines, Catmull-Rom, or the user's own."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from fractions import Fraction
from math import comb, factorial
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .cached import cached_property

Table = tuple[tuple[float, ...], ...]

__all__ = ["Kernel", "bspline", "catmull_rom"]


class Kernel:
    """An interpolation kernel: the weight of a sample as a function of its distance.

    A kernel of width `w` is nonzero on ``(-w/2, w/2)`` and a polynomial on each unit interval of it.
    At a point whose stencil starts at sample `m`, sample ``m + j`` has the weight
    ``sum_p coefficients[j, p] * t**p`` with ``0 <= t < 1``. For even `w` the breaks lie on the samples
    and `t` is the fraction of the coordinate; for odd `w` they lie half-way between samples and `t`
    is the fraction of the coordinate + 1/2.

    Parameters
    ----------
    coefficients : array_like, shape (width, degree + 1)
        Polynomial coefficients of each tap, constant term first, taps in the order of the samples.
    name : str, default "custom"
        A word for plots and messages.

    Raises
    ------
    ValueError
        If `coefficients` is not a finite, non-empty two-dimensional table.

    Examples
    --------
    >>> import gridfield as gf
    >>> hat = gf.Kernel([[1, -1], [0, 1]], name="hat")
    >>> hat.width, hat.degree, hat.interpolating, hat.continuity
    (2, 1, True, 0)
    >>> hat(0.25).item()
    0.75
    """

    __slots__ = ("__dict__", "_hash", "_table", "name")
    _table: Table
    _hash: int
    name: str

    def __init__(self, coefficients: ArrayLike, name: str = "custom") -> None:
        try:
            table = np.asarray(coefficients, dtype=float)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"gf.Kernel: coefficients must be a table of real numbers of shape (width, degree + 1) ({error})"
            ) from None
        if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
            raise ValueError(
                f"gf.Kernel: coefficients must be a finite table of shape (width, degree + 1), got shape {table.shape}"
            )
        rows = cast(Table, tuple(map(tuple, table.tolist())))
        object.__setattr__(self, "_table", rows)
        object.__setattr__(self, "name", str(name))
        object.__setattr__(self, "_hash", hash(rows))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"gf.Kernel is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"gf.Kernel is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Kernel) and self._table == other._table)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Kernel], tuple[Table, str]]:
        return Kernel, (self._table, self.name)

    def __repr__(self) -> str:
        return f"Kernel({self.name!r}, width={self.width}, degree={self.degree})"

    @property
    def coefficients(self) -> NDArray[np.float64]:
        """The table, shape (width, degree + 1), a fresh array."""
        return np.array(self._table)

    @property
    def width(self) -> int:
        """Number of samples that a point touches."""
        return len(self._table)

    @property
    def degree(self) -> int:
        """Degree of the polynomials."""
        return len(self._table[0]) - 1

    @property
    def support(self) -> tuple[float, float]:
        """The interval outside which the kernel is zero, in samples."""
        return -self.width / 2, self.width / 2

    @property
    def shift(self) -> float:
        """What is added to a coordinate before its cell is taken: 1/2 for odd widths, else 0."""
        return 0.5 * (self.width % 2)

    @property
    def left(self) -> int:
        """Samples of the stencil before the cell's own."""
        return (self.width - 1) // 2

    def table(self, order: int = 0) -> Table:
        """Coefficients of the kernel's derivative of some order.

        Parameters
        ----------
        order : int, default 0
            How often to differentiate.

        Returns
        -------
        tuple of tuple of float
            As `coefficients`, hashable.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.bspline(1).table(1)
        ((-1.0,), (1.0,))
        """
        rows = self._table
        for _ in range(order):
            rows = tuple(tuple(p * c for p, c in enumerate(row))[1:] or (0.0,) for row in rows)
        return rows

    def derivative(self, order: int = 1) -> Kernel:
        """The kernel's derivative, a kernel of the same width.

        Parameters
        ----------
        order : int, default 1
            How often to differentiate; 0 gives the kernel itself.

        Returns
        -------
        Kernel
            Its table is the derivative of every polynomial (from the right at the breaks).

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.bspline(1).derivative()([-0.5, 0.5])
        array([ 1., -1.])
        """
        if not isinstance(order, (int, np.integer)) or order < 0:
            raise ValueError(f"gf.Kernel.derivative: order must be an int >= 0, got {order!r}")
        return Kernel(self.table(order), self.name + "'" * order) if order else self

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """The kernel's value at distance x (in samples), zero outside the support."""
        x = _reals("gf.Kernel", "x", x)
        position = np.where(np.isfinite(x), x, 0.0) + self.width / 2
        piece = np.floor(position)
        inside = (piece >= 0) & (piece < self.width)
        t = np.where(inside, position - piece, 0.0)
        # piece i of the support is tap width-1-i: the last sample of the stencil is the farthest right of x
        rows = np.array(self._table)[np.where(inside, self.width - 1 - piece, 0).astype(int)]
        value = np.zeros_like(x)
        for p in range(self.degree, -1, -1):
            value = value * t + rows[..., p]
        return np.where(np.isnan(x), np.nan, np.where(inside & np.isfinite(x), value, 0.0))

    def fourier(self, k: ArrayLike) -> NDArray[np.float64] | NDArray[np.complex128]:
        """Continuous Fourier transform, ``integral kernel(x) exp(-2 pi i k x) dx``.

        Parameters
        ----------
        k : array_like
            Frequencies in cycles per sample.

        Returns
        -------
        ndarray
            Real for a symmetric kernel, else complex; same shape as `k`.

        Notes
        -----
        Up to 8 cycles per sample by Gauss-Legendre quadrature on each polynomial piece; beyond by parts, where
        ``F(k) = sum_j (2 pi i k)**(-j - 1) sum_x exp(-2 pi i k x) jump_j(x)`` with the jumps of the j-th derivative at
        the breaks x. Absolute error about 1e-14. A B-spline of degree n gives ``sinc(k)**(n + 1)``.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> bool(np.allclose(gf.bspline(3).fourier([0.0, 0.5]), np.sinc([0.0, 0.5]) ** 4))
        True
        """
        k = _reals("gf.Kernel.fourier", "k", k)
        out: NDArray[np.complex128] = np.where(np.isnan(k), np.nan, 0.0).astype(np.complex128)  # and 0 at infinity
        few, many = np.abs(k) <= 8, (np.abs(k) > 8) & np.isfinite(k)
        nodes, weights = np.polynomial.legendre.leggauss(self.degree + 60)
        x = np.arange(self.width)[:, None] - self.width / 2 + (nodes + 1) / 2
        out[few] = np.exp(-2j * np.pi * k[few, None] * x.ravel()) @ (self(x) * (weights / 2)).ravel()
        breaks = np.arange(self.width + 1) - self.width / 2
        turns = np.exp(-2j * np.pi * np.remainder(k[many, None] * breaks, 1.0))
        for j in range(self.degree + 1):
            rows = np.array(self.table(j))[::-1]  # from left to right: the last tap is the leftmost piece
            jumps = np.append(rows[:, 0], 0.0) - np.append(0.0, rows.sum(-1))  # from the right, and from the left
            out[many] += turns @ jumps / (2j * np.pi * k[many]) ** (j + 1)
        return np.real(out) if self.symmetric else out

    @property
    def symmetric(self) -> bool:
        """Whether kernel(-x) = kernel(x)."""
        mirrored = _at_one_minus_t(self._table[::-1])
        return bool(np.allclose(mirrored, self._table, rtol=0, atol=1e-12 * np.abs(self._table).max()))

    @property
    def partition_of_unity(self) -> bool:
        """Whether the weights sum to one everywhere, so that a constant stays that constant."""
        total = np.sum(self._table, axis=0)
        return bool(abs(total[0] - 1) < 1e-12 and np.all(np.abs(total[1:]) < 1e-12))

    @property
    def continuity(self) -> int:
        """How many derivatives are continuous: -1 for jumps (nearest), 0 (linear), 1 (Catmull-Rom), 2 (cubic) ...

        A kernel that is one polynomial over its whole support and smooth at its ends counts to its degree.
        """
        for order in range(self.degree + 1):
            rows = np.array(self.table(order))
            start, end = rows[:, 0], rows.sum(axis=1)
            # read from left to right the pieces are the taps in reverse; outside the support is zero
            left = np.concatenate([[0.0], end[::-1]])
            right = np.concatenate([start[::-1], [0.0]])
            if not np.allclose(left, right, rtol=0, atol=1e-10 * max(1.0, np.abs(rows).max())):
                return order - 1
        return self.degree

    @cached_property
    def interpolating(self) -> bool:
        """Whether the kernel is 1 at 0 and 0 at all other samples, so that no prefilter is needed."""
        taps = self.samples
        target = np.zeros_like(taps)
        target[len(taps) // 2] = 1
        return bool(np.allclose(taps, target, rtol=0, atol=1e-12))

    @property
    def samples(self) -> NDArray[np.float64]:
        """The kernel at the samples -m ... m that its support holds."""
        m = self.width // 2
        return self(np.arange(-m, m + 1))

    @cached_property
    def poles(self) -> tuple[float, ...]:
        """Poles inside the unit circle of the filter that makes the kernel interpolate; () if it does already.

        Returns
        -------
        tuple of float
            Half of the zeros of the z-transform of the kernel's samples.

        Raises
        ------
        ValueError
            If the kernel cannot be made to interpolate by a stable recursive filter with real poles.

        References
        ----------
        M. Unser, A. Aldroubi, M. Eden, "B-spline signal processing: part II", IEEE Trans. Signal
        Process. 41 (1993), 834-848, section II.

        Examples
        --------
        >>> import gridfield as gf
        >>> round(gf.bspline(3).poles[0], 6)  # sqrt(3) - 2
        -0.267949
        """
        if self.interpolating:
            return ()
        taps = np.trim_zeros(np.where(np.abs(self.samples) < 1e-14, 0.0, self.samples))
        roots = np.roots(taps) if len(taps) % 2 and np.allclose(taps, taps[::-1], atol=1e-13) else []
        inside = sorted(z.real for z in roots if abs(z) < 1 - 1e-9 and abs(z.imag) < 1e-9 * abs(z))
        if len(taps) == 0 or 2 * len(inside) != len(taps) - 1:
            raise ValueError(
                f"gf.prefilter: kernel {self.name!r} cannot be made to interpolate by a recursive filter "
                f"(its samples are {np.round(taps, 6).tolist()}); use prefilter=False"
            )
        poly, slope = np.poly1d(taps), np.poly1d(taps).deriv()
        for _ in range(3):  # np.roots is good to 1e-13 or so: Newton gives the last digits
            inside = [z - poly(z) / slope(z) for z in inside]
        return tuple(float(z) for z in inside)


def _at_one_minus_t(table: Table) -> list[list[float]]:
    """Coefficients of every row's polynomial in 1 - t."""
    degree = len(table[0]) - 1
    return [
        [sum(row[p] * comb(p, q) * (-1) ** q for p in range(q, degree + 1)) for q in range(degree + 1)] for row in table
    ]


def bspline(degree: int) -> Kernel:
    """The centred cardinal B-spline.

    Parameters
    ----------
    degree : int
        0 (nearest) to 7.

    Returns
    -------
    Kernel
        Width degree + 1, ``degree - 1`` continuous derivatives.

    Raises
    ------
    ValueError
        For a degree outside 0 ... 7.

    Notes
    -----
    ``beta_n(x) = 1/n! sum_k (-1)**k C(n+1, k) (x + (n+1)/2 - k)_+**n``, exact in rationals, then rounded once.

    References
    ----------
    I. J. Schoenberg, "Contributions to the problem of approximation of equidistant data by analytic
    functions", Quart. Appl. Math. 4 (1946), 45-99.

    Examples
    --------
    >>> import gridfield as gf
    >>> gf.bspline(3)(0.0).item() == 2 / 3
    True
    """
    if isinstance(degree, bool) or not isinstance(degree, (int, np.integer)) or not 0 <= degree <= 7:
        raise ValueError(f"gf.bspline: degree must be an int from 0 to 7, got {degree!r}")
    return _bspline(int(degree))


@functools.cache
def _bspline(n: int) -> Kernel:
    rows = [[Fraction(0)] * (n + 1) for _ in range(n + 1)]
    for j, k, p in itertools.product(range(n + 1), repeat=3):
        if (s := n - j - k) >= 0:
            sign = (-1) ** k * comb(n + 1, k) * comb(n, p)
            rows[j][p] += Fraction(sign * s ** (n - p), factorial(n))
    names = ["nearest", "linear", "quadratic", "cubic", "quartic", "quintic"]
    return Kernel([[float(c) for c in row] for row in rows], names[n] if n < 6 else f"bspline({n})")


catmull_rom = Kernel([[0, -0.5, 1, -0.5], [1, 0, -2.5, 1.5], [0, 0.5, 2, -1.5], [0, 0, -0.5, 0.5]], name="catmull_rom")

NAMED = {bspline(n).name: bspline(n) for n in range(6)} | {"catmull_rom": catmull_rom}


def _reals(where: str, name: str, x: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(x, dtype=float)
    except (TypeError, ValueError):
        raise TypeError(f"{where}: {name} must be real numbers, got {x!r}") from None


def as_kernel(kernel: str | int | Kernel, where: str) -> Kernel:
    """A word, a degree or a Kernel -> the Kernel; `where` is the public function, for the message."""
    if isinstance(kernel, Kernel):
        return kernel
    if isinstance(kernel, str) and kernel in NAMED:
        return NAMED[kernel]
    if isinstance(kernel, (int, np.integer)) and not isinstance(kernel, bool) and 0 <= kernel <= 7:
        return bspline(int(kernel))
    raise ValueError(
        f"{where}: kernel must be one of {', '.join(map(repr, NAMED))}, a degree from 0 to 7 or a gf.Kernel, "
        f"got {' '.join(repr(kernel).split())}"
    )


def as_kernels(kernel: str | int | Kernel | Sequence[str | int | Kernel], ndim: int, where: str) -> tuple[Kernel, ...]:
    """One kernel per axis from one for all, or from a sequence."""
    if isinstance(kernel, (str, Kernel)) or not isinstance(kernel, Sequence):
        return (as_kernel(kernel, where),) * ndim
    kernels = tuple(as_kernel(k, where) for k in kernel)
    if len(kernels) != ndim:
        raise ValueError(f"{where}: kernel names {len(kernels)} axes but the grid has {ndim}")
    return kernels
