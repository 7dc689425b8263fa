"""On grids alone: prefilter, pad and its transpose fold, correlate."""

from __future__ import annotations

import numpy as np

from .. import reference
from ..cpu import plan, prefilter, stencil
from ..scheme import decode
from .op import Array, Composites, Op, Shape, dtype_of, into, linear_jvp


def _ends(shape: Shape, text: str, dtype: str) -> plan.Ends:
    m = decode(text)
    return plan.ends(shape, m.widths, m.boundaries, dtype)


def run_pad(values: Array, text: str, out: Array | None = None) -> Array:
    """Of (b, *grid)."""
    ends = _ends(values.shape[1:], text, dtype_of(values))
    return into(out, ends.pad(np.ascontiguousarray(values)[:, None], decode(text).cval)[..., 0])


def _run_fold(values: Array, text: str, out: Array | None = None) -> Array:
    widths = decode(text).widths
    shape = tuple(n - before - after for n, (before, after) in zip(values.shape[1:], widths, strict=True))
    ends = _ends(shape, text, dtype_of(values))
    grid, flat = ends.buffer(len(values), 1)
    grid[..., 0] = values
    return ends.fold(grid, flat, None if out is None else out[:, None])[:, 0]


def run_prefilter(values: Array, text: str, out: Array | None = None) -> Array:
    """Of (b, *grid)."""
    f = decode(text)
    return into(out, prefilter.prefilter(values, f.kernels, f.boundaries, f.transposed))


def _run_correlate(values: Array, text: str, out: Array | None = None) -> Array:
    return into(out, stencil.plan(values.shape[1:], text, dtype_of(values))(values))


def _pad_shape(shape: Shape, text: str) -> Shape:
    return shape[0], *(n + sum(w) for n, w in zip(shape[1:], decode(text).widths, strict=True))


def _fold_shape(shape: Shape, text: str) -> Shape:
    return shape[0], *(n - sum(w) for n, w in zip(shape[1:], decode(text).widths, strict=True))


OPS = (
    Op(
        "prefilter",
        1,
        run_prefilter,
        reference.prefilter,
        lambda v, text: v,
        linear_jvp("prefilter"),
        {0: lambda F, ct, arrays, text: F.prefilter(ct, decode(text).flipped)},
    ),
    Op(
        "pad",
        1,
        run_pad,
        reference.pad,
        _pad_shape,
        linear_jvp("pad"),
        {0: lambda F, ct, arrays, text: F.fold(ct, decode(text).linear)},
    ),
    Op(
        "fold",
        1,
        _run_fold,
        reference.fold_back,
        _fold_shape,
        linear_jvp("fold"),
        {0: lambda F, ct, arrays, text: F.pad(ct, text)},
    ),
    Op(
        "correlate",
        1,
        _run_correlate,
        reference.correlate,
        lambda v, text: decode(text).sizes(v),
        linear_jvp("correlate"),
        {0: lambda F, ct, arrays, text: F.correlate(ct, decode(text).flipped)},
    ),
)

COMPOSITES: Composites = {}
