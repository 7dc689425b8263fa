"""Images sampled at displaced pixels: warp, and what displaces them, a lattice of a spline and a matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from types import SimpleNamespace
from typing import Any

import numpy as np

from .. import reference
from ..cpu import warp
from ..scheme import decode
from .filters import run_pad, run_prefilter
from .op import Array, Composites, Op, Shape, Tangents, dtype_of

EXACT = 256  # pixels along an axis: up to here places in float32 are within 2e-5 of a pixel


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
        return warp.rows(text, dtype_of(field)).places(field, pose)
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
        return uncoefficients(F, warp.rows(text, dtype_of(ct)).transpose(ct, *arrays[1:]), text)
    (wide, x), dtype = exactly(F, arrays[1], arrays[2], text), F.dtype(ct)
    spread_out = F.splat(F.astype(ct, wide), x, decode(decode(text).sample).linear)
    return uncoefficients(F, F.astype(spread_out, dtype), text)


_FILTERS = SimpleNamespace(shape=np.shape, reshape=np.reshape, pad=run_pad, prefilter=run_prefilter)


def _run_warp(values: Array, field: Array, pose: Array, text: str, out: Array | None = None) -> Array:
    dtype = dtype_of(field)  # values of other types are converted as they are read
    run = warp.rows(text, dtype)
    read, box = run.box(values.shape[0] * values.shape[1], field, pose)
    if box != run.whole and decode(text).filter and values.dtype.kind == "f":
        with np.errstate(all="ignore"):
            if not np.isfinite(np.sum(values)):  # a NaN spoils whole lines, wherever it is
                box = run.whole
    part = values if box == run.whole else values[(slice(None), slice(None), *(slice(*ends) for ends in box))]
    return run(part, lambda: coefficients(_FILTERS, part.astype(dtype, copy=False), text), read, box, field, pose, out)


OPS = (
    Op(
        "warp",
        3,
        _run_warp,
        reference.warp,
        lambda v, f, p, text: (v[0], 1, prod(decode(text).shape), v[1]),
        _warp_jvp,
        {0: _warp_transpose},
    ),
)

COMPOSITES: Composites = {
    "moved": (moved, unmoved),
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
