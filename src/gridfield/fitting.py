"""Fitting fields to scattered data: weighted, regularised least squares, for the arrays of any framework."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from scipy import optimize, sparse

from . import arguments, check, dispatch, reference
from .extras import bar
from .faces.numpy import FACE as NUMPY
from .grid import Grid
from .normal import Normal
from .sampling import BoundaryLike, KernelLike
from .scheme import scheme
from .solvers import NOTHING, Factored, Solution, conjugate_gradients
from .spline import Spline

Array = np.ndarray[Any, Any]

# random vectors that a trace is estimated with where it is not exact; relative error about sqrt(2 / (PROBES * trace))
PROBES = {"direct": 16, "cg": 4}
SEED = 0x9E3779B97F4A7C15  # not 0: data that a user draws with seed 0 are the same bits, and the signs no longer random
ROUGHLY = 1e-2  # residual up to which conjugate gradients solve for a trace
DECADES, STEP = 9, 1.5  # that cross-validation looks at on either side of where data and roughness weigh the same
SOLVERS = ("auto", "direct", "cg")


@dataclass(frozen=True)
class FitInfo:
    """How a fit went: the `fit_info` of a field.

    Parameters
    ----------
    residual : ndarray, shape (channels,)
        Weighted root mean square of ``values - field(points)``.
    effective_dof : float
        Effective degrees of freedom: the trace of the matrix that takes the data to the fitted values. Exact for direct
        solves but large ones, else estimated to a few per cent. Of several channels with data of their own: the mean.
    roughness : float
        What the integral was weighted with; with "gcv" what was chosen. Where channels that miss different data each
        have one of their own: the geometric mean.
    points : int
        Points with data: weight above zero, and a channel that is not NaN.
    solver : str
        "direct" or "cg".
    iterations : int
        Of conjugate gradients, on all levels; a direct solve is refined by one or two.
    condition : float
        Estimated condition number of the equations, for "cg" after preconditioning.
    gcv : float or None
        Generalised cross-validation score at that roughness, ``n sum w r**2 / (n - effective_dof)**2``.
    warning : str
        What a user should know: coefficients without data, bad conditioning, iterations that ended early. Else "".

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> x = np.linspace(0, 1, 9)[:, None]
    >>> c, info = gf.fit_field(x, x[:, 0] ** 2, 20, full_output=True)
    >>> info.points, info.solver, info.effective_dof < 9.001
    (9, 'direct', True)
    >>> info.warning
    'the data do not determine all coefficients, which are those of least norm'
    """

    residual: Array
    effective_dof: float
    roughness: float
    points: int
    solver: str
    iterations: int
    condition: float
    gcv: float | None = None
    warning: str = ""


def fit_field(
    points: Any,
    values: Any,
    grid: Grid | int | Sequence[int],
    *,
    weights: Any = None,
    kernel: KernelLike = "cubic",
    bounds: Any = None,
    boundary: BoundaryLike = "natural",
    periodic: bool | Sequence[bool] = False,
    roughness: float | str = 0.0,
    order: int = 2,
    levels: int = 1,
    solver: str = "auto",
    progress: bool = False,
    full_output: bool = False,
) -> Any:
    """Coefficients of the field that fits scattered data best, in the sense of weighted least squares.

    Minimises ``sum_p weights_p (field(x_p) - values_p)**2 + roughness * integral sum (d^order field)**2``, the integral
    (of all derivatives of that order, see `SplineField.roughness`) exact over the domain of the grid. What data and
    roughness leave open is the solution of least norm, so coefficients far from data are zero, never NaN.

    Parameters
    ----------
    points : array, shape (*pts, ndim)
        Coordinates in the grid's units; those beyond the ends count where `sample` takes them (with "natural": at the
        edge).
    values : array, shape (*pts, *lead)
        Data; a NaN is left out, of its channel alone.
    grid : Grid, int, or sequence of int
        Where the control points are; a shape lies between `bounds`.
    weights : array, shape (*pts) or (*pts, *lead), optional
        Weights of the squared residuals, >= 0, as ``1 / sigma**2``; default 1.
    kernel : str, int, Kernel or one per axis, default "cubic"
        As for `sample`.
    bounds : (lo, hi) or one pair per axis, default (0, 1)
        First and last control point, where `grid` is a shape.
    boundary : str or one per axis, default "natural"
        How coefficients continue beyond the ends.
    periodic : bool or one per axis, default False
        Whether an axis closes on itself, where `grid` is a shape: `hi` is then where `lo` comes again.
    roughness : float >= 0 or "gcv", default 0
        Weight of the integral; "gcv" chooses it by generalised cross-validation.
    order : int, default 2
        Order of the derivatives in the integral: 1, 2 or 3.
    levels : int, default 1
        Above 1 from coarse to fine: every lattice (each about half as fine as the next) starts from the one before, so
        that gaps are filled by what is known around them. The unique solution, where there is one, is the same.
    solver : "auto", "direct" or "cg", default "auto"
        Banded Cholesky factorisation, or preconditioned conjugate gradients; "auto" goes by the work.
    progress : bool, default False
        Show a progress bar of the iterations (needs tqdm).
    full_output : bool, default False
        Return ``(coefficients, FitInfo)``.

    Returns
    -------
    array, shape (*lead, *grid.shape)
        Of the framework, type and device of `values`; float64 for integers. For ``sample(..., prefilter=False)``. Not
        differentiable in the data.

    Raises
    ------
    ValueError
        If shapes do not fit, there is nothing to fit, data are infinite, weights are negative or not finite, or an
        option is not one of those above.
    TypeError
        If arrays are not numbers, or belong to a computation that is being traced.

    Warns
    -----
    RuntimeWarning
        If conjugate gradients end before they have converged.

    Notes
    -----
    Computed in float64. A direct solve factors the banded normal equations; one of many unknowns in three or four
    dimensions is iterated, by `sample` and `splat`, with the inverse for uniform data as a preconditioner.

    References
    ----------
    P. Craven, G. Wahba, "Smoothing noisy data with spline functions", Numer. Math. 31 (1979), 377-403 (the choice of
    the roughness); P. H. C. Eilers, B. D. Marx, "Flexible smoothing with B-splines and penalties", Statist. Sci. 11
    (1996), 89-121.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> x = np.linspace(0, 1, 50)[:, None]
    >>> c = gf.fit_field(x, 3 * x[:, 0] - 1, 6)
    >>> np.allclose(c, 3 * np.linspace(0, 1, 6) - 1)
    True
    """
    where = "gf.fit_field"
    F = dispatch.face(where, points=points, values=values, weights=weights if hasattr(weights, "dtype") else 0.0)
    spline = Spline.of(grid, kernel, bounds, boundary, where, periodic)
    own = bounds is not None or isinstance(grid, Grid)
    options = Options(roughness, order, levels, solver, progress)
    coefficients, info = fit(F, spline, points, values, weights, options, where, own)
    return (coefficients, info) if full_output else coefficients


@dataclass(frozen=True)
class Options:
    """What a user chooses of a fit."""

    roughness: float | str
    order: int
    levels: int
    solver: str
    progress: bool

    def checked(self, where: str) -> Options:
        """The same, in Python's types, or an error."""
        roughness = self.roughness
        if not (isinstance(roughness, str) and roughness == "gcv"):
            wanted = f"{where}: roughness must be a number >= 0 or 'gcv', got {roughness!r}"
            if isinstance(roughness, str):
                raise ValueError(wanted)
            if isinstance(roughness, bool):
                raise TypeError(wanted)
            roughness = check.number(roughness, "roughness", where)
            if not 0 <= roughness < np.inf:
                raise ValueError(wanted)
        if not isinstance(self.order, int) or self.order not in (1, 2, 3) or isinstance(self.order, bool):
            raise ValueError(f"{where}: order must be 1, 2 or 3, got {self.order!r}")
        (levels,) = arguments.per_axis(where, "levels", self.levels, 1, arguments.SIZE)
        if self.solver not in SOLVERS:
            raise ValueError(f"{where}: solver must be one of {', '.join(map(repr, SOLVERS))}, got {self.solver!r}")
        check.flag(self.progress, "progress", where)
        return Options(roughness, self.order, levels, self.solver, self.progress)


def fit(
    F: Any, spline: Spline, points: Any, values: Any, weights: Any, options: Options, where: str, own: bool
) -> tuple[Any, FitInfo]:
    """(*lead, *shape) of the framework of F, and how it went; own: whether the user gave the domain."""
    options = options.checked(where)
    for k, n in zip(spline.kernel, spline.grid.shape, strict=True):
        if options.roughness != 0 and n > 1 and k.degree < options.order:
            raise ValueError(
                f"{where}: order {options.order} is above the degree of kernel {k.name!r} ({k.degree}), whose "
                "derivatives of that order are zero"
            )
    x, y = _numbers(F, points, "points", where), _numbers(F, values, "values", where)
    if x.dtype.kind == "c":
        raise TypeError(f"{where}: points has dtype {x.dtype} but coordinates must be real")
    check.points(x.shape, where, spline.grid)
    check.leading(y.shape, x.shape[:-1], "values", "the shape of points", where)
    pts, lead = x.shape[:-1], y.shape[x.ndim - 1 :]
    x = x.reshape(-1, spline.ndim)
    own_type = x if x.dtype == np.float32 else x.astype(np.float64)
    on = _on(spline, np.where(np.isinf(own_type), np.nan, own_type))
    x, y = x.astype(np.float64), y.reshape(prod(pts), prod(lead))
    parts = 1
    if y.dtype.kind == "c":
        y, parts = np.concatenate([y.real, y.imag], axis=1), 2
    y = y.astype(np.float64)
    w = np.tile(_weights(F, weights, pts, lead, where), (1, parts))
    number: Array = np.logical_not(np.isnan(x).any(axis=-1))
    if (infinite := int((np.isinf(x).any(-1) & (w > 0).any(-1)).sum())) > 0:
        raise ValueError(f"{where}: points must be finite or NaN, but {infinite} are infinite")
    number &= np.isfinite(x).all(axis=-1)
    used = (w > 0) & ~np.isnan(y) & number[:, None]
    if (infinite := int(np.isinf(y[used]).sum())) > 0:
        raise ValueError(
            f"{where}: values must be finite or NaN, but {infinite} are infinite; to leave them out make them NaN"
        )
    if not own and number.any():
        _within_default_bounds(spline, x[number], where)
    used &= on[:, None]
    for a, axis in enumerate(spline.axes):
        if axis.boundary == "constant":  # in float32 the last control point may lie a rounding beyond the end
            x[:, a] = np.clip(x[:, a], *axis.grid.bounds[0])
    if not used.any():
        raise ValueError(f"{where}: no point has data and a weight above 0 (values has shape {(*pts, *lead)})")
    c, info = _all_channels(_Problem(spline, options, where), x, y, np.where(used, w, 0.0))
    array, channels = F.array(values), prod(lead)
    if parts == 2:
        c = c[:channels] + 1j * c[channels:]
    given = F.dtype(array)
    out = F.constant(c, F.widest("float64" if check.is_integer(given) else given), array)
    return F.reshape(out, (*lead, *spline.grid.shape)), info


def _within_default_bounds(spline: Spline, x: Array, where: str) -> None:
    """Data outside of bounds that nobody chose are a mistake."""
    reach = [(float(c.min()), float(c.max())) for c in x.T]  # column by column: 5 x faster than min(axis=0)
    for (least, most), axis in zip(reach, spline.axes, strict=True):
        lo, hi = axis.grid.bounds[0] if axis.n > 1 else axis.ends  # bounds: ends may be off by a rounding
        if axis.boundary != "wrap" and not lo <= least <= most <= hi:
            text = ", ".join(f"{a:.6g} ... {b:.6g}" for a, b in reach)
            raise ValueError(
                f"{where}: points reach over {text}, beyond the default bounds (0, 1): give bounds, or a Grid"
            )


def _numbers(F: Any, x: Any, name: str, where: str) -> Array:
    """Anything array-like as a NumPy array of numbers."""
    try:
        x = F.numpy(F.array(x))
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TypeError(
            f"{where}: {name} must be an array of numbers, with values now (not while a compiler traces): {message}"
        ) from None
    if x.dtype.kind not in "biufc":
        raise TypeError(f"{where}: {name} has dtype {x.dtype}, which is not a type of numbers it can use")
    return x


def _weights(F: Any, weights: Any, pts: tuple[int, ...], lead: tuple[int, ...], where: str) -> Array:
    """(points, channels)."""
    channels = prod(lead)
    if weights is None:
        return np.ones((prod(pts), channels))
    w = _numbers(F, weights, "weights", where)
    if w.dtype.kind == "c" or not (np.isfinite(w) & (w >= 0)).all():
        raise ValueError(f"{where}: weights must be real, finite and >= 0")
    if w.shape not in (pts, (*pts, *lead)):
        raise ValueError(
            f"{where}: weights has shape {w.shape} but must be {pts}, one per point"
            + (f", or {(*pts, *lead)}, one per value" if lead else "")
        )
    return np.broadcast_to(w.astype(np.float64).reshape(prod(pts), -1), (prod(pts), channels))


def _on(spline: Spline, x: Array) -> Array:
    """Which points the field depends on its coefficients at: not those beyond "constant" ends."""
    on = np.ones(len(x), bool)
    static = scheme(spline.grid, spline.kernel, spline.boundary)
    for a, axis in enumerate(static.axes):
        on &= reference.locate(x[:, a], axis, spline.grid.origin[a], spline.grid.spacing[a])[3]
    return on


def _all_channels(problem: _Problem, x: Array, y: Array, w: Array) -> tuple[Array, FitInfo]:
    """(channels, *shape): channels with the same weights share their equations."""
    shape, channels = problem.spline.grid.shape, y.shape[1]
    groups: dict[bytes, list[int]] = {}
    if np.array_equal(w, np.broadcast_to(w[:, :1], w.shape)):
        groups[b""] = list(range(channels))
    else:
        for c in range(channels):
            groups.setdefault(w[:, c].tobytes(), []).append(c)
    out, residual = np.zeros((channels, *shape)), np.full(channels, np.nan)
    infos: list[FitInfo] = []
    for members in groups.values():
        keep = w[:, members[0]] > 0
        if keep.any():
            part = y[keep][:, members] if not keep.all() or len(members) < channels else y
            c, info = problem.solve(x[keep], part, np.ascontiguousarray(w[keep, members[0]]))
            out[members], residual[members] = c.T.reshape(-1, *shape), info.residual
            infos += [info] * len(members)
    warning = "; ".join(dict.fromkeys(info.warning for info in infos if info.warning))
    if len(infos) < channels:
        warning = "; ".join(filter(None, (f"{channels - len(infos)} channels have no data and are zero", warning)))
    scores = [info.gcv for info in infos if info.gcv is not None]
    return out, replace(
        infos[0],
        residual=residual,
        effective_dof=float(np.mean([info.effective_dof for info in infos])),
        roughness=_geometric_mean([info.roughness for info in infos]),
        points=int((w > 0).any(-1).sum()),
        iterations=max(info.iterations for info in infos),
        condition=max(info.condition for info in infos),
        gcv=float(np.mean(scores)) if scores else None,
        warning=warning,
    )


def _geometric_mean(x: list[float]) -> float:
    return x[0] if len(set(x)) == 1 else float(np.exp(np.mean(np.log(x))))


@dataclass(frozen=True)
class _Problem:
    """A field to be found, and how."""

    spline: Spline
    options: Options
    where: str

    def solve(self, x: Array, y: Array, w: Array) -> tuple[Array, FitInfo]:
        """(n, channels): all levels, of channels with the same weights, all above 0."""
        unit = float(2.0 ** np.floor(np.log2(w.max())))  # so that weights of any size are numbers to compute with
        w = w / unit
        with bar(self.options.progress, "fit") as tick:
            finest = Normal(self.spline, x, w, self.options.order)
            roughness, dof = self.options.roughness, None
            if isinstance(roughness, str):
                roughness, dof = self._cross_validated(finest, y, tick)
            else:
                roughness = roughness / unit
            c, found, factor, before, iterations, warning = np.zeros(0), NOTHING, None, None, 0, ""
            for spline in self._lattices():
                normal = finest if spline is self.spline else Normal(spline, x, w, self.options.order)
                c = np.zeros((normal.n, y.shape[1])) if before is None else _moved(c, before, spline)
                b = normal.gather(y if before is None else y - normal.field(c))
                if roughness and before is not None:
                    b -= roughness * normal.penalty(c)
                found, factor = self._solve(normal, roughness, b, tick)
                c = c + found.x
                iterations, before = iterations + found.iterations, spline
            if not found.converged:
                warning = (
                    f"conjugate gradients ended after {found.iterations} iterations before they had converged (more "
                    "roughness, more levels or a direct solver may help)"
                )
                warnings.warn(f"{self.where}: {warning}", RuntimeWarning, stacklevel=5)
            if dof is None:
                dof = self._dof(finest, roughness, factor)
            return c, self._info(finest, c, y, roughness, unit, dof, found, iterations, warning)

    def _lattices(self) -> Iterator[Spline]:
        """From coarse to fine, each about twice as fine as the one before; this field's last."""
        shapes = [self.spline.grid.shape]
        for _ in range(self.options.levels - 1):
            coarser = tuple(
                n if n <= 2 else max(2, n // 2 if b == "wrap" else n // 2 + 1)
                for n, b in zip(shapes[-1], self.spline.boundary, strict=True)
            )
            if coarser == shapes[-1]:
                break
            shapes.append(coarser)
        yield from (self.spline.lattice(shape) for shape in reversed(shapes[1:]))
        yield self.spline

    def _direct(self, normal: Normal) -> bool:
        return self.options.solver == "direct" or (self.options.solver == "auto" and normal.direct)

    def _factored(self, normal: Normal, roughness: float) -> Factored:
        matrix = normal.data_matrix + roughness * normal.penalty_matrix if roughness else normal.data_matrix
        return Factored(sparse.csr_array(matrix), normal.ordering, sure=bool(roughness) and normal.determined)

    def _solver(self, normal: Normal, roughness: float, tick: Any, tolerance: float = 1e-10) -> Callable[..., Solution]:
        """Solutions of (A + roughness P) x = b for any b, by conjugate gradients."""
        # what the data leave open must come out with the least norm: then only without a preconditioner
        precondition = normal.preconditioner(roughness) if roughness or normal.covered else None

        def apply(c: Array) -> Array:
            return normal.data(c) + roughness * normal.penalty(c) if roughness else normal.data(c)

        scale = normal.scale(roughness)
        return lambda b, whole=None: conjugate_gradients(
            apply, b, precondition, tolerance, scale=scale, whole=whole, step=tick
        )

    def _solve(self, normal: Normal, roughness: float, b: Array, tick: Any) -> tuple[Solution, Factored | None]:
        """The solution, and the factor, which is good for more.

        Polynomials without roughness are fitted beforehand, twice: much roughness leaves no trace of the data in the
        matrix's digits, and what remains is then orthogonal to them.
        """
        factor = self._factored(normal, roughness) if self._direct(normal) else None
        if not roughness or not normal.determined:
            return (self._solver(normal, roughness, tick) if factor is None else factor.solve)(b), factor
        smooth = normal.regression(b)
        rest = b - normal.data(smooth)
        found = self._solver(normal, roughness, tick)(rest, b) if factor is None else factor.solve(rest)
        more = normal.regression(b - normal.data(smooth + found.x))
        return found._replace(x=smooth + found.x + more), factor

    def _dof(self, normal: Normal, roughness: float, factor: Factored | None) -> float:
        """Trace of (A + roughness P)^-1 A."""
        if not roughness and (normal.covered if factor is None else not factor.deficient):
            return float(normal.n)
        exact = None if factor is None else factor.trace(normal.data_matrix)
        if exact is None:
            u = self._probes(normal)
            solve = self._solver(normal, roughness, lambda residual: None, ROUGHLY) if factor is None else factor.solve
            exact = self._trace(u, solve(u).x)
        return self._bounded(normal, roughness, exact)

    @staticmethod
    def _bounded(normal: Normal, roughness: float, dof: float) -> float:
        """No less than the polynomials that have no roughness, no more than there are points."""
        least = normal.smooth_dof if roughness else 0
        points = normal.different if len(normal.points) <= 4 * normal.n else normal.n
        return float(min(max(dof, least), normal.n, points))

    def _probes(self, normal: Normal) -> Array:
        """B^T W^(1/2) v of random signs v: u^T (A + roughness P)^-1 u is the trace on average."""
        count = PROBES["direct" if self._direct(normal) else "cg"]
        signs = np.random.default_rng(SEED).integers(0, 2, (len(normal.points), count)) * 2.0 - 1.0
        return normal.gather(signs / np.sqrt(normal.weights)[:, None])

    @staticmethod
    def _trace(u: Array, solved: Array) -> float:
        return float(np.einsum("ij,ij->", u, solved) / u.shape[1])

    def _cross_validated(self, normal: Normal, y: Array, tick: Any) -> tuple[float, float]:
        """The roughness with the least score n sum w r**2 / (n - dof)**2, and its dof."""
        if normal.penalty_trace <= 0:
            raise ValueError(
                f"{self.where}: roughness 'gcv' has nothing to choose: no field of shape {normal.shape} has any "
                f"roughness of order {self.options.order}"
            )
        balance, points = float(normal.support.sum()) / normal.penalty_trace, len(normal.points)
        b = normal.gather(y)
        u = np.zeros((normal.n, 0)) if self._direct(normal) else self._probes(normal)
        seen: dict[float, float] = {}

        def score(decade: float) -> float:
            roughness = balance * 10.0**decade
            if self._direct(normal):
                found, factor = self._solve(normal, roughness, b, tick)
                c, dof = found.x, self._dof(normal, roughness, factor)
            else:  # data and random vectors, the same ones for every roughness, at once
                smooth = normal.regression(b)
                right = np.hstack([b - normal.data(smooth), u])
                x = self._solver(normal, roughness, tick, tolerance=1e-5)(right, np.hstack([b, u])).x
                c, solved = smooth + x[:, : b.shape[1]], x[:, b.shape[1] :]
                dof = self._bounded(normal, roughness, self._trace(u, solved))
            seen[decade] = dof
            squares = float(normal.weights @ np.square(y - normal.field(c)).sum(-1))
            return float(np.log(max(squares, 1e-300)) - 2 * np.log(max(points - dof, 1e-9 * points)))

        decades = np.arange(-DECADES, DECADES + STEP, STEP)
        scores = [score(d) for d in decades]
        best = int(np.argmin(scores))
        ends = decades[max(best - 1, 0)], decades[min(best + 1, len(decades) - 1)]
        found = optimize.minimize_scalar(score, bounds=ends, method="bounded", options={"xatol": 1e-3})
        decade = float(found.x) if found.fun < scores[best] else float(decades[best])
        return balance * 10.0**decade, seen[decade]

    def _info(
        self,
        normal: Normal,
        c: Array,
        y: Array,
        roughness: float,
        unit: float,
        dof: float,
        found: Solution,
        iterations: int,
        warning: str,
    ) -> FitInfo:
        squares = normal.weights @ np.square(y - normal.field(c))
        points = len(y)
        without = int((normal.support == 0).sum())
        notes = [warning] if warning else []
        if without:
            by = "the roughness" if roughness else "zero" if self.options.levels == 1 else "coarser levels"
            notes.append(f"{without} of {normal.n} coefficients have no data near them and are defined by {by}")
        elif found.deficient or (not roughness and points < normal.n):
            notes.append("the data do not determine all coefficients, which are those of least norm")
        elif found.condition > 1e10 and not (roughness and normal.determined):  # then polynomials are apart
            notes.append(f"the equations are badly conditioned ({found.condition:.1g})")
        gcv = None
        if self.options.roughness == "gcv":
            gcv = float(unit * points * squares.sum() / max(points - dof, 1e-9 * points) ** 2)
        return FitInfo(
            np.sqrt(squares / normal.weights.sum()),
            dof,
            float(roughness) * unit,
            points,
            "direct" if self._direct(normal) else "cg",
            iterations,
            found.condition,
            gcv,
            "; ".join(notes),
        )


def _moved(c: Array, before: Spline, spline: Spline) -> Array:
    """Coefficients (n, channels) of one lattice on another: the nearest field."""
    grids = np.ascontiguousarray(c.T).reshape(-1, *before.grid.shape)
    moved = before.separable(NUMPY, grids, "resample", tuple((axis,) for axis in spline.axes))
    return moved.reshape(len(moved), -1).T
