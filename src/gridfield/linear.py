"""Linear operators of any framework: an operator, its adjoint, and what is made of several; conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
        Of arrays of one framework: ``sum(conj(y) * forward(x)) == sum(conj(adjoint(y)) * x)``. An operator can be
        copied and pickled where these can, and so can what is made of it.

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
        return Operator(partial(_conjugated, self.adjoint), partial(_conjugated, self))

    @recipe
    def __matmul__(self, other: Any) -> Any:
        if not isinstance(other, Operator):
            return self(other)
        return Operator(partial(_after, self, other), partial(_after, other.adjoint, self.adjoint))

    def __add__(self, other: Any) -> Operator:
        if not isinstance(other, Operator):
            return NotImplemented
        return Operator(partial(_sum, self, other), partial(_sum, self.adjoint, other.adjoint))

    def __sub__(self, other: Any) -> Operator:
        return self + -other if isinstance(other, Operator) else NotImplemented

    def __neg__(self) -> Operator:
        return Operator(partial(_negative, self), partial(_negative, self.adjoint))

    def __rmul__(self, factor: Any) -> Operator:
        first = partial(_times, _conj(factor))
        return Operator(partial(_after, partial(_times, factor), self), partial(_after, self.adjoint, first))

    def __mul__(self, factor: Any) -> Operator:
        if isinstance(factor, Operator):
            raise TypeError("the product of two operators is A @ B")
        last = partial(_times, _conj(factor))
        return Operator(partial(_after, self, partial(_times, factor)), partial(_after, last, self.adjoint))

    def __truediv__(self, divisor: Any) -> Operator:
        return NotImplemented if isinstance(divisor, Operator) else self * (1 / divisor)


# what operators are made of others by: functions of a module, as those can be pickled
def _after(f: Map, g: Map, x: Any) -> Any:
    return f(g(x))


def _sum(f: Map, g: Map, x: Any) -> Any:
    return f(x) + g(x)


def _negative(f: Map, x: Any) -> Any:
    return -f(x)


def _conjugated(f: Map, x: Any) -> Any:
    return _conj(f(_conj(x)))


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
