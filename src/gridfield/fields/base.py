"""Base: what a field is, for all that it can do; and how one is made of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from .. import check
from ..fitting import FitInfo
from ..grid import Grid
from ..kernel import Kernel
from ..spline import Spline

Terms = list[tuple["Base", Any]]  # fields, each with the number that it counts in a sum


def check_channels(channels: Any, where: str) -> int:
    """How many values a field has at a point."""
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(f"{where}: channels must be an int >= 1, got {channels!r}")
    return channels


class Base:
    """What the fields of all frameworks can do.

    A subclass has `spline`, `coefficients`, `_face`, `_name`, `_with`, `_made` and `_sum`. Further arguments of its
    constructor that belong to a field for good are attributes, words or numbers, whose names are in `_stored`.
    """

    spline: Spline
    coefficients: Any
    fit_info: FitInfo | None = None  # of a field that `fit` made
    _face: Any
    _name: ClassVar[str]  # the class, for messages
    _stored: ClassVar[tuple[str, ...]] = ()
    __array_ufunc__ = None  # so that numbers of NumPy leave arithmetic to the field

    def _array(self) -> Any:
        """The coefficients as an array of the framework."""
        return self.coefficients

    def _with(self, spline: Spline, coefficients: Any, extended: Sequence[int] = ()) -> Self:
        """A field of the same class with other control points; along `extended` the boundary made new ones."""
        raise NotImplementedError

    def _parameter(self) -> Any:
        """What the coefficients are worked out from, an array of the framework; None: nothing else."""
        return None

    def _set_parameter(self, values: Any) -> None:
        raise NotImplementedError

    def _sum(self, spline: Spline, terms: Terms) -> Any:
        """The field on that lattice that is the sum of fields, each times a number."""
        raise NotImplementedError

    def _terms(self) -> Terms:
        """The fields that this one is the sum of, each with its number."""
        return [(self, 1.0)]

    @classmethod
    def _made(cls, spline: Spline, coefficients: Any, *, dtype: Any, **how: Any) -> Self:
        """A field of a copy of a NumPy array, in a type (a word, too); `how` is for the constructor."""
        raise NotImplementedError

    def _read(self, where: str) -> tuple[Any, str]:
        """The coefficients as a NumPy array (bfloat16 as float32), and the name of their type."""
        array = self._array()
        dtype = self._face.dtype(array)
        if dtype not in (*check.FLOATS, *check.HALF):
            raise TypeError(f"{where}: coefficients have dtype {dtype} but must be one of {check.FLOATS + check.HALF}")
        try:
            values = self._face.numpy(array)
        except Exception as error:  # of each framework's own: there are no values while it traces, on meta devices
            raise TypeError(f"{where}: coefficients have no values here ({type(error).__name__})") from None
        if values.ndim != self.ndim + 1 or values.shape[1:] != self.grid.shape:
            raise ValueError(
                f"{where}: coefficients have shape {values.shape} but must be (channels, *{self.grid.shape})"
            )
        return values, dtype

    @property
    def grid(self) -> Grid:
        """Where the control points are."""
        return self.spline.grid

    @property
    def kernel(self) -> tuple[Kernel, ...]:
        """The kernel of each axis."""
        return self.spline.kernel

    @property
    def boundary(self) -> tuple[str, ...]:
        """The boundary of each axis."""
        return self.spline.boundary

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.spline.ndim

    @property
    def channels(self) -> int:
        """Values per point."""
        return self.coefficients.shape[0]

    @classmethod
    def _from(cls, spline: Spline, coefficients: Any) -> Self:
        """A field of this class, of an array of its framework."""
        return cls._made(spline, coefficients, dtype=cls._face.dtype(coefficients))

    @classmethod
    def _default_dtype(cls) -> str:
        """The framework's."""
        raise NotImplementedError

    @classmethod
    def _spline(
        cls, shape: Any, kernel: Any, bounds: Any, boundary: Any, periodic: Any, name: str
    ) -> tuple[Spline, str]:
        """What a classmethod is about to make, and its name for messages."""
        where = f"{cls._name}.{name}"
        spline = Spline.of(shape, kernel, bounds, boundary, where, periodic)
        return replace(spline, name=cls._name), where
