"""Grid: the uniform grid that every field, histogram and transform of gridfield lives on."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import arguments, coordinate, uniform

_BLOCK = 16384  # points at a time, so that the temporaries of index() stay in cache
Float = NDArray[np.float64]
OnePerAxis = float | Sequence[float]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Grid:
    """Uniform samples in N dimensions, each in the middle of its cell.

    Sample ``i`` of an axis sits at ``origin + i * spacing`` and owns the cell of half a spacing
    on either side. A grid holds no data: it is hashable, compares by value, and can be pickled.
    `Grid.cells`, `Grid.pixels`, `Grid.covering` and `Grid.from_spacing` are other ways to make one.

    Parameters
    ----------
    shape : int or sequence of int
        Samples along each axis; an int makes a 1-D grid.
    bounds : (lo, hi) or one such pair per axis, default (0, 1)
        Coordinates of the first and the last sample, in any unit. On a periodic axis `hi` is where
        `lo` comes again, so ``spacing = (hi - lo) / n``; an axis of one sample, which is at `lo`,
        has ``spacing = hi - lo``.
    periodic : bool or one per axis, default False
        Whether the axis closes on itself.

    Attributes
    ----------
    shape, origin, spacing, periodic : tuple
        Samples, first sample, distance between samples and periodicity of each axis.

    Raises
    ------
    ValueError, TypeError
        If an argument does not describe a grid of at least one sample per axis, with lo < hi.

    Examples
    --------
    >>> import gridfield as gf
    >>> grid = gf.Grid((5, 6), ((0, 2), (-1, 1)))
    >>> grid
    Grid((5, 6), ((0.0, 2.0), (-1.0, 1.0)), periodic=False)
    >>> grid.spacing
    (0.5, 0.4)
    >>> gf.Grid(4, periodic=True).axes()
    [array([0.  , 0.25, 0.5 , 0.75])]
    """

    shape: tuple[int, ...]
    origin: tuple[float, ...]
    spacing: tuple[float, ...]
    periodic: tuple[bool, ...]

    def __init__(
        self,
        shape: int | Sequence[int],
        bounds: ArrayLike | None = None,
        *,
        periodic: bool | Sequence[bool] = False,
    ) -> None:
        name = "gf.Grid"
        sizes, flags = arguments.shape_and_periodic(name, shape, periodic)
        lows, highs = arguments.lows_and_highs(name, bounds, sizes)
        spacing = map(uniform.fit_samples, lows, highs, uniform.steps(sizes, flags))
        self._set(name, sizes, lows, tuple(spacing), flags)

    @classmethod
    def _new(cls, name: str, *fields: Any) -> Self:
        grid = object.__new__(cls)
        grid._set(name, *fields)
        return grid

    def _set(self, name: str, shape: Any, origin: Any, spacing: Any, periodic: Any) -> None:
        if math.prod(shape) >= 2**63:
            raise ValueError(f"{name}: shape {shape} has more cells than an int64 can number")
        for axis, (o, h, n) in enumerate(zip(origin, spacing, shape, strict=True)):
            # a cell must be several roundings wide: index() corrects its floor by one cell at most
            reach = max(abs(o - h / 2), abs(o + n * h))
            if not 4 * math.ulp(reach) <= h < math.inf:
                raise ValueError(
                    f"{name}: spacing {h} along axis {axis} must be resolved by float64 at the "
                    f"grid's coordinates, which reach {reach:.17g}"
                )
        for field, value in zip(self.__slots__, (shape, origin, spacing, periodic), strict=True):
            object.__setattr__(self, field, tuple(value))

    def _each(self) -> Iterator[tuple[float, float, int]]:
        return zip(self.origin, self.spacing, self.shape, strict=True)

    @classmethod
    def from_spacing(
        cls,
        shape: int | Sequence[int],
        origin: OnePerAxis = 0.0,
        spacing: OnePerAxis = 1.0,
        *,
        periodic: bool | Sequence[bool] = False,
    ) -> Self:
        """Grid with its first sample at `origin` and samples `spacing` apart.

        Parameters
        ----------
        shape : int or sequence of int
            Samples along each axis.
        origin, spacing : float or one per axis, default 0 and 1
            Coordinate of the first sample, and distance (> 0) between samples.
        periodic : bool or one per axis, default False
            Whether the axis closes on itself, after ``n * spacing``.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError, TypeError
            If an argument has another length than `shape`, or spacing is not positive and finite.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid.from_spacing((3, 4), origin=10, spacing=(0.5, 2)).bounds
        ((10.0, 11.0), (10.0, 16.0))
        """
        name = "gf.Grid.from_spacing"
        sizes, flags = arguments.shape_and_periodic(name, shape, periodic)
        first = arguments.per_axis(name, "origin", origin, len(sizes), arguments.COORDINATE)
        steps = arguments.per_axis(name, "spacing", spacing, len(sizes), arguments.LENGTH)
        return cls._new(name, sizes, first, steps, flags)

    @classmethod
    def cells(
        cls,
        shape: int | Sequence[int],
        bounds: ArrayLike | None = None,
        *,
        periodic: bool | Sequence[bool] = False,
    ) -> Self:
        """Grid whose *cells* fill the bounds, as the bins of a histogram do.

        Parameters
        ----------
        shape : int or sequence of int
            Cells along each axis.
        bounds : (lo, hi) or one such pair per axis, default (0, 1)
            Outer edges of the first and the last cell. Should no float64 origin and spacing give
            them back, `edges` is a rounding wider: a point within the bounds is always in a cell.
        periodic : bool or one per axis, default False
            Whether the axis closes on itself.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError, TypeError
            As `Grid` does.

        Examples
        --------
        >>> import gridfield as gf
        >>> grid = gf.Grid.cells(4, (0, 2))
        >>> grid.edges(), grid.axes()
        ([array([0. , 0.5, 1. , 1.5, 2. ])], [array([0.25, 0.75, 1.25, 1.75])])
        """
        name = "gf.Grid.cells"
        sizes, flags = arguments.shape_and_periodic(name, shape, periodic)
        fits = map(uniform.fit_cells, *arguments.lows_and_highs(name, bounds, sizes), sizes)
        return cls._new(name, sizes, *zip(*fits, strict=True), flags)

    @classmethod
    def pixels(cls, shape: int | Sequence[int], *, periodic: bool | Sequence[bool] = False) -> Self:
        """Grid of spacing 1 from 0: coordinates are array indices.

        Parameters
        ----------
        shape : int or sequence of int
            Samples along each axis.
        periodic : bool or one per axis, default False
            Whether the axis closes on itself.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError, TypeError
            As `Grid` does.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid.pixels((200, 300)).bounds
        ((0.0, 199.0), (0.0, 299.0))
        """
        name = "gf.Grid.pixels"
        sizes, flags = arguments.shape_and_periodic(name, shape, periodic)
        return cls._new(name, sizes, (0.0,) * len(sizes), (1.0,) * len(sizes), flags)

    @classmethod
    def covering(
        cls,
        points: ArrayLike,
        *,
        spacing: OnePerAxis | None = None,
        shape: int | Sequence[int] | None = None,
        margin: int | Sequence[int] = 0,
    ) -> Self:
        """Grid round scattered points, with a cell for every one of them.

        The smallest coordinate along each axis is in the middle of a cell, and so is the largest
        where `shape` is given. Points on a lattice are therefore in the middle of their cells,
        half a spacing away from any effect of rounding.

        Parameters
        ----------
        points : array_like, shape (*pts, ndim), or tuple of ndim arrays, shape (n,)
            Coordinates; points with a NaN are left out.
        spacing : float or one per axis
            Distance between samples. Give either this or `shape`.
        shape : int or one per axis
            Cells along each axis, those of the margin included.
        margin : int or one per axis, default 0
            Cells to add at either end of each axis.

        Returns
        -------
        Grid

        Raises
        ------
        TypeError
            If not exactly one of `spacing` and `shape` is given.
        ValueError
            If there is no point, a coordinate is infinite, or `shape` is given and all points have
            the same coordinate along an axis.

        Examples
        --------
        >>> import gridfield as gf
        >>> import numpy as np
        >>> points = np.arange(10)[:, None] * 0.1
        >>> grid = gf.Grid.covering(points, spacing=0.1)
        >>> grid.index(points)
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
        """
        name = "gf.Grid.covering"
        if (spacing is None) == (shape is None):
            raise TypeError(f"{name}: give either spacing or shape, not both and not neither")
        extremes = arguments.extremes(name, points)
        ndim = len(extremes)
        margins = arguments.per_axis(name, "margin", margin, ndim, arguments.COUNT)
        if spacing is not None:
            steps = arguments.per_axis(name, "spacing", spacing, ndim, arguments.LENGTH)
            fits = map(uniform.cover_with_spacing, extremes, steps, margins)
        else:
            sizes = arguments.per_axis(name, "shape", shape, ndim, arguments.SIZE)
            for axis, ((lo, hi), n, m) in enumerate(zip(extremes, sizes, margins, strict=True)):
                if lo == hi:
                    raise ValueError(
                        f"{name}: all points have the coordinate {lo} along axis {axis}, so shape "
                        "leaves the spacing open: give spacing"
                    )
                if n <= 2 * m:
                    raise ValueError(f"{name}: shape {sizes} leaves no cell between margins of {m} along axis {axis}")
            fits = map(uniform.cover_with_cells, extremes, sizes, margins)
        return cls._new(name, *zip(*fits, strict=True), (False,) * ndim)

    @classmethod
    def from_xarray(cls, array: Any, dims: Any = None, *, periodic: Any = False) -> Self:
        """Grid of the coordinates of a labelled array.

        Parameters
        ----------
        array : xarray.DataArray or Dataset
            What has the coordinates. A dim without one counts its samples from 0.
        dims : str or sequence of str, optional
            Dims that are the axes of the grid, in this order. Default: all.
        periodic : bool, or str or sequence of str, default False
            Whether the axes close on themselves, or those that do.

        Returns
        -------
        Grid
            In the units of the coordinates; dates are days since 1970-01-01, durations days. Of a coordinate that
            decreases (latitudes, often) the grid begins at its end: gridfield's functions turn a labelled array
            round, and back, by themselves. A dim of one sample has spacing 1.

        Raises
        ------
        ValueError, TypeError
            If a dim is not there, or its coordinate is not evenly spaced (to a thousandth) or not numbers; it is named.

        Examples
        --------
        >>> import gridfield as gf, numpy as np, xarray as xr
        >>> lat, lon = np.arange(90.0, -91, -30), np.arange(0.0, 360, 90)
        >>> t = xr.DataArray(np.zeros((7, 4)), {"lat": lat, "lon": lon}, ["lat", "lon"])
        >>> gf.Grid.from_xarray(t, periodic="lon")
        Grid((7, 4), ((-90.0, 90.0), (0.0, 360.0)), periodic=(False, True))
        """
        name = "gf.Grid.from_xarray"
        known = getattr(array, "sizes", None)
        if known is None or not hasattr(array, "coords"):
            raise TypeError(f"{name}: array must be an xarray.DataArray or Dataset, got {type(array).__name__}")
        chosen = list(known) if dims is None else list(dims) if isinstance(dims, (list, tuple)) else [dims]
        for dim in chosen:
            if dim not in known:
                raise ValueError(f"{name}: dims has {dim!r}, but the array has {tuple(known)}")
        if not chosen:
            raise ValueError(f"{name}: dims is empty, but a grid has at least one axis")
        if isinstance(periodic, str) or (
            isinstance(periodic, (list, tuple)) and any(isinstance(p, str) for p in periodic)
        ):
            wrapping = [periodic] if isinstance(periodic, str) else list(periodic)
            for dim in wrapping:
                if dim not in chosen:
                    raise ValueError(f"{name}: periodic has {dim!r}, but the axes are {tuple(chosen)}")
            periodic = tuple(dim in wrapping for dim in chosen)
        flags = arguments.per_axis(name, "periodic", periodic, len(chosen), arguments.FLAG)
        axes = [
            coordinate.even(array.coords[d].values, name, d)[:2] if d in array.coords else (0.0, 1.0) for d in chosen
        ]
        origin, spacing = zip(*axes, strict=True)
        return cls._new(name, tuple(int(known[d]) for d in chosen), origin, spacing, flags)

    @property
    def ndim(self) -> int:
        """Number of axes, 2 for ``Grid((5, 6))``."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of samples, and of cells: 30 for ``Grid((5, 6))``."""
        return math.prod(self.shape)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Coordinates of the first and the last sample of each axis.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid((5, 4), ((0, 1), (0, 8)), periodic=(False, True)).bounds
        ((0.0, 1.0), (0.0, 6.0))
        """
        return tuple((o, uniform.end(o, h, n - 1)) for o, h, n in self._each())

    def axes(self) -> list[Float]:
        """Coordinates of the samples along each axis.

        Returns
        -------
        list of ndarray, shapes (n,), float64

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid((3, 2), ((0, 1), (5, 9))).axes()
        [array([0. , 0.5, 1. ]), array([5., 9.])]
        """
        return [np.linspace(*ends, n) for ends, n in zip(self.bounds, self.shape, strict=True)]

    def coords(self) -> Float:
        """Coordinates of every sample: the points at which a field on this grid is known.

        Returns
        -------
        ndarray, shape (*shape, ndim), float64

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid((3, 2), ((0, 1), (5, 9))).coords()[1]
        array([[0.5, 5. ],
               [0.5, 9. ]])
        """
        out = np.empty((*self.shape, self.ndim))
        for i, axis in enumerate(np.ix_(*self.axes())):
            out[..., i] = axis
        return out

    def edges(self) -> list[Float]:
        """Edges of the cells along each axis.

        Returns
        -------
        list of ndarray, shapes (n + 1,), float64
            Increasing; of ``Grid.cells(n, (lo, hi))`` they are those of ``np.histogram``.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid.pixels(3).edges()
        [array([-0.5,  0.5,  1.5,  2.5])]
        """
        return [np.linspace(*uniform.outer(*axis), axis[-1] + 1) for axis in self._each()]

    def index(self, points: ArrayLike) -> NDArray[np.int64]:
        """Flat number, in C order, of the cell that each point is in.

        A cell holds its lower edge and not its upper one; the last cell of an axis holds both (the
        rule of ``np.histogramdd``). On a periodic axis points are wrapped into the grid first.

        Parameters
        ----------
        points : array_like, shape (*pts, ndim)
            Coordinates in the units of the grid.

        Returns
        -------
        ndarray, shape (*pts), int64
            -1 for points outside the grid or with a NaN. ``np.unravel_index(index, grid.shape)``
            gives the number of the cell along each axis.

        Raises
        ------
        ValueError
            If the last axis of `points` is not `ndim` long.
        TypeError
            If `points` are not real numbers.

        Examples
        --------
        >>> import gridfield as gf
        >>> grid = gf.Grid.cells((2, 3), (0, 6))
        >>> grid.index([[0, 0], [0, 2], [3, 0], [6, 6], [7, 0]])
        array([ 0,  1,  3,  5, -1])
        """
        array = arguments.coordinates("gf.Grid.index", points, self.shape)
        flat = array.reshape(-1, self.ndim)
        out = np.empty(len(flat), np.int64)
        outer = [uniform.outer(*axis) for axis in self._each()]
        for start in range(0, len(flat), _BLOCK):
            block = slice(start, start + _BLOCK)
            number, inside = 0, True
            for x, ends, n, wraps in zip(flat[block].T, outer, self.shape, self.periodic, strict=True):
                cell, within = uniform.cell(x, *ends, n, wraps)
                number = number * n + cell
                inside = inside & within
            out[block] = np.where(inside, number, -1)
        return out.reshape(array.shape[:-1])

    def to_index(self, points: ArrayLike) -> NDArray[np.floating]:
        """Coordinates counted in samples: 0 at the first sample, n - 1 at the last.

        Parameters
        ----------
        points : array_like, shape (*pts, ndim)
            Coordinates in the units of the grid.

        Returns
        -------
        ndarray, shape (*pts, ndim)
            ``(points - origin) / spacing``, worked out in float64; in the floating type of
            `points`, float64 for integers. Not wrapped, not clipped, not rounded.

        Raises
        ------
        ValueError, TypeError
            As `index` does.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid((5, 3), (10, 20)).to_index([[10, 20], [15, 12.5]])
        array([[0. , 2. ],
               [2. , 0.5]])
        """
        array = arguments.coordinates("gf.Grid.to_index", points, self.shape)
        out = (array - np.array(self.origin)) / np.array(self.spacing)
        return out.astype(arguments.floating(array), copy=False)

    def to_physical(self, index: ArrayLike) -> NDArray[np.floating]:
        """Coordinates in the units of the grid, from coordinates counted in samples.

        Parameters
        ----------
        index : array_like, shape (*pts, ndim)
            Positions in samples, whole or not.

        Returns
        -------
        ndarray, shape (*pts, ndim)
            ``origin + index * spacing``, worked out in float64; in the floating type of `index`,
            float64 for integers.

        Raises
        ------
        ValueError, TypeError
            As `index` does.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid((5, 3), (10, 20)).to_physical([2, 0.5])
        array([15. , 12.5])
        """
        array = arguments.coordinates("gf.Grid.to_physical", index, self.shape, "index")
        out = array * np.array(self.spacing) + np.array(self.origin)
        return out.astype(arguments.floating(array), copy=False)

    def refine(self, factor: int | Sequence[int]) -> Self:
        """Grid with `factor` times finer spacing, whose samples include those of this one.

        Parameters
        ----------
        factor : int or one per axis
            ``n`` samples become ``(n - 1) * factor + 1``, on a periodic axis ``n * factor``. An
            axis of one sample stays as it is.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError, TypeError
            If factor is not an integer of 1 or more, or not one per axis.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid((3, 1), (0, 2)).refine(2)
        Grid((5, 1), (0.0, 2.0), periodic=False)
        """
        name = "gf.Grid.refine"
        factors = arguments.per_axis(name, "factor", factor, self.ndim, arguments.SIZE)
        shape, spacing = [], []
        for (o, h, n), wraps, f in zip(self._each(), self.periodic, factors, strict=True):
            steps = n if wraps else n - 1
            shape.append(n if n == 1 else steps * f + (not wraps))
            spacing.append(h if n == 1 else uniform.fit_samples(o, uniform.end(o, h, steps), steps * f, guess=h / f))
        return self._new(name, tuple(shape), self.origin, spacing, self.periodic)

    def take(self, axes: int | Sequence[int]) -> Self:
        """Grid of some of the axes, in the order given.

        Parameters
        ----------
        axes : int or sequence of int
            Numbers of the axes; negative ones count from the last.

        Returns
        -------
        Grid

        Raises
        ------
        ValueError, TypeError
            If `axes` is empty, names an axis twice, or one that is not there.

        Examples
        --------
        >>> import gridfield as gf
        >>> gf.Grid((3, 4, 5)).take((2, 0)).shape
        (5, 3)
        """
        name = "gf.Grid.take"
        items = arguments.items(axes)
        chosen = arguments.per_axis(name, "axes", axes, 1 if items is None else len(items), arguments.AXIS)
        if not chosen or not all(-self.ndim <= axis < self.ndim for axis in chosen):
            raise ValueError(f"{name}: axes {axes} must name one or more of the axes of shape {self.shape}")
        numbers = [axis % self.ndim for axis in chosen]
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"{name}: axes {axes} names an axis twice")
        fields = self.shape, self.origin, self.spacing, self.periodic
        return self._new(name, *(tuple(field[i] for i in numbers) for field in fields))

    def __repr__(self) -> str:
        # the bounds that the constructor takes, so that eval(repr(grid)) is the grid again
        steps = uniform.steps(self.shape, self.periodic)
        bounds = tuple(zip(self.origin, map(uniform.end, self.origin, self.spacing, steps), strict=True))
        pairs = bounds[0] if len(set(bounds)) == 1 else bounds
        periodic = self.periodic[0] if len(set(self.periodic)) == 1 else self.periodic
        return f"Grid({self.shape}, {pairs}, periodic={periodic})"
