"""Lattices: the same field, or the nearest, on another lattice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from ..grid import Grid
from ..spline import Window
from .base import Base


class Lattices(Base):
    """Fields on finer, coarser, smaller and larger lattices."""

    def refine(self, factor: int | Sequence[int]) -> Self:
        """The same field on a finer lattice: knot insertion, exact at every point.

        Parameters
        ----------
        factor : int or one per axis
            How many times finer; odd for kernels of even degree.

        Returns
        -------
        SplineField
            With ``grid.refine(factor)``; its coefficients are new ones, without history.

        Raises
        ------
        ValueError
            If no field on that lattice is the same: for kernels other than B-splines, boundaries other than "natural",
            "mirror" and "wrap", or even factors at an even degree. `resample` then finds the nearest.

        References
        ----------
        M. Unser, "Splines: a perfect fit for signal and image processing", IEEE Signal Process. Mag. 16 (1999), 22-38.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5)).refine((2, 3)).grid.shape
        (7, 13)
        """
        spline, factors = self.spline.refined(factor)
        c = self.spline.separable(self._face, self._array(), "refine", tuple((f,) for f in factors))
        return self._with(spline, c)

    def resample(self, shape: int | Sequence[int] | Grid) -> Self:
        """The nearest field on another lattice, in the sense of L2 over its domain.

        Parameters
        ----------
        shape : int, sequence of int, or Grid
            Control points between the same bounds, or a lattice of its own.

        Returns
        -------
        SplineField
            Equal to this one where nothing has to be lost, as on a lattice `refine` would give; its coefficients are
            new ones, without history.

        Raises
        ------
        ValueError
            If shape has not one size per axis.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((8, 8)).resample((5, 6)).grid.shape
        (5, 6)
        """
        spline = self.spline.lattice(shape)
        c = self.spline.separable(self._face, self._array(), "resample", tuple((axis,) for axis in spline.axes))
        return self._with(spline, c)

    def crop(self, bounds: Any, *, margin: int | Sequence[int] | None = None) -> Self:
        """The field on the part of its lattice that lies within bounds.

        Parameters
        ----------
        bounds : (lo, hi), or one such pair or None per axis
            What to keep, in the units of the field's own bounds, widened to control points and cut at the ends of the
            field. None keeps an axis as it is; so does an axis of one control point.
        margin : int or one per axis, optional
            Control points to keep beyond the bounds on either side, where there are any. Default: as many as the kernel
            reaches, ``(width - 1) // 2`` (1 for "cubic", 2 for "quintic"), so that the field between the bounds is
            exactly what it was. With fewer it ends with its boundary where it was cut, and differs near there.

        Returns
        -------
        SplineField
            Its coefficients are new ones, without history. Its bounds include the margin. A periodic axis, or one with
            boundary "wrap", that is cut has two ends afterwards, with boundary "natural"; bounds may lie across the
            seam there, or be more than one turn apart.

        Raises
        ------
        ValueError
            If bounds lie outside of the field, or are not of that form.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> field = SplineField((11, 11), bounds=(0, 10))
        >>> field.crop([(2.5, 6), None]).grid  # from 2 to 6, and one control point on either side
        Grid((7, 11), ((1.0, 7.0), (0.0, 10.0)), periodic=False)
        >>> field.crop((2.5, 6), margin=0).grid.bounds
        ((2.0, 6.0), (2.0, 6.0))
        """
        return self._window(self.spline.within(bounds, margin))

    def pad(self, margins: int | Sequence[Any]) -> Self:
        """The field on a larger lattice, with control points beyond its ends that continue it by its boundary.

        Parameters
        ----------
        margins : int, or one int or pair (before, after) per axis
            Control points to add.

        Returns
        -------
        SplineField
            The same field within the old bounds if each margin is 0 or not less than the kernel's reach,
            ``(width - 1) // 2`` (1 for "cubic", 2 for "quintic"); with boundary "nearest" whatever the margin. Its
            coefficients are new ones, without history. A periodic axis, or one with boundary "wrap", goes on for more
            than a turn and has two ends afterwards, with boundary "natural".

        Raises
        ------
        ValueError, TypeError
            If margins is not of that form.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((11, 11), bounds=(0, 10)).pad([2, (0, 1)]).grid
        Grid((15, 12), ((-2.0, 12.0), (0.0, 11.0)), periodic=False)
        """
        return self._window(self.spline.beyond(margins))

    def _window(self, windows: list[Window | None]) -> Self:
        spline, n = self.spline.cut(windows), self.grid.shape
        new = [w is not None and (w[0] < 0 or w[1] >= m) for w, m in zip(windows, n, strict=True)]
        extended = [a for a, b in enumerate(self.boundary) if new[a] and b != "wrap"]  # there they are old ones again
        return self._with(spline, self.spline.window(self._face, self._array(), windows), extended)
