"""Sums of fields that follow their terms: what `base + delta` is; torch.py and tensorflow.py make classes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .fields import Field, Terms, check_alike
from .spline import Spline


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


class Sum(Field):
    """A field that is the sum of others, each times a number, and follows them when they change."""

    terms: Any
    scales: tuple[float, ...]

    def _hold(self, terms: Sequence[Any], scales: Sequence[float] | None, where: str) -> None:
        """Check the arguments of a subclass, and keep them."""
        terms = list(terms)
        if not terms or not all(isinstance(field, Field) and not isinstance(field, Sum) for field in terms):
            raise TypeError(f"{where}: terms must be one SplineField or more, got {terms!r}")
        by = (1.0,) * len(terms) if scales is None else tuple(map(float, scales))
        if len(by) != len(terms):
            raise ValueError(f"{where}: scales must be one number per term ({len(terms)}), got {scales!r}")
        self.spline, self.scales = terms[0].spline, by
        for field in terms[1:]:
            check_alike(terms[0], field, "+")
            self.spline = self.spline.joined(field.spline, "+")

    def _terms(self) -> Terms:
        return list(zip(self.terms, self.scales, strict=True))

    def _array(self) -> Any:
        return total(self.spline, self._terms())

    @property
    def coefficients(self) -> Any:
        """The control points, worked out from those of the terms: differentiable in them, and not to be assigned to."""
        return self._array()

    @property
    def channels(self) -> int:
        """Values per point."""
        return self.terms[0].channels
