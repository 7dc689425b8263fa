"""Arithmetic: sums of fields, each times a number, that follow their terms when they change."""

from __future__ import annotations

import numbers
from typing import Any

from ..spline import Spline
from .base import Base, Terms


class Arithmetic(Base):
    """`a + b`, `a - b`, `-a`, `2 * a` and `sum([a, b])`."""

    def __add__(self, other: Any) -> Any:
        return self._combined("+", other, 1.0)

    def __radd__(self, other: Any) -> Any:
        # for sum(), which begins with 0
        return self if isinstance(other, numbers.Real) and other == 0 else NotImplemented

    def __sub__(self, other: Any) -> Any:
        return self._combined("-", other, -1.0)

    def __neg__(self) -> Any:
        return self * -1.0

    def __mul__(self, number: Any) -> Any:
        if not self._is_number(number):
            return NotImplemented
        number = float(number) if isinstance(number, numbers.Real) else number
        return self._sum(self.spline, [(field, number * scale) for field, scale in self._terms()])

    __rmul__ = __mul__

    def _is_number(self, x: Any) -> bool:
        return isinstance(x, numbers.Real) and not isinstance(x, bool)

    def _combined(self, operation: str, other: Any, scale: float) -> Any:
        """This field plus or minus another."""
        if not isinstance(other, Arithmetic):
            return NotImplemented
        check_alike(self, other, operation)
        spline = self.spline.joined(other.spline, operation)
        return self._sum(spline, self._terms() + [(field, scale * s) for field, s in other._terms()])


def check_alike(a: Base, b: Base, operation: str) -> None:
    """Whether two fields can be added, as far as their coefficients go."""
    F, other, where = a._face, b._face, f"{a.spline.name}: {operation} needs fields"
    if F is not other:
        raise TypeError(f"{where} of one framework, got {F.name} and {other.name}")
    if a.channels != b.channels:
        raise ValueError(f"{where} with the same channels, got {a.channels} and {b.channels}")
    dtypes = F.dtype(a._array()), F.dtype(b._array())
    if dtypes[0] != dtypes[1]:
        raise TypeError(f"{where} of one dtype, got {dtypes[0]} and {dtypes[1]}")


def total(spline: Spline, terms: Terms) -> Any:
    """The coefficients of a sum of fields on a lattice that all of them can be refined to, each times a number."""
    out: Any = None
    for field, scale in terms:
        c, factors = field._array(), field.spline.factors(spline)
        if max(factors) > 1:
            c = field.spline.separable(field._face, c, "refine", tuple((f,) for f in factors))
        c = c if isinstance(scale, float) and scale == 1 else c * scale
        out = c if out is None else out + c
    return out
