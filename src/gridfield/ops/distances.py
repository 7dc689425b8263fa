"""Between two sets of points: squared distances, and sums of a function of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import reference
from ..cpu import distance
from ..scheme import decode
from .op import Array, Composites, Op, Tangents, into


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


# ---- derivatives
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


# ---- by the kernels
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
    return into(out, found)


def _run_interact(x: Array, y: Array, v: Array, *rest: Any) -> Array:
    *offsets, text = rest[:-1] if rest and not isinstance(rest[-1], str) else rest
    out = rest[-1] if not isinstance(rest[-1], str) else None
    static, total = decode(text), np.zeros((*x.shape[:2], v.shape[2]), x.dtype)
    for k in range(len(x) if total.size and y.shape[1] else 0):
        sets = distance.Sets(x[k], y[k], offsets=offsets[0][k] if offsets else None, side=static.side)
        total[k] = distance.sums(sets, static.form, v[k])
    return into(out, total)


OPS = (
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

# dx_mk g_mkc summed over k; do_m g_mc; (y.dy, dy_1 ... dy_d) v of every point
COMPOSITES: Composites = {
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
}
