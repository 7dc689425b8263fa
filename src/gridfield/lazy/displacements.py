"""Displacements of dask: item by item; a dense one by blocks that overlap, where what it takes is bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import arguments
from ..displacement import shape_of, spacing_of
from ..kernel import bspline
from .blocks import array, each, floating, known, whole, words
from .stencils import _stencil, reach_of, split
from .sums import _others

Given = dict[str, Any]


def _read(given: Given, where: str) -> tuple[Any, tuple[int, ...], bool, list[int]]:
    """The displacement, the shape of the image, whether each pixel has its own, and axes in several chunks."""
    u, shape = array(given["displacement"]), shape_of(given["shape"], where)
    known(u, where, "displacement")
    nd = len(shape)
    if u.ndim not in (nd + 1, nd + 2) or u.shape[u.ndim - nd - 1] != nd:
        raise ValueError(
            f"{where}: displacement has shape {u.shape} but must be ({nd}, *points) or (batch, {nd}, *points) for "
            f"{nd} deformed axes {shape}"
        )
    if u.numblocks[u.ndim - nd - 1] > 1:
        u = u.rechunk({u.ndim - nd - 1: -1})
    dense = tuple(u.shape[u.ndim - nd :]) == shape
    if not dense and min(u.shape[u.ndim - nd :]) < 2:
        raise ValueError(f"{where}: displacement has shape {u.shape}; each axis needs at least 2 control points")
    return u, shape, dense, split(u, range(u.ndim - nd, u.ndim))


def _items(f: Callable[[Any], Any], u: Any, nd: int, out: tuple[int, ...], where: str, why: str, kind: Any) -> Any:
    """f for the items of a batch; the axes of out are new."""
    whole(u, range(u.ndim - nd, u.ndim), where, "displacement", why)
    batch, made = words("batch", u.ndim - nd - 1), words("made", len(out))
    return each(f, (*batch, *made), u, (*batch, *words("own", nd + 1)), dtype=kind,
                new=dict(zip(made, out, strict=True)), name=where[3:])  # fmt: skip


def displacement_field(f: Callable[..., Any], given: Given) -> Any:
    """What is dense is as it is; from control points, which are whole."""
    where = "gf.displacement_field"
    u, shape, dense, _ = _read(given, where)
    if dense:
        return u.astype(floating(u))
    why = ", as a spline goes through all control points"
    return _items(lambda b: f(b, shape), u, len(shape), (len(shape), *shape), where, why, floating(u))


def jacobian_determinant(f: Callable[..., Any], given: Given) -> Any:
    """Of a dense displacement in chunks with as much overlap as the spline's filter reaches."""
    where = "gf.jacobian_determinant"
    u, shape, dense, cut = _read(given, where)
    options, nd, kind = _others(given, "displacement", "shape"), len(shape), floating(u)
    factors = arguments.per_axis(where, "factor", given.get("factor", 1), nd, arguments.SIZE)
    spacing_of(given.get("spacing"), nd, where)
    fine = tuple((n - 1) * k + 1 for n, k in zip(shape, factors, strict=True))
    if not cut or not dense or max(factors) > 1:
        why = " for a finer lattice" if dense else ", as a spline goes through all control points"
        return _items(lambda b: f(b, shape, **options), u, nd, fine, where, why, kind)

    def block(b: Any) -> Any:
        out = f(b, b.shape[b.ndim - nd :], **options)
        return np.repeat(np.expand_dims(out, -nd - 1), nd, -nd - 1)  # a block has as many components as it had

    u = u.astype(kind)
    reach = [r + 2 for r in reach_of([bspline(3)] * nd, kind)]
    out = _stencil(lambda cut: block, u, nd, reach, [False] * nd, kind)
    return out[(..., 0, *(slice(None),) * nd)]


def invert_displacement(f: Callable[..., Any], given: Given) -> Any:
    """Item by item: how far an inverse reaches is not known beforehand."""
    where = "gf.invert_displacement"
    u, shape, _, _ = _read(given, where)
    options, nd, kind = _others(given, "displacement", "shape"), len(shape), floating(u)

    def block(b: Any) -> Any:
        v, residual = f(b, shape, **options)
        v = v.reshape(*b.shape[: b.ndim - nd - 1], -1)
        return np.concatenate([v.astype(np.float64), np.full((*v.shape[:-1], 1), residual)], -1)

    size = nd * int(np.prod(shape))
    why = ", as how far its inverse reaches is not known before it is computed"
    packed = _items(block, u, nd, (size + 1,), where, why, np.float64)
    v = packed[..., :size].reshape((*u.shape[: u.ndim - nd - 1], nd, *shape)).astype(kind)
    return v, packed[..., size].max()


TABLE: dict[str, Callable[..., Any]] = {
    "displacement_field": displacement_field,
    "jacobian_determinant": jacobian_determinant,
    "invert_displacement": invert_displacement,
}
