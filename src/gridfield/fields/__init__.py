"""Field: what the learnable fields of all frameworks can do; torch.py, jax.py and tensorflow.py make classes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .arithmetic import Arithmetic, check_alike, total
from .base import Base, Terms, check_channels
from .calculus import Calculus
from .data import FromData
from .lattices import Lattices
from .storage import Storage

__all__ = ["Field", "Sum", "Terms", "check_channels", "total"]


class Field(FromData, Calculus, Lattices, Arithmetic, Storage, Base):
    """A field of any framework."""


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
