"""curve_fit: a model fitted to N-D data, once or in every pixel; what users say, and what becomes of it."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from ..extras import bar
from ..ops import recipe
from .data import Data, arrange
from .implicit import attached, read, tensors, traced, unknown
from .joint import Part, problem_of
from .least_squares import FEW, INFINITE, LOSSES, MISSING, OUTSIDE, REASONS, RUNNING, SIGMA, anywhere
from .model import FunctionModel, model_of
from .parameters import Parameters, feasible, fill, held, limits, with_fixed
from .result import FitResult
from .scaling import solve_some
from .traced import fit as fit_traced

Array = np.ndarray[Any, Any]

NAME = "gf.curve_fit"
STEPS = 1000  # the hardest of the certified problems that are solved takes 563


@recipe
def curve_fit(
    f: Any,
    coords: Any,
    y: Any,
    p0: Any = None,
    *,
    sigma: Any = None,
    absolute_sigma: bool = False,
    where: Any = None,
    bounds: Any = None,
    fixed: Any = None,
    axis: Any = None,
    jac: Any = "auto",
    loss: Any = "linear",
    nan_policy: str = "omit",
    maxiter: int = STEPS,
    progress: bool = False,
) -> FitResult:
    """Fit a model to N-D data by least squares: one fit of all of it, or independent fits along some axes.

    Minimises ``sum(rho(((f - y) / sigma)**2)) / 2`` by the method of Levenberg and Marquardt with bounds. Points where
    data, sigma or any coordinate is NaN are left out. With `axis`, all other axes are fits of their own, done
    together, each with its own start, bounds, missing points and end.

    Parameters
    ----------
    f : str, sympy expression, ready model, callable, or dict or list of those
        The model. An equation such as ``"A*exp(-(x-x0)**2/(2*s**2)) + b"``: names that are not coordinates are
        parameters; it is compiled, with its derivatives. A function ``f(coords, *params)``, or ``f(coords, params)``
        with `p0` a (nested) dictionary, of NumPy, torch, JAX or TensorFlow; parameters may be arrays. Several with
        shared parameters, which have the same names: a dictionary or a list, and `y` too.
    coords : Grid, array, tuple of arrays, dict of arrays, xarray object, or None
        Where the data are. Arrays broadcast to `y`, or have the axes of one fit. None: the coordinates of a
        labelled `y`, else pixels. A function gets what is given (of a grid or a labelled array a tuple of arrays that
        broadcast, of one axis that array). In an equation, the names of a dictionary or labelled array; else ``x`` or
        ``t`` of one coordinate, of a grid ``(y, x)``, ``(z, y, x)`` or ``(row, column)`` in the order of its axes, of a
        tuple ``(x, y)``, ``(x, y, z)`` or ``(row, column)`` in its own.
    y : array of any shape, or dict or list of arrays
        The data.
    p0 : dict, sequence or array, optional
        Start values by name or in order, numbers or maps over the fits. What has the axes of the fits first is a map;
        so where an array parameter has their shape itself, give (*fits, *its shape), here, in bounds and in fixed.
        Default: the guess of a ready model, else 1, or the middle of the bounds, as in SciPy.
    sigma : float or array, optional
        Standard deviations of the data, broadcasting to `y`. Of a single fit also their covariance, (n, n) for all n
        points in C order, those left out included; of an (n, n) image an array of that shape is standard deviations.
    absolute_sigma : bool, default False
        Whether `sigma` is in units of the data; if not, the covariance is scaled so that chi2 / dof is 1.
    where : bool array, optional
        Which data to use.
    bounds : (lower, upper) or dict of name: (lower, upper), optional
        Of the parameters; numbers, sequences, or maps over the fits.
    fixed : dict of name: value, or names, optional
        Parameters that are not fitted; of names alone the start values are kept.
    axis : int, str or tuple of those, optional
        Axes of one fit. Default: all, so there is one fit.
    jac : {"auto", "autodiff", "complex", "3-point", "2-point"} or callable, default "auto"
        Derivatives of a function. A callable takes what `f` does and gives an array (*shape, parameters).
    loss : {"linear", "huber", "soft_l1", "cauchy"} or (str, float), default "linear"
        As in ``scipy.optimize.least_squares``; the number is `f_scale` there, in units of sigma, by default 1.
    nan_policy : {"omit", "propagate", "raise"}, default "omit"
        "propagate": a fit with NaN in its data or coordinates is NaN.
    maxiter : int, default 1000
        Steps of one fit at most.
    progress : bool, default False
        Show a bar.

    Returns
    -------
    FitResult
        ``popt, pcov = result`` works. Of the framework of `y`; on torch and JAX `popt` and `params` have derivatives in
        `y`, `sigma` and the values of `fixed`; of a fit that did not converge they are 0. Of data of dask its numbers
        are arrays of dask, too, and `compute()` gives them.

    Raises
    ------
    ValueError, TypeError
        If arguments do not fit together; of a single fit also if it has fewer points than parameters, starts out of
        bounds, or sigma is not positive. In many fits those are marked in `status` instead, and NaN.

    References
    ----------
    J. J. More, "The Levenberg-Marquardt algorithm: implementation and theory", Lect. Notes Math. 630 (1978), 105-116.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> row, column = np.indices((10, 20))
    >>> image = 3.0 * row + 4.0 * column
    >>> image[2, 3] = np.nan
    >>> popt, pcov = gf.curve_fit("a*row + b*column", gf.Grid.pixels((10, 20)), image)
    >>> popt.round(6)
    array([3., 4.])
    >>> t = np.linspace(0, 1, 20)
    >>> decays = np.array([[2.0], [3.0]]) * np.exp(-t / 0.3)  # two pixels
    >>> maps = gf.curve_fit(lambda t, a, tau: a * np.exp(-t / tau), t, decays, axis=-1)
    >>> maps.params["a"].round(6), maps.success
    (array([2., 3.]), array([ True,  True]))
    """
    loss, maxiter = _checked(loss, maxiter, absolute_sigma, progress)
    y, sigma, fixed = map(read, (y, sigma, fixed))
    several = isinstance(f, (dict, list)) or (isinstance(f, tuple) and not callable(f))
    given = {"y": y, "sigma": sigma, "fixed": fixed}
    options = {
        "p0": p0, "bounds": bounds, "axis": axis, "jac": jac, "nan_policy": nan_policy, "loss": loss,
        "maxiter": maxiter, "absolute_sigma": absolute_sigma, "where": where, "progress": progress,
    }  # fmt: skip
    if several and unknown(y, sigma, fixed):
        raise TypeError(
            f"{NAME}: several models cannot be fitted within jax.jit, vmap, torch.func and the like: call it outside "
            "of those; jax.grad and backward() of torch work"
        )
    if not several and traced(y, sigma, fixed):
        return fit_traced(curve_fit, f, coords, **given, **options)
    keys, lists = _separate(f, coords, y, sigma, where) if several else ([None], [(f, coords, y, sigma, where)])
    datas = [arrange(c, d, s, w, axis, nan_policy, NAME) for _, c, d, s, w in lists]
    others = [t for t in tensors(sigma, fixed) if dispatch.of(dispatch.frameworks((type(t),))[0]).followed(t)]
    if datas[0].framework == "numpy" and others:  # whose derivatives are asked for, of data that are numbers
        datas[0].framework = dispatch.frameworks((type(others[0]),))[0]
        datas[0].beside = dispatch.of(datas[0].framework).fixed(others[0])
    return fitted(keys, [item[0] for item in lists], datas, fixed=fixed, inputs=given, **options)


def fitted(
    keys: list[Any], models: list[Any], datas: list[Data], *, p0: Any, fixed: Any, bounds: Any, jac: Any, loss: Any,
    maxiter: int, absolute_sigma: bool, progress: bool, inputs: dict[str, Any], **_others: Any,
) -> FitResult:  # fmt: skip
    """The fits of data that are arranged."""
    parts, parameters = _parts(keys, models, datas, with_fixed(p0, fixed), jac)
    data = datas[0]
    fits, batch = data.fits, data.batch
    if any(d.batch != batch for d in datas):
        raise ValueError(f"{NAME}: the data have different numbers of fits: {', '.join(str(d.batch) for d in datas)}")
    low, high = limits(parameters, bounds, batch, fits, NAME)
    kept = held(parameters, fixed, NAME)
    start, named = fill(parameters, p0, batch, fits, np.nan, "p0", NAME)
    start = _guessed(parts, start, named, parameters, low, high)
    values, numbered = fill(
        parameters, {k: v for k, v in kept.items() if v is not None}, batch, fits, np.nan, "fixed", NAME
    )
    for name, shape, at in parameters.spans():
        span = slice(at, at + prod(shape))
        if name in kept:
            start[:, span] = values[:, span] if name in numbered else start[:, span]
            low[:, span] = high[:, span] = start[:, span]
    status, points, size, dof = _states(datas, start, low, high)
    if not batch:
        _alone(int(status[0]), int(points[0]), start, low, high, parameters)
    for part in parts:
        if isinstance(part.model, FunctionModel):
            part.model.begin(part.data, part.own(start), part.own(low), part.own(high))
    with bar(progress, "curve_fit") as tell:
        options = {"loss": loss, "maxiter": maxiter, "tell": tell if progress else None}

        def run(start: Array, status: Array) -> Any:
            return solve_some(
                lambda scale: problem_of(parts, scale), datas, start, low, high, dof, size, status, options
            )

        done = run(start, status)
        if _was_wrong(parts, done):
            status = np.where(done.status < FEW, RUNNING, done.status)
            done = run(np.where(np.isfinite(done.params), done.params, 1.0), status)
    result = FitResult(parts, parameters, done, low, high, points, dof, absolute_sigma, loss, kept)
    attached(result, inputs)
    return result


def _checked(loss: Any, maxiter: Any, absolute_sigma: Any, progress: Any) -> tuple[tuple[str, float], int]:
    """Loss and steps."""
    name, scale = (
        (loss, 1.0) if isinstance(loss, str) else loss if isinstance(loss, tuple) and len(loss) == 2 else ("", 0)
    )
    if name not in LOSSES or not isinstance(scale, (int, float)) or not 0 < scale < np.inf:
        raise ValueError(
            f"{NAME}: loss must be one of {', '.join(map(repr, LOSSES))}, or (one of those, scale > 0), got {loss!r}"
        )
    if not isinstance(maxiter, (int, np.integer)) or isinstance(maxiter, bool) or maxiter < 1:
        raise ValueError(f"{NAME}: maxiter must be a positive int, got {maxiter!r}")
    for value, what in ((absolute_sigma, "absolute_sigma"), (progress, "progress")):
        if not isinstance(value, (bool, np.bool_)):
            raise TypeError(f"{NAME}: {what} must be True or False, got {value!r}")
    return (name, float(scale)), int(maxiter)


def _separate(f: Any, coords: Any, y: Any, sigma: Any, where: Any) -> tuple[list[Any], list[tuple[Any, ...]]]:
    """Several models: what belongs to each."""
    keys = list(f) if isinstance(f, Mapping) else list(range(len(f)))
    if type(y) is not type(f) and not (isinstance(y, (list, tuple)) and isinstance(f, (list, tuple))):
        raise TypeError(
            f"{NAME}: f is a {type(f).__name__} of models, so y must be one of data, got {type(y).__name__}"
        )
    if (set(y) != set(keys)) if isinstance(y, Mapping) else (len(y) != len(keys)):
        raise ValueError(f"{NAME}: f has models {keys}, y has data {list(y) if isinstance(y, Mapping) else len(y)}")
    if not keys:
        raise ValueError(f"{NAME}: f has no models")

    def of(x: Any, key: Any) -> Any:
        if isinstance(f, Mapping):
            return x[key] if isinstance(x, Mapping) and set(x) == set(keys) else x
        return x[key] if isinstance(x, list) and len(x) == len(keys) else x

    return keys, [(f[k], of(coords, k), y[k], of(sigma, k), of(where, k)) for k in keys]


def _parts(keys: list[Any], models: list[Any], datas: list[Data], p0: Any, jac: Any) -> tuple[list[Part], Parameters]:
    """Models with their data, and all parameters."""
    made = []
    for model, data in zip(models, datas, strict=True):
        own = p0
        if len(models) > 1 and callable(model) and isinstance(p0, Mapping) and not hasattr(model, "equation"):
            own = _of_signature(model, p0)
        made.append(model_of(model, data, own if len(models) == 1 or isinstance(own, Mapping) else None, jac, NAME))
    if len(made) == 1:
        return [Part(keys[0], made[0], datas[0], np.arange(made[0].parameters.size))], made[0].parameters
    names: dict[str, tuple[int, ...]] = {}
    for model in made:
        for name, shape in zip(model.parameters.names, model.parameters.shapes, strict=True):
            if names.setdefault(name, shape) != shape:
                raise ValueError(f"{NAME}: parameter {name} has shapes {names[name]} and {shape}")
    parameters = Parameters(tuple(names), tuple(names.values()), "names")
    place = {name: np.arange(at, at + prod(shape)) for name, shape, at in parameters.spans()}
    parts = [
        Part(k, m, d, np.concatenate([place[n] for n in m.parameters.names]))
        for k, m, d in zip(keys, made, datas, strict=True)
    ]
    return parts, parameters


def _of_signature(f: Any, p0: Mapping[str, Any]) -> Mapping[str, Any]:
    """The start values of the parameters that a function has."""
    import inspect

    names = list(inspect.signature(f).parameters)[1:]
    return {k: v for k, v in p0.items() if k in names} or p0


def _guessed(
    parts: list[Part], start: Array, named: set[str], parameters: Parameters, low: Array, high: Array
) -> Array:
    """Start values where none are given."""
    missing = np.array([name not in named for name, shape, _ in parameters.spans() for _ in range(prod(shape))], bool)
    if not missing.any():
        return start
    filled = feasible(low, high)
    for part in parts:
        ready = getattr(part.model, "ready", None)
        if ready is not None and getattr(ready, "guess", None) is not None and len(start):
            guess = np.asarray(ready.guess(_full(part), part.data.y, part.data.weight), float)
            guess = np.where(np.isfinite(guess), guess, filled[:, part.places])
            filled[:, part.places] = np.clip(guess, low[:, part.places], high[:, part.places])
    return np.where(missing, filled, start)


def _full(part: Part) -> list[Array]:
    """Its coordinates at every point, (1 or fits, n)."""
    data = part.data
    return [
        np.broadcast_to(data.coords[k], (len(data.coords[k]), *data.shape)).reshape(len(data.coords[k]), -1)
        for k in part.model.places
    ]


def _states(datas: list[Data], start: Array, low: Array, high: Array) -> tuple[Array, Array, Array, Array]:
    """What is wrong with each fit before it begins; points, sums of squares, degrees of freedom."""
    points = sum(d.points for d in datas)
    size = sum(d.size for d in datas)
    status = np.maximum.reduce([d.status for d in datas])
    free = sum((low < high).T, np.zeros(len(low), np.int64))
    with np.errstate(invalid="ignore"):
        outside = anywhere(~((start >= low) & (start <= high) & np.isfinite(start)))
    status[(status == RUNNING) & outside] = OUTSIDE
    status[(status == RUNNING) & (points < np.maximum(free, 1))] = FEW
    return status, points, np.asarray(size, float), points - free  # type: ignore[return-value]


def _alone(status: int, points: int, start: Array, low: Array, high: Array, parameters: Parameters) -> None:
    """What is wrong with the only fit."""
    if status == FEW:
        free = [n for n, lo, hi in zip(parameters.flat, low[0], high[0], strict=True) if lo < hi]
        raise ValueError(f"{NAME}: {points} points for {len(free)} parameters ({', '.join(free)})")
    if status == OUTSIDE:
        for name, x, lo, hi in zip(parameters.flat, start[0], low[0], high[0], strict=True):
            if not np.isfinite(x):
                raise ValueError(f"{NAME}: the start or fixed value of {name} is {x:g}")
            if not lo <= x <= hi:
                raise ValueError(f"{NAME}: {name} starts at {x:g}, which is not within its bounds {lo:g} ... {hi:g}")
    if status in (SIGMA, INFINITE, MISSING):
        raise ValueError(f"{NAME}: {REASONS[status]}")


def _was_wrong(parts: Any, done: Any) -> bool:
    """Whether a function turns out, where it ended, to drop the imaginary part or to need all its points."""
    functions = [p for p in parts if isinstance(p.model, FunctionModel)]
    wrong = False
    for part in functions:
        f, ended = part.model.function, np.flatnonzero(np.isfinite(done.params).all(1))[:1]
        own = part.own(done.params[ended])
        if len(ended) and f.points is not None and not f.splits(own[0], int(ended[0])):
            f.points, wrong = None, True
        if len(ended) and f.way == "complex" and not f.agrees(own, ended):
            f.way, wrong = "3-point", True
    return wrong
