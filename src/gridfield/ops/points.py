"""Between grids and points: sample, splat and dot, of kernels or of waves."""

from __future__ import annotations

from typing import Any

from .. import reference
from ..cpu import plan, waves
from ..scheme import decode
from .op import Array, Composites, Op, Tangents, contiguous, dtype_of, into


# ---- composites: linear in their first argument
def _unstack(F: Any, x: Any, ndim: int) -> Any:
    """(b, k*i, n, c) -> (b, k, i, n, c)."""
    b, ki, n, c = F.shape(x)
    return F.reshape(x, (b, ki // ndim, ndim, n, c))


def along(F: Any, dx: Any, values: Any, points: Any, text: str) -> Any:
    """Directional derivative of sample, direction dx at each point."""
    s = decode(text)
    return F.einsum("bni,bkinc->bknc", dx, _unstack(F, F.sample(values, points, s.up), s.ndim))


def spread(F: Any, dx: Any, y: Any) -> Any:
    """dx_bni y_bknc, the orders k and axes i in one axis."""
    b, k, n, c = F.shape(y)
    return F.reshape(F.einsum("bni,bknc->bkinc", dx, y), (b, k * F.shape(dx)[-1], n, c))


def push(F: Any, dx: Any, y: Any, points: Any, text: str) -> Any:
    """Derivative of splat when the points move by dx."""
    return F.splat(F.spread(dx, y), points, decode(text).up)


# ---- derivatives
def _sample_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    (values, points), (dvalues, dpoints) = arrays, tangents
    terms = [] if dvalues is None else [F.sample(dvalues, points, decode(text).linear)]
    return terms if dpoints is None else [*terms, F.along(dpoints, values, points, text)]


def _splat_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    (values, points), (dvalues, dpoints) = arrays, tangents
    terms = [] if dvalues is None else [F.splat(dvalues, points, text)]
    return terms if dpoints is None else [*terms, F.push(dpoints, values, points, text)]


def _dot_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    (values, weights, points), (dvalues, dweights, dpoints) = arrays, tangents
    terms = [] if dvalues is None else [F.dot(dvalues, weights, points, decode(text).linear)]
    if dweights is not None:
        terms.append(F.dot(values, dweights, points, text))
    if dpoints is not None:
        terms.append(F.dot(values, F.spread(dpoints, weights), points, decode(text).up))
    return terms


# ---- by the kernels
def of_waves(text: str) -> bool:
    """Whether a static argument stands for waves."""
    return text.startswith('["Waves"')


def _engine(text: str, dtype: str) -> Any:
    """What runs sample, splat and dot: of kernels, or of waves."""
    return (waves if of_waves(text) else plan).plan(text, dtype)


def _run_sample(values: Array, points: Array, text: str, out: Array | None = None) -> Array:
    (points,) = contiguous(points)
    return _engine(text, dtype_of(values)).sample(values, points, out)


def _run_splat(values: Array, points: Array, text: str, out: Array | None = None) -> Array:
    values, points = contiguous(values, points)
    return _engine(decode(text).linear, dtype_of(values)).splat(values, points, out)


def _run_dot(values: Array, weights: Array, points: Array, text: str, out: Array | None = None) -> Array:
    weights, points = contiguous(weights, points)
    return into(out, _engine(decode(text).up, dtype_of(values)).dot(values, weights, points))


# ---- one more axis
def _sample_merge(F: Any, arrays: Any, batched: Any, text: str) -> Any:
    """Points with a batch axis sampled from one grid are more points; a batch of values at one set, more channels."""
    (values, points), (of_values, of_points) = arrays, batched
    if of_points and not of_values:
        v, b, n, nd = points.shape
        x = F.reshape(F.moveaxis(points, 0, 1), (b, v * n, nd))
        y = F.sample(values, x, text)
        return F.moveaxis(F.reshape(y, (b, y.shape[1], v, n, y.shape[-1])), 2, 0)
    if of_values and not of_points:
        v, b, c = values.shape[:3]
        y = F.sample(F.reshape(F.moveaxis(values, 0, 1), (b, v * c, *values.shape[3:])), points, text)
        return F.moveaxis(F.reshape(y, (*y.shape[:3], v, c * decode(text).parts)), 3, 0)
    return None


def _splat_merge(F: Any, arrays: Any, batched: Any, text: str) -> Any:
    """A batch of values at one set of points is more channels."""
    (values, points), (of_values, of_points) = arrays, batched
    if of_points or not of_values:
        return None
    v, b, k, n, c = values.shape
    grid = F.splat(F.reshape(F.moveaxis(values, 0, 3), (b, k, n, v * c)), points, text)
    return F.moveaxis(F.reshape(grid, (b, v, c // decode(text).parts, *grid.shape[2:])), 1, 0)


def _dot_merge(F: Any, arrays: Any, batched: Any, text: str) -> Any:
    """Points and weights with a batch axis on one grid are more points."""
    (values, weights, points), (of_values, of_weights, of_points) = arrays, batched
    if of_values or not (of_weights and of_points):
        return None
    v, b, n, nd = points.shape
    k, c = weights.shape[2], weights.shape[4]
    w = F.reshape(F.moveaxis(weights, 0, 2), (b, k, v * n, c))
    x = F.reshape(F.moveaxis(points, 0, 1), (b, v * n, nd))
    return F.moveaxis(F.reshape(F.dot(values, w, x, text), (b, v, n, nd)), 1, 0)


def _numbers(channels: Any, parts: int) -> Any:
    """Of a point; None: a tracing compiler does not know how many."""
    return channels if channels is None or parts == 1 else channels * parts


OPS = (
    Op(
        "sample",
        2,
        _run_sample,
        reference.sample,
        lambda v, x, text: (v[0], len(decode(text).orders), x[1], _numbers(v[1], decode(text).parts)),
        _sample_jvp,
        {0: lambda F, ct, arrays, text: F.splat(ct, arrays[1], decode(text).linear)},
        _sample_merge,
    ),
    Op(
        "splat",
        2,
        _run_splat,
        reference.splat,
        lambda y, x, text: (y[0], y[3] and y[3] // decode(text).parts, *decode(text).extent),
        _splat_jvp,
        {0: lambda F, ct, arrays, text: F.sample(ct, arrays[1], text)},
        _splat_merge,
    ),
    Op(
        "dot",
        3,
        _run_dot,
        reference.dot,
        lambda v, w, x, text: x,
        _dot_jvp,
        {
            0: lambda F, ct, arrays, text: F.push(ct, arrays[1], arrays[2], text),
            1: lambda F, ct, arrays, text: F.along(ct, arrays[0], arrays[2], text),
        },
        _dot_merge,
    ),
)

COMPOSITES: Composites = {
    "along": (along, lambda F, ct, values, points, text: F.dot(values, ct, points, text)),
    "push": (push, lambda F, ct, y, points, text: F.dot(ct, y, points, text)),
    "spread": (
        spread,
        lambda F, ct, y: F.einsum("bkinc,bknc->bni", _unstack(F, ct, F.shape(ct)[1] // F.shape(y)[1]), y),
    ),
}
