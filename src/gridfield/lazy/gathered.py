"""What needs all points at once, but for the size of its result: one task; and sums of waves at other places."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from .. import check
from ..arguments import LENGTH, SIZE, per_axis
from ..convolution import WIDER, _one_kernel, spectrum
from ..faces.numpy import FACE
from ..fitting import Options
from ..grid import Grid
from ..nufft import _complex, _options, nufft1, nufft2
from ..spline import Spline
from .blocks import array, each, floating, is_lazy, words
from .sums import _coordinates, _others

Given = dict[str, Any]


def fit_field(f: Callable[..., Any], given: Given) -> Any:
    """One task with all points; channels apart, unless they share a roughness that is chosen."""
    where, v = "gf.fit_field", array(given["values"])
    if given.get("full_output"):
        raise ValueError(f"{where}: full_output does not go with dask arrays, whose fit comes later")
    (x,), index = _coordinates(given["points"], where)
    pts, nd = index[:-1], x.shape[-1]
    own = {"kernel": "cubic", "bounds": None, "boundary": "natural", "periodic": False}
    own |= {k: given[k] for k in own if k in given}
    spline = Spline.of(given["grid"], own["kernel"], own["bounds"], own["boundary"], where, own["periodic"])
    options = {"roughness": 0.0, "order": 2, "levels": 1, "solver": "auto"}
    Options(**{k: given.get(k, d) for k, d in options.items()}, progress=False).checked(where)
    check.points(x.shape, where, spline.grid)
    check.leading(v.shape, x.shape[:-1], "values", "the shape of points", where)
    lead, cells = words("lead", v.ndim - len(pts)), words("cell", nd)
    w = None if given.get("weights") is None else array(given["weights"])
    if w is not None and tuple(w.shape) not in (tuple(x.shape[:-1]), tuple(v.shape)):
        raise ValueError(
            f"{where}: weights has shape {w.shape} but must be {x.shape[:-1]}, one per point, or as values"
        )
    gathered = given.get("roughness") == "gcv"

    def whole(a: Any) -> Any:
        return a.rechunk(dict.fromkeys(range(a.ndim if gathered else len(pts)), -1)) if is_lazy(a) else a

    rest = _others(given, "points", "values", "weights", "progress")
    of_weights = () if w is None else (*pts, *lead)[: w.ndim]
    return each(lambda x, v, w: f(x, v, weights=w, **rest), (*lead, *cells), whole(x), index, whole(v), (*pts, *lead),
                whole(w), of_weights, dtype=floating(v), new=dict(zip(cells, spline.grid.shape, strict=True)),
                name="fit_field")  # fmt: skip


def to_grid(f: Callable[..., Any], given: Given) -> Any:
    """What the lattice is only the points themselves say."""
    points = given["points"]
    items = {"points": points[0] if isinstance(points, (tuple, list)) else points, "values": given["values"]}
    lazily = ", ".join(k for k, x in items.items() if is_lazy(x))
    raise TypeError(
        f"gf.to_grid: {lazily} of dask, but the lattice, and so the shape of the result, is known only once all points "
        "are: call .compute() first"
    )


def convolve_points(f: Callable[..., Any], given: Given) -> Any:
    """Type 1 adds up over chunks of points, type 2 goes by chunks of places."""
    where, at = "gf.convolve_points", given.get("at")
    (x,), index = _coordinates(given["points"], where)
    if x.ndim != 2:
        raise ValueError(
            f"{where}: points must be (N, ndim) with arrays of dask, got shape {x.shape}: one item at a time"
        )
    if isinstance(at, Grid):
        at = at.coords().astype(floating(x))
    (y,), of_at = ([x], index) if at is None else _coordinates(at, where, "at")
    v, nd = array(given["values"]), x.shape[-1]
    if v.ndim == 0 or v.shape[-1] != x.shape[0]:
        raise ValueError(f"{where}: values has shape {v.shape} but must end in the number of points, {x.shape[0]}")
    if y.shape[-1] != nd:
        raise ValueError(f"{where}: at has shape {y.shape} but points {nd} coordinates")
    kernel, modes_of = given.get("kernel"), given.get("fourier_kernel")
    period, extent, shape = given.get("period", 2 * np.pi), given.get("extent"), given.get("shape")
    _one_kernel(kernel, modes_of, period, extent, where)
    few, one = np.zeros((0, nd), x.dtype), np.zeros(0, v.dtype)
    of_values, dtype = _complex(FACE, one, few, "values", where)
    order = given.get("modes_order", "centered")
    eps, _, order, _ = _options(given.get("eps", 1e-6), 1, order, 1.0, nd, dtype, where)
    half = reach = None
    if period is None:
        if extent is None:
            raise ValueError(
                f"{where}: extent is needed with period=None and dask arrays, whose greatest coordinate would be "
                "computed early: extent=greatest |coordinate| of points and at, one number or one per axis"
            )
        half = per_axis(where, "extent", extent, nd, LENGTH)
        reach = tuple(2 * h for h in half)
        period = tuple(2 * WIDER * r for r in reach)
    period = per_axis(where, "period", period, nd, LENGTH)
    shape = None if shape is None else per_axis(where, "shape", shape, nd, SIZE)
    length, radial = given.get("length"), given.get("radial", True)
    modes, of_reals = spectrum(FACE, kernel, modes_of, length, radial, period, reach, shape, eps, of_values, few)
    sizes = check.grid_shape(modes.shape, "fourier_kernel", where)
    real = v.dtype.kind != "c" and of_reals
    how: dict[str, Any] = {"eps": eps, "modes_order": order if modes_of is not None else "fft", "period": period}
    factors, kind = modes / prod(sizes), np.dtype(of_values.dtype)
    made_of = np.dtype(dtype) if real else kind

    def inside(p: Any, name: str) -> Any:
        if half is not None and p.size and (np.abs(p) > half).any():
            raise ValueError(f"{where}: {name} reach to {np.abs(p).max():g}, beyond extent = {extent}")
        return p

    def spread(p: Any, v: Any) -> Any:
        return (nufft1(inside(p, "points"), v, sizes, **how) * factors)[None]

    def taken(p: Any, m: Any) -> Any:
        out = nufft2(inside(p, "at").reshape(-1, nd), m, **how)
        return (out.real if real else out).reshape(*out.shape[:-1], *p.shape[:-1])

    lead, waves = words("lead", v.ndim - 1), words("mode", nd)
    parts = each(spread, ("pts0", *lead, *waves), x, index, v, (*lead, "pts0"), dtype=kind, ones=["pts0"],
                 new=dict(zip(waves, sizes, strict=True)), name="convolve")  # fmt: skip
    made = tuple(f"{w}'" for w in of_at[:-1])
    out = each(taken, (*lead, *made), y, (*made, "axis"), parts.sum(axis=0), (*lead, *waves),
               dtype=made_of, name="convolve_points")  # fmt: skip
    return out


TABLE: dict[str, Callable[..., Any]] = {"fit_field": fit_field, "to_grid": to_grid, "convolve_points": convolve_points}
