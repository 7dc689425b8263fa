"""The primitives, each with its derivative, once, for every framework.

The algebra (batch b, derivative orders k, points n, channels c, axes i; S is the scheme, a text, see scheme.py):

    sample(v, x)_bknc = sum_cells k^(alpha_k)(x - cell) v            linear in v
    splat(y, x)       = the transpose of sample in v                 linear in y
    dot(v, w, x)_bni  = sum_kc w_bknc  d/dx_i sample(v, x)_bknc      linear in v and in w
    warp(v, f, p)     = sample(prefilter(pad(v)), pixels + moved(f) + posed(p))    linear in v
    correlate(v)_i    = sum_k w_k v_(i + k - before)                 linear in v; its transpose has w flipped
    bilinear(x, b, y, c)_mn = (x_m - y_n).(b_m - c_n)                linear in x and y together, in b and c together
    interact(x, y, v)_m = sum_n f(|x_m - y_n|^2) v_n                 linear in v; its transpose has x and y exchanged

and these close under differentiation:

    d sample = sample(dv) + along(dx, v)      along(dx, v)_bknc = sum_i dx_bni sample_up(v)_bkinc
    d splat  = splat(dy)  + push(dx, y)       push(dx, y)       = splat_up(spread(dx, y))
    d dot    = dot(dv, w) + dot(v, dw) + dot_up(v, spread(dx, w))   spread(dx, y)_bkinc = dx_bni y_bknc
    d bilinear = bilinear(dx, b, dy, c) + bilinear(x, db, y, dc)
    d interact = interact(dv) + 2 sum_n f'(q_mn) (x_m - y_n).(dx_m - dy_n) v_n, which is interact_up of v y_k, by steer
    d warp   = warp(dv) + slid(df) + turned(dp)      slid(df) = along(moved(df), c), turned(dp) = along(posed(dp), c)

where `up` is the scheme with one more derivative along each axis. A scheme of waves (scheme.Waves) makes of sample and
splat the non-uniform FFTs of types 2 and 1, under the same rules. In dx, the transpose of along is
ct -> dot(v, ct), that of push is ct -> dot(ct, y). `moved` is the displacement of every pixel that a lattice of spline
coefficients f makes, `posed` the one that a matrix p makes. An op states its `jvp` and, for each argument in which it
is linear, its transpose; `vjp` below derives the reverse mode: it runs the jvp on a symbolic tangent and walks back
over the linear steps that it went through. A framework needs only `run`, `shape`, `jvp`, `vjp` and `batched`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import reference
from .cpu import distance, plan, prefilter, stencil, warp, waves
from .scheme import decode

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Tangents = Sequence[Any]  # one per argument; None: that argument does not move


EXACT = 256  # pixels along an axis: up to here places in float32 are within 2e-5 of a pixel


@dataclass(frozen=True)
class Op:
    """A primitive. `F` is a Face: the ops and composites below bound to one framework."""

    name: str
    arrays: int  # how many arrays it takes; the static text comes after them
    run: Callable[..., np.ndarray]  # (*arrays, text, out=None) -> array, by the kernels; `out` is C-contiguous
    reference: Callable[..., Any]  # the same in plain array code
    shape: Callable[..., Shape]  # (*shapes, text) -> shape
    jvp: Callable[..., list[Any]]  # (F, arrays, tangents, text) -> terms of the sum
    transpose: dict[int, Callable[..., Any]]  # {argument: (F, ct, arrays, text) -> its cotangent}
    merge: Callable[..., Any] | None = None  # a cheaper way to batch, see `batched`


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


def expand(F: Any, x: Any, matrices: Sequence[np.ndarray], transposed: bool = False) -> Any:
    """(b, i, *points) -> (b, i, *shape), a matrix along every axis; transposed: the other way."""
    lead, sizes = F.shape(x)[:2], list(x.shape[2:])
    done = lead[0] * lead[1]
    for a, matrix in enumerate(matrices):
        matrix = matrix.T if transposed else matrix
        rest = prod(sizes[a + 1 :])
        sizes[a] = matrix.shape[0]
        if rest == 1:  # nearly all the work is in the last axis: one plain product, which writes the result in order
            product = F.matmul(F.reshape(x, (done, matrix.shape[1])), F.constant(matrix.T, F.dtype(x), x))
        else:
            product = F.matmul(F.constant(matrix, F.dtype(x), x), F.reshape(x, (done, matrix.shape[1], rest)))
        x, done = product, done * matrix.shape[0]
    return F.reshape(x, (*lead, *sizes))


def moved(F: Any, field: Any, text: str) -> Any:
    """(b, i, *points) -> (b, n, i): the displacement of every pixel of a warp."""
    w = decode(text)
    x = field if w.points is None else expand(F, field, w.matrices)
    return F.moveaxis(F.reshape(x, (*F.shape(x)[:2], prod(w.shape))), 1, 2)


def unmoved(F: Any, ct: Any, text: str) -> Any:
    """The transpose of moved."""
    w = decode(text)
    x = F.reshape(F.moveaxis(ct, 2, 1), (F.shape(ct)[0], w.ndim, *w.shape))
    return x if w.points is None else expand(F, x, w.matrices, transposed=True)


def _laid_out(F: Any, shape: Shape, axes: Sequence[np.ndarray], like: Any, at: int) -> Any:
    """Numbers along each axis for every pixel, stacked; made anew, as tables would be as large as images."""
    out = []
    for a, numbers in enumerate(axes):
        one = [m if b == a else 1 for b, m in enumerate(shape)]
        line = F.reshape(F.constant(np.asarray(numbers, np.float64), F.dtype(like), like), one)
        out.append(F.reshape(F.broadcast_to(line, shape), (prod(shape),)))
    return F.stack(out, at)


def _centred(F: Any, text: str, like: Any) -> Any:
    """(ndim + 1, pixels): coordinates from the centre of the result, and 1."""
    shape = decode(text).shape
    return _laid_out(F, shape, [*(np.arange(m) - (m - 1) / 2 for m in shape), np.ones(1)], like, 0)


def posed(F: Any, pose: Any, text: str) -> Any:
    """(b, i, j) -> (b, n, i): the displacement of every pixel by a matrix, from the centre of the result."""
    return F.einsum("bij,jn->bni", pose, _centred(F, text, pose))


def unposed(F: Any, ct: Any, text: str) -> Any:
    """The transpose of posed."""
    return F.einsum("bni,jn->bij", ct, _centred(F, text, ct))


def places(F: Any, field: Any, pose: Any, text: str) -> Any:
    """(b, n, i): where a warp samples the image."""
    if isinstance(field, np.ndarray):  # nothing follows it: one kernel instead of five passes
        return warp.rows(text, _dtype(field)).places(field, pose)
    w = decode(text)
    pixels = _laid_out(F, w.shape, [np.arange(s, s + m) for s, m in zip(w.start, w.shape, strict=True)], field, -1)
    return pixels + (moved(F, field, text) + posed(F, pose, text))


def exactly(F: Any, field: Any, pose: Any, text: str) -> tuple[str, Any]:
    """Places in a type, which comes first, that has them as exactly as the kernel of warp.

    That keeps pixel and displacement apart: in float32 the sum is 1e-4 off at pixel 2000.
    """
    wide = F.dtype(field) if max(decode(text).full) <= EXACT else F.widest("float64")
    return wide, places(F, F.astype(field, wide), F.astype(pose, wide), text)


def _carried(F: Any, move: Callable[..., Any], d: Any, values: Any, field: Any, pose: Any, text: str) -> Any:
    """What a warp changes by when its pixels are displaced further, by move(d)."""
    (wide, x), dtype = exactly(F, field, pose, text), F.dtype(values)
    c = F.astype(coefficients(F, values, text), wide)
    return F.astype(F.along(F.astype(move(d, text), wide), c, x, decode(text).sample), dtype)


def _uncarried(F: Any, back: Callable[..., Any], ct: Any, values: Any, field: Any, pose: Any, text: str) -> Any:
    """The transpose of _carried."""
    (wide, x), dtype = exactly(F, field, pose, text), F.dtype(values)
    c = F.astype(coefficients(F, values, text), wide)
    return F.astype(back(F, F.dot(c, F.astype(ct, wide), x, decode(text).sample), text), dtype)


def coefficients(F: Any, values: Any, text: str) -> Any:
    """The coefficients (b, c, *grid) that a warp samples."""
    w, (b, c, *shape) = decode(text), F.shape(values)
    if w.pad:
        values = F.pad(F.reshape(values, (b * c, *shape)), w.pad)
    if w.filter:
        values = F.prefilter(F.reshape(values, (b * c, *values.shape[values.ndim - w.ndim :])), w.filter)
    return F.reshape(values, (b, c, *values.shape[values.ndim - w.ndim :]))


def uncoefficients(F: Any, ct: Any, text: str) -> Any:
    """The transpose of coefficients."""
    w, (b, c, *shape) = decode(text), F.shape(ct)
    if w.filter:
        ct = F.prefilter(F.reshape(ct, (b * c, *shape)), decode(w.filter).flipped)
    if w.pad:
        ct = F.fold(F.reshape(ct, (b * c, *shape)), decode(w.pad).linear)
    return F.reshape(ct, (b, c, *ct.shape[ct.ndim - w.ndim :]))


# ---- distances
def _centre(F: Any, y: Any) -> Any:
    """(b, 1, d): the mean of the points, a constant to derivatives.

    What is taken from all points changes no distance, but products of large coordinates would cancel.
    """
    y = F.fixed(y)
    finite = y - y == 0
    count = F.sum(F.where(finite, y * 0 + 1, 0.0), 1)
    return (F.sum(F.where(finite, y, 0.0), 1) / (count + F.where(count == 0, count * 0 + 1, count * 0)))[:, None]


def _contract(F: Any, ct: Any, b: Any, c: Any) -> Any:
    """sum_n ct_mn (b_m - c_n)."""
    centre = _centre(F, c)
    return F.sum(ct, 2)[:, :, None] * (b - centre) - F.matmul(ct, c - centre)


def _contract_back(F: Any, ct: Any, b: Any, c: Any) -> Any:
    """-sum_m ct_mn (b_m - c_n)."""
    return _contract(F, F.moveaxis(ct, 1, 2), c, b)


def _many(F: Any, parts: Sequence[Any]) -> Any:
    """d + 1 arrays (b, n, c) -> (b, n, (d + 1) c)."""
    b, n, c = F.shape(parts[0])
    return F.reshape(F.stack(parts, 2), (b, n, len(parts) * c))


def _moments(F: Any, dy: Any, y: Any, v: Any) -> Any:
    """(y.dy) v and dy_k v, side by side."""
    return _many(F, [F.sum(y * dy, 2)[:, :, None] * v, *(dy[:, :, k : k + 1] * v for k in range(dy.shape[2]))])


def _unmoments(F: Any, ct: Any, y: Any, v: Any) -> Any:
    """The transpose of _moments."""
    b, n, c = F.shape(v)
    s = F.sum(F.reshape(ct, (b, n, y.shape[2] + 1, c)) * v[:, :, None], 3)
    return s[:, :, :1] * y + s[:, :, 1:]


def _split(F: Any, t: Any, d: int, c: Any) -> Any:
    b, m, _ = F.shape(t)
    return F.reshape(t, (b, m, d + 1, c))


def _projected(F: Any, t: Any, x: Any) -> Any:
    """2 (t_0 - sum_k x_k t_k) of what _moments became."""
    d = x.shape[2]
    t = _split(F, t, d, F.shape(t)[2] // (d + 1))
    return 2 * (t[:, :, 0] - F.sum(x[:, :, :, None] * t[:, :, 1:], 2))


def _unprojected(F: Any, ct: Any, x: Any) -> Any:
    """The transpose of _projected."""
    return _many(F, [2 * ct, *(-2 * x[:, :, k : k + 1] * ct for k in range(x.shape[2]))])


COMPOSITES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {  # with their transposes
    "along": (along, lambda F, ct, values, points, text: F.dot(values, ct, points, text)),
    "push": (push, lambda F, ct, y, points, text: F.dot(ct, y, points, text)),
    "spread": (
        spread,
        lambda F, ct, y: F.einsum("bkinc,bknc->bni", _unstack(F, ct, F.shape(ct)[1] // F.shape(y)[1]), y),
    ),
    "moved": (moved, unmoved),
    # of distances: dx_mk g_mkc summed over k; do_m g_mc; (y.dy, dy_1 ... dy_d) v of every point
    "steer": (
        lambda F, dx, g: F.einsum("bmk,bmkc->bmc", dx, g),
        lambda F, ct, g: F.einsum("bmc,bmkc->bmk", ct, g),
    ),
    "weigh": (
        lambda F, do, g: F.einsum("bm,bmc->bmc", do, g),
        lambda F, ct, g: F.einsum("bmc,bmc->bm", ct, g),
    ),
    "moments": (_moments, _unmoments),
    "projected": (_projected, _unprojected),
    "posed": (posed, unposed),
    "slid": (
        lambda F, dfield, *rest: _carried(F, F.moved, dfield, *rest),
        lambda F, ct, *rest: _uncarried(F, unmoved, ct, *rest),
    ),
    "turned": (
        lambda F, dpose, *rest: _carried(F, F.posed, dpose, *rest),
        lambda F, ct, *rest: _uncarried(F, unposed, ct, *rest),
    ),
}


# ---- the ops
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


def _warp_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    (values, field, pose), (dvalues, dfield, dpose), w = arrays, tangents, decode(text)
    terms = [] if dvalues is None else [F.warp(dvalues, field, pose, w.linear)]
    if dfield is not None:
        terms.append(F.slid(dfield, values, field, pose, text))
    if dpose is not None:
        terms.append(F.turned(dpose, values, field, pose, text))
    return terms


def _warp_transpose(F: Any, ct: Any, arrays: Any, text: str) -> Any:
    if isinstance(ct, np.ndarray) and isinstance(arrays[1], np.ndarray):  # nothing follows it
        return uncoefficients(F, warp.rows(text, _dtype(ct)).transpose(ct, *arrays[1:]), text)
    (wide, x), dtype = exactly(F, arrays[1], arrays[2], text), F.dtype(ct)
    spread_out = F.splat(F.astype(ct, wide), x, decode(decode(text).sample).linear)
    return uncoefficients(F, F.astype(spread_out, dtype), text)


def _linear_jvp(name: str) -> Callable[..., list[Any]]:
    def jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
        static = decode(text)
        return [getattr(F, name)(tangents[0], getattr(static, "linear", text))]

    return jvp


def _square_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    (x, y), (dx, dy) = arrays, tangents
    return _bilinear_jvp(F, (x, 2 * x, y, 2 * y), (dx, None, dy, None), text)


def _bilinear_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    """A term for each tangent, as only those that are linear in one argument are transposed."""
    terms = []
    for i, tangent in enumerate(tangents):
        if tangent is not None:
            other, moved = (i + 2) % 4, list(arrays)
            moved[i], moved[other] = tangent, F.fixed(arrays[other]) * 0
            terms.append(F.bilinear(*moved, text))
    return terms


def _interact_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    """f'(q) 2 (x - y).(dx - dy) v: sums of f' v y_k, about the mean of the points."""
    (x, y, v, *offsets), (dx, dy, dv, *do) = arrays, tangents
    op, static = F.shifted if offsets else F.interact, decode(text)
    terms = [] if dv is None else [op(x, y, dv, *offsets, text)]
    if do and do[0] is not None:
        if static.side == "rows":
            terms.append(F.weigh(do[0], -op(*arrays, text)))
        else:
            terms.append(op(x, y, F.weigh(do[0], -v), *offsets, text))
    if dx is None and dy is None:
        return terms
    centre, d = _centre(F, y), y.shape[2]
    xs, ys = x - centre, y - centre
    if dx is not None:
        sums = op(x, y, _many(F, [v, *(v * ys[:, :, k : k + 1] for k in range(d))]), *offsets, static.up)
        t = _split(F, sums, d, F.shape(v)[2])
        terms.append(F.steer(dx, 2 * (xs[:, :, :, None] * t[:, :, :1] - t[:, :, 1:])))
    if dy is not None:
        terms.append(F.projected(op(x, y, F.moments(dy, ys, v), *offsets, static.up), xs))
    return terms


def _no_jvp(F: Any, arrays: Any, tangents: Tangents, text: str) -> list[Any]:
    raise NotImplementedError("gridfield: the least distance is a constant to derivatives here")


def _contiguous(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a if a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]


def _dtype(a: np.ndarray) -> str:
    return "float32" if a.itemsize == 4 else "float64"


def of_waves(text: str) -> bool:
    """Whether a static argument stands for waves."""
    return text.startswith('["Waves"')


def _engine(text: str, dtype: str) -> Any:
    """What runs sample, splat and dot: of kernels, or of waves."""
    return (waves if of_waves(text) else plan).plan(text, dtype)


def _run_sample(values: Array, points: Array, text: str, out: Array | None = None) -> Array:
    (points,) = _contiguous(points)
    return _engine(text, _dtype(values)).sample(values, points, out)


def _run_splat(values: Array, points: Array, text: str, out: Array | None = None) -> Array:
    values, points = _contiguous(values, points)
    return _engine(decode(text).linear, _dtype(values)).splat(values, points, out)


def _run_dot(values: Array, weights: Array, points: Array, text: str, out: Array | None = None) -> Array:
    weights, points = _contiguous(weights, points)
    return _into(out, _engine(decode(text).up, _dtype(values)).dot(values, weights, points))


def _into(out: Array | None, result: Array) -> Array:
    if out is None:
        return result
    out[...] = result
    return out


def _ends(shape: Shape, text: str, dtype: str) -> plan.Ends:
    m = decode(text)
    return plan.ends(shape, m.widths, m.boundaries, dtype)


def _run_pad(values: Array, text: str, out: Array | None = None) -> Array:
    ends = _ends(values.shape[1:], text, _dtype(values))
    return _into(out, ends.pad(np.ascontiguousarray(values)[:, None], decode(text).cval)[..., 0])


def _run_fold(values: Array, text: str, out: Array | None = None) -> Array:
    widths = decode(text).widths
    shape = tuple(n - before - after for n, (before, after) in zip(values.shape[1:], widths, strict=True))
    ends = _ends(shape, text, _dtype(values))
    grid, flat = ends.buffer(len(values), 1)
    grid[..., 0] = values
    return ends.fold(grid, flat, None if out is None else out[:, None])[:, 0]


def _run_prefilter(values: Array, text: str, out: Array | None = None) -> Array:
    f = decode(text)
    return _into(out, prefilter.prefilter(values, f.kernels, f.boundaries, f.transposed))


def _run_correlate(values: Array, text: str, out: Array | None = None) -> Array:
    return _into(out, stencil.plan(values.shape[1:], text, _dtype(values))(values))


_FILTERS = SimpleNamespace(shape=np.shape, reshape=np.reshape, pad=_run_pad, prefilter=_run_prefilter)


def _run_warp(values: Array, field: Array, pose: Array, text: str, out: Array | None = None) -> Array:
    dtype = _dtype(field)  # values of other types are converted as they are read
    run = warp.rows(text, dtype)
    read, box = run.box(values.shape[0] * values.shape[1], field, pose)
    if box != run.whole and decode(text).filter and values.dtype.kind == "f":
        with np.errstate(all="ignore"):
            if not np.isfinite(np.sum(values)):  # a NaN spoils whole lines, wherever it is
                box = run.whole
    part = values if box == run.whole else values[(slice(None), slice(None), *(slice(*ends) for ends in box))]
    return run(part, lambda: coefficients(_FILTERS, part.astype(dtype, copy=False), text), read, box, field, pose, out)


def _run_square(x: Array, y: Array, text: str, out: Array | None = None) -> Array:
    return _run_bilinear(x, x, y, y, text, out, square=True)


def _run_bilinear(
    x: Array, b: Array, y: Array, c: Array, text: str, out: Array | None = None, square: bool = False
) -> Array:
    fresh = out is None
    target = np.empty((*x.shape[:2], y.shape[1]), x.dtype) if out is None else out
    same = square and x.ctypes.data == y.ctypes.data and (x.shape, x.strides) == (y.shape, y.strides)
    for k in range(len(x) if target.size else 0):
        sets = distance.Sets(x[k], y[k], *(() if square else (b[k], c[k])))
        distance.matrix(sets, decode(text).form, target[k], same, fresh)
    return target


def _run_least(x: Array, y: Array, text: str, out: Array | None = None) -> Array:
    found = np.full(x.shape[:2], np.inf, x.dtype)
    for k in range(len(x) if found.size and y.shape[1] else 0):
        found[k] = distance.nearest(distance.Sets(x[k], y[k]))[0]
    return _into(out, found)


def _run_interact(x: Array, y: Array, v: Array, *rest: Any) -> Array:
    *offsets, text = rest[:-1] if rest and not isinstance(rest[-1], str) else rest
    out = rest[-1] if not isinstance(rest[-1], str) else None
    static, total = decode(text), np.zeros((*x.shape[:2], v.shape[2]), x.dtype)
    for k in range(len(x) if total.size and y.shape[1] else 0):
        sets = distance.Sets(x[k], y[k], offsets=offsets[0][k] if offsets else None, side=static.side)
        total[k] = distance.sums(sets, static.form, v[k])
    return _into(out, total)


def _pad_shape(shape: Shape, text: str) -> Shape:
    return shape[0], *(n + sum(w) for n, w in zip(shape[1:], decode(text).widths, strict=True))


def _fold_shape(shape: Shape, text: str) -> Shape:
    return shape[0], *(n - sum(w) for n, w in zip(shape[1:], decode(text).widths, strict=True))


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


OPS = {
    op.name: op
    for op in (
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
        Op(
            "warp",
            3,
            _run_warp,
            reference.warp,
            lambda v, f, p, text: (v[0], 1, prod(decode(text).shape), v[1]),
            _warp_jvp,
            {0: _warp_transpose},
        ),
        Op(
            "prefilter",
            1,
            _run_prefilter,
            reference.prefilter,
            lambda v, text: v,
            _linear_jvp("prefilter"),
            {0: lambda F, ct, arrays, text: F.prefilter(ct, decode(text).flipped)},
        ),
        Op(
            "pad",
            1,
            _run_pad,
            reference.pad,
            _pad_shape,
            _linear_jvp("pad"),
            {0: lambda F, ct, arrays, text: F.fold(ct, decode(text).linear)},
        ),
        Op(
            "fold",
            1,
            _run_fold,
            reference.fold_back,
            _fold_shape,
            _linear_jvp("fold"),
            {0: lambda F, ct, arrays, text: F.pad(ct, text)},
        ),
        Op(
            "correlate",
            1,
            _run_correlate,
            reference.correlate,
            lambda v, text: decode(text).sizes(v),
            _linear_jvp("correlate"),
            {0: lambda F, ct, arrays, text: F.correlate(ct, decode(text).flipped)},
        ),
        Op(
            "square",
            2,
            _run_square,
            reference.square_distances,
            lambda x, y, text: (*x[:2], y[1]),
            _square_jvp,
            {},
        ),
        Op(
            "bilinear",
            4,
            _run_bilinear,
            reference.bilinear,
            lambda x, b, y, c, text: (*x[:2], y[1]),
            _bilinear_jvp,
            {
                0: lambda F, ct, arrays, text: _contract(F, ct, arrays[1], arrays[3]),
                1: lambda F, ct, arrays, text: _contract(F, ct, arrays[0], arrays[2]),
                2: lambda F, ct, arrays, text: _contract_back(F, ct, arrays[1], arrays[3]),
                3: lambda F, ct, arrays, text: _contract_back(F, ct, arrays[0], arrays[2]),
            },
        ),
        Op("least", 2, _run_least, reference.least, lambda x, y, text: x[:2], _no_jvp, {}),
        Op(
            "interact",
            3,
            _run_interact,
            reference.interact,
            lambda x, y, v, text: (*x[:2], v[2]),
            _interact_jvp,
            {2: lambda F, ct, arrays, text: F.interact(arrays[1], arrays[0], ct, decode(text).flipped)},
        ),
        Op(
            "shifted",
            4,
            _run_interact,
            reference.interact_shifted,
            lambda x, y, v, o, text: (*x[:2], v[2]),
            _interact_jvp,
            {2: lambda F, ct, arrays, text: F.shifted(arrays[1], arrays[0], ct, arrays[3], decode(text).flipped)},
        ),
    )
}


# ---- reverse mode, derived
class _Traced:
    """A tangent whose linear history is remembered: `back` takes a cotangent of this to one of `source`."""

    __slots__ = ("back", "source")

    def __init__(self, source: _Traced | None = None, back: Callable[[Any], Any] = lambda ct: ct) -> None:
        self.source, self.back = source, back


class _Tracing:
    """A Face whose ops, given a _Traced, only note how to transpose that step."""

    def __init__(self, F: Any) -> None:
        self._face = F

    def __getattr__(self, name: str) -> Callable[..., Any]:
        F = self._face

        def step(*args: Any) -> Any:
            at = next((i for i, a in enumerate(args) if type(a) is _Traced), None)
            if at is None:
                return getattr(F, name)(*args)
            traced = args[at]
            if name in COMPOSITES:
                return _Traced(traced, lambda ct: COMPOSITES[name][1](F, ct, *args[1:]))
            return _Traced(traced, lambda ct: OPS[name].transpose[at](F, ct, args[:-1], args[-1]))

        return step


def vjp(F: Any, op: Op, arrays: Sequence[Any], ct: Any, wanted: Sequence[bool], text: str) -> tuple[Any, ...]:
    """Cotangents of the wanted arguments (None for the others): the jvp in each, transposed."""
    out: list[Any] = []
    for i, want in enumerate(wanted):
        if not want:
            out.append(None)
            continue
        tangents = [_Traced() if j == i else None for j in range(len(wanted))]
        (traced,) = op.jvp(_Tracing(F), arrays, tangents, text)
        cotangent = ct
        while traced is not None:
            cotangent, traced = traced.back(cotangent), traced.source
        out.append(cotangent)
    return tuple(out)


def batched(F: Any, op: Op, arrays: Sequence[Any], of: Sequence[bool], text: str) -> Any:
    """The op over one more leading axis, on the arrays marked in `of`.

    By more points or channels where that does, else by joining it to the batch axis, which all arrays have.
    """
    if op.merge is not None and (result := op.merge(F, arrays, of, text)) is not None:
        return result
    size = next(a.shape[0] for a, has in zip(arrays, of, strict=True) if has)
    whole = [a if has else F.broadcast_to(a, (size, *a.shape)) for a, has in zip(arrays, of, strict=True)]
    y = getattr(F, op.name)(*(F.reshape(a, (size * a.shape[1], *a.shape[2:])) for a in whole), text)
    return F.reshape(y, (size, y.shape[0] // size if size else 0, *y.shape[1:]))


def static(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function from static arguments to static results: torch.compile calls it instead of tracing it.

    The attribute is the one that torch.compiler.assume_constant_result sets.
    """
    f._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return f


def recipe(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function over a face, so that AutoGraph (TensorFlow) runs it as it stands instead of rewriting it.

    The attribute is the one that tf.autograph.experimental.do_not_convert sets.
    """
    f.autograph_info__ = None  # type: ignore[attr-defined]
    return f


@static
def derived(text: str, depth: int = 2) -> None:
    """Work out the texts that derivatives of an op need, before a compiler traces how that is done."""
    for name in ("linear", "up", "flipped", "sample"):
        further = getattr(decode(text), name, None)
        if isinstance(further, str) and further != text and depth:
            derived(further, depth - 1)


class Face:
    """One framework: its few array functions, and the ops bound to it. faces/ has a subclass for each."""

    converts = False  # whether `warp` takes values of any real type, which it converts as it reads them

    # what a subclass provides, besides `bind`
    name: str
    reshape: Callable[..., Any]  # these five as NumPy's
    moveaxis: Callable[..., Any]
    einsum: Callable[..., Any]
    broadcast_to: Callable[..., Any]
    stack: Callable[..., Any]
    copy: Callable[[Any], Any]
    fixed: Callable[[Any], Any]  # the same numbers, a constant to derivatives: for comparisons
    array: Callable[[Any], Any]  # from anything array-like
    dtype: Callable[[Any], str]  # the name of the element type
    astype: Callable[[Any, str], Any]
    as_real: Callable[[Any], Any]  # complex (...) -> real (..., 2)
    as_complex: Callable[[Any], Any]  # and back
    round_to: Callable[[Any, str], Any]  # floats to an integer type, rounded and saturated; NaN is 0
    matmul: Callable[[Any, Any], Any]
    sum: Callable[..., Any]  # of all elements, or along one axis
    constant: Callable[[np.ndarray, str, Any], Any]  # (table, dtype, an array whose device it goes to)
    numpy: Callable[[Any], np.ndarray]  # the values, without history; an error where there are none yet
    transpose: Callable[..., Any]  # this and those below as NumPy's
    where: Callable[..., Any]
    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    floor: Callable[[Any], Any]
    inv: Callable[[Any], Any]  # of matrices
    solve: Callable[[Any, Any], Any]  # of matrices, as NumPy's
    cholesky: Callable[[Any], Any]  # the lower factor
    sqrt: Callable[[Any], Any]
    log: Callable[[Any], Any]
    take: Callable[[Any, Any], Any]  # (x, indices): along the first axis
    concatenate: Callable[[Any, int], Any]
    amin: Callable[[Any, int], Any]  # these three along an axis
    amax: Callable[[Any, int], Any]
    argmin: Callable[[Any, int], Any]
    exp: Callable[[Any], Any]
    conj: Callable[[Any], Any]
    roll: Callable[[Any, Any, Any], Any]  # (x, shifts, axes), both tuples
    fft: Callable[[Any, int, int], Any]  # (x, size, axis): of complex x, zeros appended to that size
    ifft: Callable[[Any, int, int], Any]
    concrete: Callable[[Any], np.ndarray | None]  # the numbers, where they are known: not while tracing
    # (f, shapes, dtype, *arrays) -> arrays of that type: f, of NumPy arrays, on the numbers, which it gets while
    # something traces too. It makes an array of each of the shapes (None: a size that the trace does not know),
    # must not raise, and is a constant to derivatives; what maps calls it for every item.
    outside: Callable[..., tuple[Any, ...]]
    followed: Callable[..., bool]  # whether derivatives of any of these arrays may be asked for

    # what `bind` makes of OPS
    sample: Callable[..., Any]
    splat: Callable[..., Any]
    dot: Callable[..., Any]
    prefilter: Callable[..., Any]
    pad: Callable[..., Any]
    fold: Callable[..., Any]
    warp: Callable[..., Any]
    correlate: Callable[..., Any]
    square: Callable[..., Any]
    bilinear: Callable[..., Any]
    least: Callable[..., Any]
    interact: Callable[..., Any]
    shifted: Callable[..., Any]
    steer: Callable[..., Any]
    weigh: Callable[..., Any]
    moments: Callable[..., Any]
    projected: Callable[..., Any]
    moved: Callable[..., Any]
    posed: Callable[..., Any]
    slid: Callable[..., Any]
    turned: Callable[..., Any]
    along: Callable[..., Any]
    push: Callable[..., Any]
    spread: Callable[..., Any]

    def __init__(self) -> None:
        for name, op in OPS.items():
            setattr(self, name, self.bind(op))
        for name in COMPOSITES:
            setattr(self, name, self.compose(name))

    def shape(self, x: Any) -> tuple[Any, ...]:
        """Sizes of the axes, for reshapes; what a tracing compiler does not know yet may be a tensor."""
        return tuple(x.shape)

    def device(self, x: Any) -> Any:
        """Where an array is: equal for arrays that can be used together."""
        return x.device

    def version(self, x: Any) -> int | None:
        """Changes when the numbers of an array do. None: unknown, or such numbers reach the kernels as copies."""
        return None

    def as_tree(self, cls: Any) -> None:
        """Make instances of a class trees of arrays, by its `_flattened` and `_unflattened`, where there are such."""

    def apart(self, f: Callable[..., Any], *args: Any) -> Any:
        """f(*args), which a compiler that cannot look into it leaves as it is."""
        return f(*args)

    def refusing(self, x: Any, message: str) -> Any:
        """x; a derivative in it is a TypeError, as far as that can be known."""
        return x

    def nearby(self, x: Any) -> bool:
        """Whether an array lies in the memory of the CPU."""
        return True

    def at_hand(self, x: Any) -> np.ndarray | None:
        """The numbers, for a kernel that no op stands for: None where they are not known, elsewhere, or followed."""
        return self.concrete(x) if not self.followed(x) and self.nearby(x) else None

    def linear(self, f: Callable[..., np.ndarray], adjoint: Callable[..., np.ndarray], x: Any, *of: Any) -> Any:
        """f(x), f a linear map of NumPy arrays, which depends on the arrays `of`. None: not where x is, or followed."""
        known = self.at_hand(x)
        return None if known is None else self.constant(f(known), self.dtype(x), x)

    def recomputed(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """f, whose inner values a backward pass computes again instead of keeping them, where a framework can."""
        return f

    def known(self, size: Any) -> int | None:
        """The size of an axis, if it is a number, the same in each call of what a compiler makes."""
        return size if isinstance(size, int) else None

    def widest(self, dtype: str) -> str:
        """The float type that stands for this one, where a framework does not have all of them switched on."""
        return dtype

    def shaped(self, name: str, arrays: Any, shapes: Any, text: str, out_shape: Any) -> Any:
        """An op between reshapes: of its arrays to `shapes`, of its result to `out_shape`."""
        out = getattr(self, name)(*(self.reshape(a, s) for a, s in zip(arrays, shapes, strict=True)), text)
        return self.reshape(out, out_shape)

    def bind(self, op: Op) -> Callable[..., Any]:
        """The op as a differentiable function of this framework's arrays."""
        raise NotImplementedError

    def compose(self, name: str) -> Callable[..., Any]:
        """A composite as a function of this framework's arrays."""
        return functools.partial(COMPOSITES[name][0], self)
