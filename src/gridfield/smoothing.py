"""smooth: a grid smoothed with a ball or another neighbourhood, with values missing; for any framework."""

from __future__ import annotations

import functools
from math import isnan
from typing import Any, NamedTuple

import numpy as np

from . import check, dispatch
from .boundary import as_boundaries
from .cpu import stencil
from .grid import Grid
from .ops import recipe, static
from .sampling import BoundaryLike, _array, _grids_from_channels, _hashable, _margins, _to_channels
from .scheme import Stencil, intern
from .smoothing_kernel import weights

POLICIES = ("omit", "keep", "propagate", "raise")
NOTHING = 1e-12  # of all weights: cells that are reached by less have nothing to be made of (rounding of FFTs: 1e-16)
CONTINUED = {"constant": "grid-constant"}  # the data go on by cval


class SmoothInfo(NamedTuple):
    """How a smoothing was done.

    Parameters
    ----------
    method : str
        "direct", "separable", "running sums" or "fft": the quickest by the counts of operations in `costs`.
    kernel : ndarray
        The weights, normalised if they were to be.
    costs : dict
        Milliseconds that each way is expected to take on one thread.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> smoothed, info = gf.smooth(np.eye(5), "gaussian", sigma=0.5, return_info=True)
    >>> info.method, info.kernel.shape
    ('separable', (5, 5))
    """

    method: str
    kernel: np.ndarray[Any, Any]
    costs: dict[str, float]


@recipe
def smooth(
    a: Any,
    kernel: Any = "ball",
    radius: Any = None,
    *,
    sigma: Any = None,
    grid: Grid | None = None,
    boundary: BoundaryLike = "constant",
    cval: float = 0.0,
    nan_policy: str = "omit",
    normalize: bool = True,
    return_info: bool = False,
) -> Any:
    """Smooth data on a grid, leaving out cells that are missing (NaN).

    The convolution with a kernel w, normalised by the weights of the cells that are there:
    ``y[i] = sum_k w[k] a[i - k] / sum_k w[k]``, both sums over the k for which ``a[i - k]`` is not NaN. It is linear in
    `a`, and differentiable.

    Parameters
    ----------
    a : array, shape (*lead, *grid.shape)
        Real, complex or integer; the `lead` axes are smoothed each by itself.
    kernel : {"ball", "gaussian", "box", "shell"} or array, default "ball"
        "ball": each cell by the part of it that is within `radius`. "box": the same within `radius` along every axis.
        "shell": between two radii, or within half a cell of one. "gaussian": ``exp(-x**2 / (2 sigma**2))`` at the
        samples, up to `radius`. An array: its own weights, an odd number along each axis, constant to derivatives.
    radius : float, in units of the grid
        For "box" and "gaussian" also one per axis, for "shell" also (inner, outer). Default for "gaussian": 4 sigma.
    sigma : float or one per axis, in units of the grid
        For "gaussian" only.
    grid : Grid, optional
        Where `a` is; its spacing is what radius and sigma are measured by. Default: ``Grid.pixels`` of all axes of `a`,
        of as many of the last as an array of weights has.
    boundary : str or one per axis, default "constant"
        "constant" continues the data by `cval`; "nearest", "reflect", "mirror" and "wrap" as for `sample`. A periodic
        axis of the grid wraps.
    cval : float, default 0.0
        Value beyond the ends for "constant". NaN: there is nothing, and what is out there carries no weight.
    nan_policy : {"omit", "keep", "propagate", "raise"}, default "omit"
        What becomes of missing cells. "omit": they carry no weight, and are filled from those around; "keep": they
        carry no weight and stay missing; "propagate": whatever the kernel reaches them from is missing; "raise".
    normalize : bool, default True
        Divide the weights by their sum. If False, and cells are missing, the sum of those that are there is scaled up
        to all weights, as astropy does.
    return_info : bool, default False
        Return a `SmoothInfo`, too.

    Returns
    -------
    array, shape (*lead, *grid.shape), or (array, SmoothInfo)
        Of the framework, type and device of `a`; float64 for integers. NaN where no cell that is there is reached.

    Raises
    ------
    ValueError, TypeError
        If the arguments do not fit together, the radius is not positive, or the weights add up to 0 where something has
        to be divided by that.

    References
    ----------
    H. Knutsson, C.-F. Westin, "Normalized and differential convolution", Proc. CVPR (1993), 515-523.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> a = np.zeros((5, 5))
    >>> a[2, 2], a[2, 3] = 9.0, np.nan
    >>> gf.smooth(a, "box", 1.5)[2].round(3)  # 9 / 9 where all nine cells are there, 9 / 8 where one is missing
    array([0.   , 1.   , 1.125, 1.125, 0.   ])
    >>> fine = gf.Grid.from_spacing((5, 5), spacing=0.5)
    >>> gf.smooth(np.ones((5, 5)), "ball", 1.0, grid=fine, cval=np.nan)[0]  # nothing beyond the ends
    array([1., 1., 1., 1., 1.])
    """
    where = "gf.smooth"
    F = dispatch.face(where, a=a)
    a = _array(F, a, "a", where)
    given = F.dtype(a)
    dtype = F.widest(check.compute_dtype(given, "int64", where, "a"))
    shape, spacing, periodic = _space(a, kernel, grid, where)
    cval = _checked(given, cval, nan_policy, normalize, return_info, where)
    boundaries = _boundaries(boundary, periodic, where)
    asked = kernel, _hashable(radius), _hashable(sigma), spacing, normalize, where
    spaces = Spaces(F, stencils(*asked), boundaries, cval)
    lead = F.shape(a)[: len(a.shape) - len(shape)]
    v = _to_channels(F, a, lead, shape, dtype)[0]
    missing = _missing(F, a, v, given, nan_policy, where)
    if missing is None and not spaces.empty:
        y = spaces.sums(v)
    else:
        y = _normalised(F, v, F.fixed(v) != F.fixed(v) if missing is None else missing, spaces, nan_policy, where)
    out = _grids_from_channels(F, y, lead, given)
    if not return_info:
        return out
    plan = stencil.plan(spaces.extended(shape), spaces.text, dtype)
    costs = {way: 1e-6 * ns for way, ns in plan.ns.items()}
    return out, SmoothInfo(plan.method, _table(*asked), costs)


def _space(a: Any, kernel: Any, grid: Any, where: str) -> tuple[Any, Any, Any]:
    """Shape, spacing and periodicity of the axes that are smoothed."""
    if grid is not None:
        check.is_grid(grid, where)
        check.trailing(a.shape, grid.shape, "a", "the grid's shape", where)
        return grid.shape, grid.spacing, grid.periodic
    ndim = None if isinstance(kernel, str) else np.ndim(kernel)
    if ndim is not None and not 1 <= ndim <= len(a.shape):
        raise ValueError(
            f"{where}: kernel has {ndim} axes but a has shape {tuple(a.shape)}: give one weight or more along each of "
            "its last axes"
        )
    shape = check.grid_shape(check.last_axes(a.shape, ndim, "a", where), "a", where)
    return shape, (1.0,) * len(shape), (False,) * len(shape)


def _checked(given: str, cval: Any, nan_policy: Any, normalize: Any, return_info: Any, where: str) -> float:
    """cval as a number, the others being as they should."""
    cval = check.number(cval, "cval", where)
    if given in check.REAL and cval != 0 and not isnan(cval):
        raise ValueError(f"{where}: cval must be 0 or NaN for complex values, got {cval!r}")
    if nan_policy not in POLICIES:
        raise ValueError(f"{where}: nan_policy must be one of {', '.join(map(repr, POLICIES))}, got {nan_policy!r}")
    if nan_policy == "propagate" and isnan(cval):
        raise ValueError(f"{where}: cval=NaN leaves out what is beyond the ends, nan_policy='propagate' nothing")
    check.flag(normalize, "normalize", where)
    check.flag(return_info, "return_info", where)
    return cval


@static
def _boundaries(boundary: Any, periodic: tuple[bool, ...], where: str) -> tuple[str, ...]:
    boundaries = as_boundaries(_hashable(boundary), len(periodic), periodic, where)
    if "natural" in boundaries:
        raise ValueError(
            f"{where}: boundary 'natural' continues coefficients; for data: 'nearest', 'reflect', 'mirror'"
        )
    return tuple(CONTINUED.get(b, b) for b in boundaries)


def _table(kernel: Any, radius: Any, sigma: Any, spacing: Any, normalize: bool, where: str) -> np.ndarray[Any, Any]:
    """The weights, normalised if they are to be."""
    table = weights(kernel, radius, sigma, spacing, where)
    if not normalize:
        return table
    total = float(table.sum())
    if abs(total) <= NOTHING * float(np.abs(table).sum()):
        raise ValueError(
            f"{where}: the weights of the kernel add up to 0, so they cannot be normalised: normalize=False"
        )
    return table / total


Stencils = tuple[tuple[str, str, str], tuple[int, ...], float, float]


@static
def stencils(*asked: Any) -> Stencils:
    """The static arguments of correlate, the widths of the margins, the sums of weights and of their sizes.

    Three texts: for data without margins, with margins, and with margins and every weight 1.
    """
    return (_by_name if isinstance(asked[0], str) else _by_name.__wrapped__)(*asked)


@functools.lru_cache(maxsize=64, typed=True)
def _by_name(*asked: Any) -> Stencils:
    table = np.flip(_table(*asked))  # a convolution: the weights the other way round
    widths, zero = tuple(k // 2 for k in table.shape), (0,) * table.ndim
    less = tuple(-2 * w for w in widths)
    support = (table != 0).astype(np.float64)
    same = Stencil.of(table, widths, zero)
    texts = (
        intern(same),
        intern(same.beside(zero, less)),
        intern(Stencil.of(support, zero, less)),
    )
    return texts, widths, float(table.sum()), float(np.abs(table).sum())


def _missing(F: Any, a: Any, v: Any, given: str, nan_policy: str, where: str) -> Any:
    """Which of v, the channels of a, are NaN; None where it is known that none are."""
    if check.is_integer(given):
        return None
    known = F.concrete(v)
    if known is not None:
        with np.errstate(all="ignore"):
            if np.isfinite(np.sum(known)) or not np.isnan(known).any():
                return None
        if nan_policy == "raise":
            raise ValueError(f"{where}: a holds NaN ({int(np.isnan(known).sum())} of {known.size}); see nan_policy")
    elif nan_policy == "raise":
        raise ValueError(f"{where}: nan_policy='raise' needs the numbers, which are not known where something traces")
    a, v = F.fixed(a), F.fixed(v)
    if given not in check.REAL:
        return v != v
    missing = F.reshape(a != a, (F.shape(v)[0] // 2, *F.shape(v)[1:]))
    return F.reshape(F.stack([missing, missing], 0), F.shape(v))


class Spaces:
    """Sums of weighted neighbours, the data being continued beyond the ends."""

    def __init__(self, F: Any, given: Stencils, boundaries: tuple[str, ...], cval: float = 0.0) -> None:
        self.F, self.boundaries, self.empty = F, boundaries, isnan(cval)
        (same, self.within, self.support), self.widths, self.total, self.size = given
        self.cval = 0.0 if self.empty else cval
        # where the data go on by a constant they need no margins: less that constant, there is nothing to add up
        self.plain = all(b == "grid-constant" for b in boundaries)
        self.text = same if self.plain else self.within

    def extended(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape that weights meet."""
        return shape if self.plain else tuple(n + 2 * w for n, w in zip(shape, self.widths, strict=True))

    def _padded(self, v: Any, value: float) -> Any:
        return self.F.pad(v, _margins(tuple((w, w) for w in self.widths), self.boundaries, value))

    def sums(self, v: Any, there: Any = 1.0, weight: Any = None) -> Any:
        """Of data (channels, *shape), which are 0 where they are missing; `weight`: of what is there."""
        F = self.F
        if not self.plain:
            return F.correlate(self._padded(v, self.cval), self.text)
        if self.cval == 0:
            return F.correlate(v, self.text)
        return F.correlate(v - self.cval * there, self.text) + self.cval * (self.total if weight is None else weight)

    def weight(self, there: Any) -> Any:
        """Of what is there, beyond the ends too unless there is nothing."""
        if self.empty and self.plain:
            return self.F.correlate(there, self.text)
        return self.F.correlate(self._padded(there, 0.0 if self.empty else 1.0), self.within)

    def touched(self, missing: Any) -> Any:
        """How many weights meet something missing."""
        return self.F.correlate(self._padded(missing, 0.0), self.support)


def _normalised(F: Any, v: Any, missing: Any, spaces: Spaces, nan_policy: str, where: str) -> Any:
    """Sums over the cells that are there, divided by their weights."""
    dtype = F.dtype(v)
    zero, one, nan = (F.constant(np.full((), x), dtype, v) for x in (0.0, 1.0, np.nan))
    filled = F.where(missing, zero, v)
    if nan_policy == "propagate":
        return F.where(spaces.touched(F.where(missing, one, zero)) > 0.5, nan, spaces.sums(filled))
    if abs(spaces.total) <= NOTHING * spaces.size:
        raise ValueError(
            f"{where}: the weights of the kernel add up to 0, so the share of missing cells cannot be made up for: "
            "nan_policy='propagate'"
        )
    there = F.where(missing, zero, one)
    weight = spaces.weight(there)
    nothing = weight * weight <= (NOTHING * spaces.size) ** 2
    sums = spaces.sums(filled, there, weight)
    y = F.where(nothing, nan, sums / F.where(nothing, one, weight) * spaces.total)
    return F.where(missing, nan, y) if nan_policy == "keep" else y
