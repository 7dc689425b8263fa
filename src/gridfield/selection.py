"""Points in a mask, and the labels under points: by the cell of a grid that each point is in."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from . import check, dispatch
from .cpu import masks, threads
from .cpu.axes import MOST, Axes
from .grid import Grid
from .ops import recipe
from .sampling import _array, _texts

AWAY = -10.0  # a coordinate that is outside of any grid of pixels


KINDS = ("float32", "float64", "int32", "int64")  # of coordinates; others are converted


def _axes(grid: Grid) -> Axes | None:
    """Cells as the kernels read them, where there are not too many."""
    return Axes(grid.edges(), [True] * grid.ndim, grid.periodic) if grid.size <= MOST else None


class Points:
    """What a user gives as points: coordinates along the last axis, an array for each axis, or numbers of cells."""

    def __init__(self, given: Any, where: str, name: str = "", table: Any = None) -> None:
        several = isinstance(given, tuple)
        parts = {f"points[{i}]" if several else "points": x for i, x in enumerate(given if several else (given,))}
        if not parts:
            raise ValueError(f"{where}: points is an empty tuple, but must hold an array of coordinates for each axis")
        self.where, self.F = where, dispatch.face(where, **parts, **({name: table} if name else {}))
        F = self.F
        arrays = [_array(F, x, n, where) for n, x in parts.items()]
        for n, x in zip(parts, arrays, strict=True):
            kind = F.dtype(x)
            if not check.is_number(kind) or kind in check.REAL or kind == "bool":
                raise TypeError(f"{where}: {n} has dtype {kind} but must be real numbers")
            if not check.same(tuple(x.shape), tuple(arrays[0].shape)):
                raise ValueError(
                    f"{where}: {n} has shape {tuple(x.shape)} but points[0] has {tuple(arrays[0].shape)}: give as many "
                    "coordinates along each axis"
                )
        # NumPy has no bfloat16
        self.arrays = [F.astype(x, "float32") if F.dtype(x) in check.HALF else x for x in arrays]
        first, self.apart = arrays[0], several
        self.numbered = not several and len(first.shape) == 1 and check.is_integer(F.dtype(first))
        if several:
            self.ndim, self.shape = len(arrays), tuple(first.shape)
        else:
            self.ndim = 0 if self.numbered else check.points(first.shape, where)
            self.shape = tuple(first.shape) if self.numbered else tuple(first.shape[:-1])

    def of(self, grid: Grid) -> None:
        """As many coordinates as the grid has axes."""
        if not self.numbered and self.ndim != grid.ndim:
            shapes = [tuple(x.shape) for x in self.arrays]
            raise ValueError(
                f"{self.where}: points has {self.ndim} coordinates per point "
                f"({'shape' if len(shapes) == 1 else 'shapes'} {', '.join(map(str, shapes))}) but the grid has "
                f"{grid.ndim} axes {grid.shape}"
            )

    def columns(self, arrays: Any) -> list[np.ndarray]:
        """An array of coordinates for each axis, of one type, given NumPy arrays in place of those of the framework."""
        kind = np.result_type(*arrays).name
        if kind not in KINDS:
            kind = "float32" if kind == "float16" else "float64"
        arrays = [x.astype(kind, copy=False) for x in arrays]
        if self.apart:
            return [x.reshape(-1) for x in arrays]
        flat = arrays[0].reshape(-1, self.ndim)
        return [flat[:, a] for a in range(self.ndim)]

    def cells(self, arrays: Any, grid: Grid) -> np.ndarray:
        """Flat numbers of their cells."""
        if self.numbered:
            return arrays[0].astype(np.int64, copy=False)
        columns, axes = self.columns(arrays), _axes(grid)
        return grid.index(np.stack(columns, -1)) if axes is None else axes.index(columns)

    def apply(self, run: Callable[..., tuple[np.ndarray, int]], kind: str, size: int, *tables: Any) -> Any:
        """An array of the framework from (result, largest cell) of NumPy arrays: the points and the tables."""
        F, arrays = self.F, [*self.arrays, *tables]
        known = [F.concrete(x) for x in arrays]
        if all(x is not None for x in known):
            self.whole(known, size)
            result, top = run(*known)
            self.exist(top, size)
            return F.constant(result.reshape(self.shape), F.widest(kind), arrays[0])

        def outside(*given: np.ndarray) -> tuple[np.ndarray]:
            first = given[0]
            shape = first.shape if self.numbered or self.apart else first.shape[:-1]
            return (run(*given)[0].reshape(shape),)

        return F.outside(outside, (self.shape,), F.widest(kind), *arrays)[0]

    def centres(self, grid: Grid, kind: str, like: Any) -> Any:
        """(n, ndim): the middle of the cell of each point, counted in cells, AWAY for points outside; beside `like`."""
        F = self.F
        self.refuse()

        def places(*arrays: np.ndarray) -> tuple[np.ndarray, int]:
            cells = self.cells(arrays, grid)
            inside = np.clip(cells, 0, grid.size - 1)
            at = np.stack(np.unravel_index(inside, grid.shape), -1).astype(kind)
            at[cells < 0] = AWAY
            return at, int(cells.max(initial=-1))

        known: list[Any] = [F.concrete(x) for x in self.arrays]
        if all(x is not None for x in known):
            self.whole(known, grid.size)
            at, top = places(*known)
            self.exist(top, grid.size)
            return F.constant(at, kind, like)
        n = None if None in self.shape else prod(self.shape)
        return F.outside(lambda *arrays: (places(*arrays)[0],), ((n, grid.ndim),), kind, *self.arrays)[0]

    def refuse(self) -> None:
        """An error where derivatives in the points are asked for."""
        message = f"{self.where}: points are followed, but there is no derivative in them: detach them"
        self.arrays = [self.F.refusing(x, message) for x in self.arrays]

    def whole(self, known: list[Any], size: int) -> None:
        """An error where numbers of cells are beyond those of int64, as which they are read."""
        if self.numbered and known[0].dtype == np.uint64:
            self.exist(int(known[0].max(initial=0)), size)

    def exist(self, top: int, size: int) -> None:
        """An error where there is no cell of that number."""
        if top >= size:
            raise ValueError(
                f"{self.where}: points, integers along one axis, are numbers of cells up to {top}, but the grid has "
                f"{size} cells; coordinates are an array (n, ndim), or a tuple of an array for each axis"
            )


def _grid(grid: Any, shape: Any, name: str, where: str) -> Grid:
    """The grid of a mask or of labels of that shape."""
    sizes = check.grid_shape(shape, name, where)
    if grid is None:
        return Grid.pixels(sizes)
    check.is_grid(grid, where)
    if grid.shape != sizes:
        raise ValueError(f"{where}: {name} has shape {sizes} but the grid has {grid.shape}: a value for each cell")
    return grid


def _table(F: Any, x: Any, name: str, where: str) -> Any:
    """A mask, or labels, as an array of the framework."""
    x = _array(F, x, name, where)
    if not check.is_number(F.dtype(x)):
        raise TypeError(f"{where}: {name} has dtype {F.dtype(x)}, which is not a type of numbers it can use")
    return x


def _real(F: Any, x: Any, name: str, where: str) -> Any:
    if F.dtype(x) in check.REAL:
        raise TypeError(f"{where}: {name} has dtype {F.dtype(x)} but must be real or bool")
    return F.astype(x, "float32") if F.dtype(x) in check.HALF else x


def _taken(table: np.ndarray, cells: np.ndarray, outside: Any) -> tuple[np.ndarray, int]:
    """table[cell] of each cell, and the largest cell."""
    flat, out = table.reshape(-1), np.empty(len(cells), table.dtype)

    def part(i: int, j: int) -> None:
        np.take(flat, cells[i:j], mode="clip", out=out[i:j])

    threads.over(part, len(out), 4.0 * len(out))
    away = cells < 0
    if away.any():
        out[away] = outside
    return out, int(cells.max(initial=-1))


class MaskIndex:
    """A mask as a bit for each cell, prepared once to select points thousands of times.

    Parameters
    ----------
    mask : array, shape grid.shape
        Bools, or numbers, of which those above 0 count as True. In image order: ``mask[row, column]``.
    grid : Grid, optional
        Whose cells the mask is of. Default: ``Grid.pixels(mask.shape)``.

    Attributes
    ----------
    grid : Grid
        The grid.
    count : int
        How many cells are in the mask.

    Raises
    ------
    ValueError, TypeError
        If the mask has no cells, another shape than the grid, or is not of real numbers.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> mask = np.zeros((4, 6), bool)
    >>> mask[1, 3:] = True  # row 1, columns 3 to 5
    >>> index = gf.MaskIndex(mask)
    >>> index.select(np.array([[1.0, 4.4], [4.4, 1.0], [1.4, 2.4]]))  # (row, column)
    array([ True, False, False])
    >>> index.count
    3
    """

    def __init__(self, mask: Any, grid: Grid | None = None) -> None:
        where = "gf.MaskIndex"
        F = dispatch.face(where, mask=mask)
        mask = _real(F, _table(F, mask, "mask", where), "mask", where)
        self.grid = _grid(grid, mask.shape, "mask", where)
        bools = np.asarray(F.numpy(mask)) > 0
        self.count = int(np.count_nonzero(bools))
        self._bits, self._axes = masks.packed(bools), _axes(self.grid)

    def __repr__(self) -> str:
        return f"MaskIndex({self.count} of the {self.grid.size} cells of {self.grid!r})"

    @recipe
    def select(self, points: Any, *, outside: bool = False, indices: bool = False) -> Any:
        """Which points are in the mask, as `gridfield.select` says it.

        Parameters
        ----------
        points, outside, indices
            As for `gridfield.select`.

        Returns
        -------
        array of bool, shape (*pts), or of int64, shape (k,)
            As of `gridfield.select`.

        Raises
        ------
        ValueError, TypeError
            As `gridfield.select` does.

        Examples
        --------
        >>> import gridfield as gf, numpy as np
        >>> index = gf.MaskIndex(np.array([0, 1, 1, 0]))
        >>> cells = index.grid.index([[1.2], [3.0], [7.0]])
        >>> index.select(cells), index.select(cells, outside=True)
        (array([ True, False, False]), array([ True, False,  True]))
        """
        return self._select(points, outside, indices, "gf.MaskIndex.select")

    def _select(self, points: Any, outside: bool, indices: bool, where: str) -> Any:
        given = Points(points, where)
        given.of(self.grid)
        check.flag(outside, "outside", where)

        def run(*arrays: np.ndarray) -> tuple[np.ndarray, int]:
            if given.numbered or self._axes is None:
                cells = arrays[0] if given.numbered else given.cells(arrays, self.grid)
                return masks.test_cells(cells, self._bits, self.grid.size, bool(outside))
            return masks.test_points(self._axes, given.columns(arrays), self._bits, bool(outside)), -1

        return _chosen(given, run, self.grid.size, indices)


def _chosen(given: Points, run: Callable[..., Any], size: int, indices: bool, *tables: Any) -> Any:
    """Bools, or the numbers of those that are True."""
    F, where = given.F, given.where
    check.flag(indices, "indices", where)
    if not indices:
        return given.apply(run, "bool", size, *tables)
    known = [F.concrete(x) for x in (*given.arrays, *tables)]
    if any(x is None for x in known):
        raise TypeError(f"{where}: how many indices there are is not known where something traces; use indices=False")
    chosen, top = run(*known)
    given.exist(top, size)
    return F.constant(np.flatnonzero(chosen), F.widest("int64"), given.arrays[0])


@recipe
def select(points: Any, mask: Any, grid: Grid | None = None, *, outside: bool = False, indices: bool = False) -> Any:
    """Which points are in a mask.

    A point is in the cell of `Grid.index`, which holds its lower edge and not its upper one, the last cell of an axis
    both; around a pixel, the cell reaches half a pixel to either side.

    Parameters
    ----------
    points : array, shape (*pts, ndim), or tuple of an array for each axis, or 1-D array of int
        Coordinates in the order of the grid's axes: of an image (row, column), which is (y, x). Integers along one
        axis are numbers of cells instead, as `Grid.index` gives them, -1 for outside: to be worked out once for
        thousands of masks over the same points. A single point of integers is an array (1, ndim).
    mask : array, shape grid.shape, or MaskIndex
        Bools, or numbers, of which those above 0 count as True. For thousands of calls with one mask, a `MaskIndex`.
    grid : Grid, optional
        Whose cells the mask is of. Default: ``Grid.pixels(mask.shape)``, coordinates being indices of the mask. For
        bins that span a range, ``Grid.cells(mask.shape, bounds)``.
    outside : bool, default False
        What points outside of the grid, and those with a NaN, are.
    indices : bool, default False
        Give the numbers of the points in the mask, counted in C order, instead of bools.

    Returns
    -------
    array of bool, shape (*pts), or of int64, shape (k,)
        ``points[select(points, mask)]`` are those in the mask.

    Raises
    ------
    ValueError, TypeError
        If shapes, types or frameworks do not fit together; if a cell has a number that the grid does not have; for
        indices where a compiler traces.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> mask = np.zeros((4, 6))
    >>> mask[1, 3:] = 1  # row 1, columns 3 to 5
    >>> points = np.array([[1.0, 4.4], [4.4, 1.0], [0.6, 2.6]])  # (row, column), that is (y, x)
    >>> gf.select(points, mask)
    array([ True, False,  True])
    >>> x, y = points[:, 1], points[:, 0]
    >>> gf.select((y, x), mask, indices=True)
    array([0, 2])
    >>> gf.select((y, x), mask, gf.Grid.cells((4, 6), ((0, 6), (0, 6))))  # bins over a known range
    array([False, False, False])
    """
    where = "gf.select"
    if isinstance(mask, MaskIndex):
        if grid is not None and grid != mask.grid:
            raise ValueError(f"{where}: mask is a MaskIndex of {mask.grid!r}, but grid is {grid!r}")
        return mask._select(points, outside, indices, where)
    given = Points(points, where, "mask", mask)
    table = _real(given.F, _table(given.F, mask, "mask", where), "mask", where)
    over = _grid(grid, table.shape, "mask", where)
    given.of(over)
    check.flag(outside, "outside", where)

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, int]:
        values, top = _taken(arrays[-1], given.cells(arrays[:-1], over), bool(outside))
        return values > 0, top

    return _chosen(given, run, over.size, indices, table)


@recipe
def lookup(points: Any, labels: Any, grid: Grid | None = None, *, outside: Any = 0) -> Any:
    """The label, or any other value, of the cell under each point.

    Parameters
    ----------
    points : array, shape (*pts, ndim), or tuple of an array for each axis, or 1-D array of int
        As for `select`: (row, column), or numbers of cells.
    labels : array, shape grid.shape
        A number for each cell.
    grid : Grid, optional
        Default: ``Grid.pixels(labels.shape)``.
    outside : number, default 0
        What points outside of the grid, and those with a NaN, get.

    Returns
    -------
    array, shape (*pts)
        Of the type of `labels`. Where those are floats, derivatives in them go through; in the points there are none:
        points that are followed are an error.

    Raises
    ------
    ValueError, TypeError
        If shapes, types or frameworks do not fit together, a cell has a number that the grid does not have, or
        `outside` is no number of the type of `labels`.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> labels = np.array([[1, 1, 2], [3, 3, 2]])
    >>> gf.lookup(np.array([[0.2, 1.9], [1.0, 0.0], [5.0, 0.0]]), labels, outside=-1)  # (row, column)
    array([ 2,  3, -1])
    """
    where = "gf.lookup"
    given = Points(points, where, "labels", labels)
    F = given.F
    table = _table(F, labels, "labels", where)
    kind, over = F.dtype(table), _grid(grid, table.shape, "labels", where)
    given.of(over)
    fill = _fill(outside, kind, where)
    if kind in check.HALF:
        return F.astype(lookup(points, F.astype(table, "float32"), grid, outside=outside), kind)
    if not check.is_integer(kind) and kind != "bool":
        given.refuse()
    if kind in check.FLOATS and F.followed(table):
        return _followed(F, given, table, over, float(fill), where)

    def run(*arrays: np.ndarray) -> tuple[np.ndarray, int]:
        return _taken(arrays[-1], given.cells(arrays[:-1], over), fill)

    return given.apply(run, kind, over.size, table)


def _fill(outside: Any, kind: str, where: str) -> Any:
    """`outside` as a number of that type."""
    given = np.asarray(outside)
    kinds = "biufc" if kind in check.REAL else "biu" if check.is_integer(kind) else "biuf"
    if given.ndim or given.dtype.kind not in kinds or (check.is_integer(kind) and given.astype(kind) != given):
        raise ValueError(f"{where}: outside must be a number of the type of labels, {kind}, got {outside!r}")
    return given.astype("float32" if kind in check.HALF else kind)[()]


def _followed(F: Any, given: Points, table: Any, grid: Grid, fill: float, where: str) -> Any:
    """By a sample with the nearest kernel, at the middle of the cells, through which derivatives in the labels go."""
    kind, ndim = F.dtype(table), grid.ndim
    x = given.centres(grid, kind, table)
    text, _, _ = _texts(grid.shape, "nearest", "constant", ((0,) * ndim,), fill, False, where)
    y = F.sample(F.reshape(table, (1, 1, *grid.shape)), F.reshape(x, (1, -1, ndim)), text)
    shape = F.shape(given.arrays[0])
    return F.reshape(y, shape if given.numbered or given.apart else shape[:-1])
