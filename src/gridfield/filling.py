"""fill_empty: values for the cells of a grid that have none."""

from __future__ import annotations

from math import ceil, log2, prod
from typing import Any

import numpy as np
import scipy.ndimage
import scipy.sparse
import scipy.sparse.linalg

from . import check, dispatch
from .grid import Grid
from .ops import recipe
from .sampling import _array, _texts
from .smoothing import smooth
from .smoothing_kernel import ball

METHODS = ("nearest", "smooth", "spline")
FIRST = 1.5  # cells: the radius of the first ball of "smooth", which doubles
TENSION = 1e-6  # of first differences beside second ones: it decides where those leave a choice


@recipe
def fill_empty(a: Any, method: str = "nearest", *, grid: Grid | None = None) -> Any:
    """Fill the cells that are NaN from those that are not, which stay as they are.

    Parameters
    ----------
    a : array, shape (*lead, *grid.shape)
        Real data; the `lead` axes are filled each by itself.
    method : {"nearest", "smooth", "spline"}, default "nearest"
        "nearest": the value of the nearest cell that has one. "smooth": the mean over the smallest of the balls of 1.5,
        3, 6 ... spacings that reaches one. "spline": those values for which the squares of the second differences along
        the axes add up to the least.
    grid : Grid, optional
        Where `a` is; distances are measured by its spacing, and its periodic axes wrap for "smooth". Default:
        ``Grid.pixels`` of all axes of `a`.

    Returns
    -------
    array, shape (*lead, *grid.shape)
        Of the framework and type of `a`. Differentiable in it, for "spline" in torch only. All NaN where all of `a` is.

    Raises
    ------
    ValueError, TypeError
        If the method is not one of those, the shapes do not fit together, or `a` is complex; for "nearest" and
        "spline", where something traces.

    References
    ----------
    P. H. C. Eilers, "A perfect smoother", Anal. Chem. 75 (2003), 3631-3636, for the second differences.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> a = np.array([0.0, 1.0, np.nan, np.nan, np.nan, 5.0])
    >>> gf.fill_empty(a)
    array([0., 1., 1., 1., 5., 5.])
    >>> gf.fill_empty(a, "smooth")
    array([0. , 1. , 1. , 2.4, 5. , 5. ])
    >>> gf.fill_empty(a, "spline").round(3)
    array([0., 1., 2., 3., 4., 5.])
    """
    where = "gf.fill_empty"
    F = dispatch.face(where, a=a)
    a = _array(F, a, "a", where)
    kind = F.dtype(a)
    if not check.is_number(kind) or kind in check.REAL:
        raise TypeError(f"{where}: a has dtype {kind} but must be real")
    if method not in METHODS:
        raise ValueError(f"{where}: method must be one of {', '.join(map(repr, METHODS))}, got {method!r}")
    if grid is None:
        grid = Grid.pixels(check.grid_shape(a.shape, "a", where))
    check.is_grid(grid, where)
    check.trailing(a.shape, grid.shape, "a", "the grid's shape", where)
    if check.is_integer(kind):
        return F.copy(a)  # nothing is missing
    if kind in check.HALF:
        return F.astype(fill_empty(F.astype(a, "float32"), method, grid=grid), kind)
    lead = F.shape(a)[: len(a.shape) - grid.ndim]
    if method == "smooth":
        return _balls(F, a, grid)
    known = F.concrete(a)
    if known is None:
        raise TypeError(f"{where}: method {method!r} needs to know which cells are missing, but something traces")
    flat = F.reshape(a, (prod(lead), *grid.shape))
    missing = np.isnan(known).reshape(prod(lead), *grid.shape)
    if not missing.any():
        return F.copy(a)
    each = _nearest if method == "nearest" else _spline
    items = [each(F, flat[k], missing[k], grid, where) for k in range(len(missing))]
    return F.reshape(F.stack(items, 0), (*lead, *grid.shape))


def _balls(F: Any, a: Any, grid: Grid) -> Any:
    """From the mean over a ball, twice as large each time, until one reaches."""
    extent = max(n * h for n, h in zip(grid.shape, grid.spacing, strict=True)) * grid.ndim**0.5
    radius, out = FIRST * min(grid.spacing), a
    for _ in range(ceil(log2(max(extent / radius, 1.0))) + 1):
        known = F.concrete(out)
        if known is not None and not np.isnan(known).any():
            break
        around = smooth(a, _within(radius, grid), grid=grid, cval=np.nan)
        out = F.where(out == out, out, around)
        radius *= 2
    return F.copy(a) if out is a else out


def _within(radius: float, grid: Grid) -> np.ndarray:
    """The weights of a ball, without those that are outside of the grid from anywhere in it."""
    reach = (ceil(max(radius / h - 0.5, 0)) for h in grid.spacing)
    ends = zip(reach, grid.shape, grid.periodic, strict=True)
    return ball(radius, grid.spacing, tuple(m if wraps else min(m, n - 1) for m, n, wraps in ends))


def _nearest(F: Any, a: Any, missing: np.ndarray, grid: Grid, where: str) -> Any:
    """Each cell from the nearest that has a value, by a sample at its place."""
    if missing.all() or not missing.any():
        return a
    places: Any = scipy.ndimage.distance_transform_edt(
        missing, sampling=grid.spacing, return_distances=False, return_indices=True
    )
    if not F.followed(a):
        known: Any = F.concrete(a)
        return F.constant(known[tuple(places)], F.dtype(a), a)
    kind, ndim = F.dtype(a), grid.ndim
    x = F.constant(np.moveaxis(places, 0, -1).reshape(1, -1, ndim).astype(kind), kind, a)
    zero = F.constant(np.zeros(()), kind, a)
    text, _, _ = _texts(grid.shape, "nearest", "nearest", ((0,) * ndim,), 0.0, False, where)
    y = F.sample(F.reshape(F.where(a == a, a, zero), (1, 1, *grid.shape)), x, text)
    return F.reshape(y, grid.shape)


def _spline(F: Any, a: Any, missing: np.ndarray, grid: Grid, where: str) -> Any:
    """min over the missing x of sum |D2 x|**2 + TENSION |D1 x|**2, D1 and D2 the differences along each axis."""
    if missing.all() or not missing.any():
        return a
    holes = np.flatnonzero(missing)
    there = np.flatnonzero(~missing)
    energy = _energy(grid.shape, grid.spacing)[holes]
    solve = scipy.sparse.linalg.splu(energy[:, holes].tocsc()).solve
    coupling = energy[:, there]

    def filled(x: np.ndarray) -> np.ndarray:
        out = np.array(x, np.float64).reshape(-1)
        out[holes] = -solve(coupling @ out[there])
        return out.reshape(x.shape).astype(x.dtype)

    def back(ct: np.ndarray) -> np.ndarray:
        out = np.array(ct, np.float64).reshape(-1)
        out[there] -= coupling.T @ solve(out[holes])
        out[holes] = 0
        return out.reshape(ct.shape).astype(ct.dtype)

    y = F.linear(filled, back, a)
    if y is None:
        raise TypeError(
            f"{where}: method 'spline' has derivatives in torch only, backwards; method 'smooth' has them all"
        )
    return y


def _energy(shape: tuple[int, ...], spacing: tuple[float, ...]) -> Any:
    """The matrix of the squares of differences, sparse."""
    total: Any = scipy.sparse.csr_array((prod(shape), prod(shape)))
    for axis, (n, h) in enumerate(zip(shape, spacing, strict=True)):
        one = scipy.sparse.csr_array((n, n))
        for order, weight in ((1, TENSION / h**2), (2, h**-4)):
            if n > order:
                signs = [1.0, -2.0, 1.0] if order == 2 else [-1.0, 1.0]
                offsets: Any = list(range(order + 1))
                d = scipy.sparse.diags_array(signs, offsets=offsets, shape=(n - order, n))
                one = one + weight * (d.T @ d)
        before, after = prod(shape[:axis]), prod(shape[axis + 1 :])
        left = scipy.sparse.kron(scipy.sparse.eye_array(before), one)
        total = total + scipy.sparse.kron(left, scipy.sparse.eye_array(after)).tocsr()
    return total.tocsr()
