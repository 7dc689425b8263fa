"""Linear operators of any framework: an operator, its adjoint, and what is made of several; conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from . import check, dispatch
from .ops import recipe

Map = Callable[[Any], Any]


class Operator:
    """A linear map of arrays that knows its adjoint.

    ``A(x)`` and ``A @ x`` apply it. ``A @ B``, ``A + B``, ``A - B``, ``-A`` are operators; so are ``w * A`` (then times
    a number or an array) and ``A * w`` (first times it).

    Parameters
    ----------
    forward, adjoint : callable
        Of arrays of one framework: ``sum(conj(y) * forward(x)) == sum(conj(adjoint(y)) * x)``.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> op = gf.Nufft(np.array([[0.0], [1.0], [2.0]]), 4)
    >>> weighted = np.array([1.0, 2.0, 1.0]) * op
    >>> normal = op.H @ weighted
    >>> modes = np.array([0.0, 0.0, 1.0, 0.0])
    >>> bool(np.allclose(normal(modes), op.adjoint([1.0, 2.0, 1.0] * op(modes))))
    True
    """

    __array_ufunc__ = None  # so that NumPy's arrays leave `array * operator` to it

    def __init__(self, forward: Map, adjoint: Map) -> None:
        self._forward, self._adjoint = forward, adjoint

    @recipe
    def __call__(self, x: Any) -> Any:
        """A x."""
        return self._forward(x)

    @recipe
    def adjoint(self, y: Any) -> Any:
        """The conjugate transpose, applied.

        Parameters
        ----------
        y : array
            What the operator gives.

        Returns
        -------
        array
            Like what it takes.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> op = gf.Nufft(np.array([[0.0], [np.pi]]), 4)
        >>> op.adjoint(np.array([1.0, 1.0])).real.round(6) + 0.0
        array([2., 0., 2., 0.])
        """
        return self._adjoint(y)

    @property
    def H(self) -> Operator:
        """The conjugate transpose, as an operator."""
        return Operator(self.adjoint, self)

    @property
    def T(self) -> Operator:
        """The transpose, as an operator."""
        return Operator(_conjugated(self.adjoint), _conjugated(self))

    @recipe
    def __matmul__(self, other: Any) -> Any:
        if not isinstance(other, Operator):
            return self(other)
        return Operator(lambda x: self(other(x)), lambda y: other.adjoint(self.adjoint(y)))

    def __add__(self, other: Any) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        return Operator(lambda x: self(x) + other(x), lambda y: self.adjoint(y) + other.adjoint(y))

    def __sub__(self, other: Any) -> Operator:
        return self + -other if isinstance(other, Operator) else NotImplemented

    def __neg__(self) -> Operator:
        return Operator(lambda x: -self(x), lambda y: -self.adjoint(y))

    def __rmul__(self, factor: Any) -> Operator:
        return Operator(lambda x: _times(factor, self(x)), lambda y: self.adjoint(_times(_conj(factor), y)))

    def __mul__(self, factor: Any) -> Operator:
        if isinstance(factor, Operator):
            raise TypeError("the product of two operators is A @ B")
        return Operator(lambda x: self(_times(factor, x)), lambda y: _times(_conj(factor), self.adjoint(y)))

    def __truediv__(self, divisor: Any) -> Operator:
        return NotImplemented if isinstance(divisor, Operator) else self * (1 / divisor)


def _times(factor: Any, x: Any) -> Any:
    """Their product; TensorFlow multiplies no real by complex numbers."""
    if isinstance(factor, (int, float, complex)):
        return factor * x
    F = dispatch.face("product", factor=factor, x=x)
    real = F.dtype(factor) in check.REAL.values()
    return (F.astype(factor, F.dtype(x)) if real and F.dtype(x) in check.REAL else factor) * x


def _conj(x: Any) -> Any:
    """Of a number or an array of any framework."""
    return x.conjugate() if isinstance(x, (int, float, complex)) else dispatch.face("conj", x=x).conj(x)


def _conjugated(f: Map) -> Map:
    return lambda x: _conj(f(_conj(x)))


def conjugate_gradients(
    F: Any, apply: Map, b: Any, lead: int, iterations: int, tol: float, tick: Callable[[float], Any]
) -> Any:
    """x of apply(x) = b, apply Hermitian and positive, from x = 0; an equation for every item of the first `lead` axes.

    Until all residuals are below `tol` times those of x = 0, or for all iterations where a compiler traces. Written so
    that derivatives go through (an item that is solved has a step of 0, not of 0 / 0).
    (M. R. Hestenes, E. Stiefel, J. Res. Natl. Bur. Stand. 49 (1952), 409-436.)
    """
    items = prod(F.shape(b)[:lead])

    def dot(u: Any, v: Any) -> Any:
        u, v = (F.reshape(F.as_real(a), (items, prod(F.shape(b)[lead:]) * 2)) for a in (u, v))
        return F.einsum("in,in->i", u, v)

    def times(a: Any, u: Any) -> Any:
        a = F.reshape(a, (*F.shape(b)[:lead], *(1,) * (len(b.shape) - lead + 1)))
        return F.as_complex(a * F.as_real(u))

    def ratio(a: Any, c: Any) -> Any:
        positive = c > 0
        return F.where(positive, a / F.where(positive, c, c * 0 + 1), c * 0)

    x, r, p = b * 0, b, b
    first = rr = dot(r, r)
    for _ in range(iterations):
        known = F.concrete(ratio(rr, first))
        if known is not None:
            left = float(known.max(initial=0.0)) ** 0.5
            if not left > tol:
                break
            tick(left)
        q = apply(p)
        a = ratio(rr, dot(p, q))
        x, r = x + times(a, p), r - times(a, q)
        last, rr = rr, dot(r, r)
        p = r + times(ratio(rr, last), p)
    return x
