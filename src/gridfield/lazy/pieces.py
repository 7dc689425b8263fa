"""What takes from elsewhere: samples at points, deformation; each piece from the part of the grid that it may reach."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import numpy as np

from .. import check, lattice, reference
from ..boundary import as_boundaries
from ..deform import LABEL
from ..displacement import per_pixel, spacing_of, spline
from ..faces.numpy import FACE
from ..geometry import crop_of, ndim_of
from ..grid import Grid
from ..kernel import as_kernels
from ..ops import expand
from ..sampling import _hashable
from ..scheme import Axis, Scheme
from .blocks import InChunks, array, dask, each, floating, is_lazy, known, whole, words
from .stencils import prefilter, reach_of, split
from .sums import _coordinates, _others

Given = dict[str, Any]
LATE = ("displacement", "affine", "rotate", "zoom")  # which may be of dask


# ---- sample
def sample(f: Callable[..., Any], given: Given) -> Any:
    """Every block of the grid gives its part of the points, the others 0; the sum has all."""
    where, v, grid = "gf.sample", array(given["values"]), given.get("grid")
    known(v, where, "values")
    (x,), index = _coordinates(given["points"], where)
    nd, pts = x.shape[-1], index[:-1]
    if grid is not None:
        check.is_grid(grid, where)
    check.points(x.shape, where, grid)
    if v.ndim < nd:
        raise ValueError(f"{where}: points has {nd} coordinates per point but values has shape {v.shape}")
    grid = grid if grid is not None else Grid.pixels(v.shape[v.ndim - nd :])
    check.trailing(v.shape, grid.shape, "values", "the grid's shape", where)
    check.compute_dtype(v.dtype.name, x.dtype.name, where)
    orders, several = check.orders(given.get("derivative"), nd, where)
    lead, cells = words("lead", v.ndim - nd), words("cell", nd)
    axes = range(v.ndim - nd, v.ndim)
    kind = v.dtype if given.get("derivative") is None else floating(v)
    options = _others(given, "values", "points", "grid")
    head = ("orders",) if several else ()
    new = {"orders": len(orders)} if several else {}
    if not is_lazy(v) or not split(v, axes):
        return each(lambda v, x: f(v, x, grid=grid, **options), (*head, *pts, *lead), v, (*lead, *cells), x, index,
                    dtype=kind, new=new, name="sample")  # fmt: skip
    if given.get("derivative") is not None:
        raise InChunks(where, "values", split(v, axes), " for derivatives")
    kernels = as_kernels(_hashable(given.get("kernel", "cubic")), nd, where)
    names = as_boundaries(_hashable(given.get("boundary", "mirror")), nd, grid.periodic, where)
    cval = check.number(given.get("cval", 0.0), "cval", where)
    c = v
    if given.get("prefilter", True) and not all(k.interpolating for k in kernels):
        from ..sampling import prefilter as of_numpy

        c = prefilter(of_numpy, {"values": v, "grid": grid, "kernel": kernels, "boundary": names, "cval": cval})
        c, grid = c if isinstance(c, tuple) else (c, grid)
    elif v.dtype.kind in "iub":
        c = v.astype(np.float64)
    cut = split(c, axes)
    margin = [k.width if a in cut else 0 for k, a in zip(kernels, axes, strict=True)]
    parts = []
    for ends in np.ndindex(*[c.numblocks[a] for a in axes]):
        cell = [_bounds(c.chunks[a], i) for a, i in zip(axes, ends, strict=True)]
        near = [(s - m, e + m) for (s, e), m in zip(cell, margin, strict=True)]
        near = [
            (lo, hi) if b == "wrap" and a in cut else (max(lo, 0), min(hi, n))
            for (lo, hi), n, b, a in zip(near, grid.shape, names, axes, strict=True)
        ]
        piece = _taken(c, axes, near)
        body = functools.partial(_owned, f, grid=grid, names=names, kernels=kernels, cval=cval, cell=cell, near=near,
                                 rest=not any(ends))  # fmt: skip
        parts.append(each(body, (*pts, *lead), piece, (*lead, *cells), x, index, dtype=c.dtype, name="sample"))
    out = dask().stack(parts).sum(axis=0, dtype=c.dtype)
    return out.map_blocks(_typed, v.dtype.name, dtype=v.dtype, meta=np.empty((0,) * out.ndim, v.dtype))


def _typed(x: Any, dtype: str) -> Any:
    """As `sample` returns integers: rounded, saturated."""
    if not check.is_integer(dtype):
        return x.astype(dtype, copy=False)
    return x >= 0.5 if dtype == "bool" else FACE.round_to(np.array(x), dtype)


def _bounds(chunks: tuple[int, ...], i: int) -> tuple[int, int]:
    start = sum(chunks[:i])
    return start, start + chunks[i]


def _taken(c: Any, axes: Sequence[int], near: Sequence[tuple[int, int]]) -> Any:
    """A piece of a lazy array, in one chunk along the axes; beyond the ends it goes round."""
    da = dask()
    for a, (lo, hi) in zip(axes, near, strict=True):
        n = c.shape[a]
        if lo >= 0 and hi <= n:
            c = c[(slice(None),) * a + (slice(lo, hi),)]
        else:
            c = da.take(c, np.arange(lo, hi) % n, axis=a)
    return c.rechunk(dict.fromkeys(axes, -1))


def _owned(
    f: Any, piece: Any, x: Any, *, grid: Grid, names: Any, kernels: Any, cval: float, cell: Any, near: Any, rest: bool
) -> Any:
    """Samples of those points that are in the cells of this block, else 0. rest: and of those in none."""
    shape, nd = x.shape[:-1], x.shape[-1]
    flat = x.reshape(-1, nd)
    mine, held = np.ones(len(flat), bool), np.empty((len(flat), nd))
    away, nowhere = np.zeros(len(flat), bool), np.zeros(len(flat), bool)
    axes = Scheme(grid, kernels, names, ((0,) * nd,), cval).axes
    for a in range(nd):
        n, (lo, hi) = grid.shape[a], cell[a]
        u = (flat[:, a].astype(np.float64) - grid.origin[a]) / grid.spacing[a]
        u, lost = _folded(u, axes[a], x.dtype)
        nowhere |= np.isnan(u)
        away |= lost | np.isnan(u)
        number = np.clip(np.floor(np.where(np.isnan(u), 0, u) + 0.5), 0, n - 1)
        mine &= (number >= lo) & (number < hi)
        held[:, a] = u - near[a][0]
    out = np.zeros((len(flat), *piece.shape[: piece.ndim - nd]), piece.dtype)
    real = piece.real.dtype
    chosen = mine & ~away
    if chosen.any():
        local = tuple("nearest" if b == "wrap" and lo_hi != (0, n) else "mirror" if b == "constant" else b
                      for b, lo_hi, n in zip(names, near, grid.shape, strict=True))  # fmt: skip
        out[chosen] = f(piece, held[chosen].astype(real), kernel=kernels, boundary=local, cval=cval, prefilter=False)
    if rest and away.any():
        out[away] = np.where(nowhere[away], np.nan, cval).reshape(-1, *[1] * (out.ndim - 1))
    return out.reshape(*shape, *out.shape[1:])


def _folded(u: Any, axis: Axis, dtype: Any) -> tuple[Any, Any]:
    """Coordinates, in samples, on the grid, NaN where there is none; those that are beyond it. dtype: they came in."""
    with np.errstate(invalid="ignore", over="ignore"):
        y, _, _ = reference.fold(u, axis)
        _, _, on = reference.fold(u.astype(dtype), axis)  # which rounding of that type is forgiven
    return y, ~on


# ---- deform
def deform(f: Callable[..., Any], given: Given) -> Any:
    """Each image, or several alike."""
    images = given["images"]
    if isinstance(images, (list, tuple, dict)):
        keys = list(images) if isinstance(images, dict) else list(range(len(images)))
        out = []
        for i, k in enumerate(keys):
            own = {}
            for name, option in given.items():
                several = name in ("kernel", "boundary", "cval", "axis", "batch_axis") and (
                    isinstance(option, dict) or (isinstance(option, list) and len(option) == len(keys))
                )
                own[name] = option if not several else option[k] if isinstance(option, dict) else option[i]
            x = images[k]
            late = any(is_lazy(own.get(k)) for k in LATE)
            out.append(_image(f, own | {"images": x}) if is_lazy(x) or late else f(**own | {"images": x}))
        return dict(zip(keys, out, strict=True)) if isinstance(images, dict) else type(images)(out)
    return _image(f, given)


def axes_of(given: Given, shape: Any, where: str) -> tuple[tuple[int, ...], Any, Any]:
    """The deformed axes of an image of that shape, and the patch along them: where it begins, and its size."""
    ndim, batch, axis = len(shape), given.get("batch_axis"), given.get("axis")
    if axis is None:
        nd = ndim_of(given.get("displacement"), given.get("affine"), given.get("rotate"), batch is not None, where)
        nd = ndim - (batch is not None) if nd is None else nd
        axes = tuple(a for a in range(ndim) if batch is None or a != batch % ndim)[-nd:]
    else:
        axes = tuple(int(a) % ndim for a in np.atleast_1d(axis))
    if max(axes) >= ndim or len(axes) > ndim:
        raise ValueError(f"{where}: axis {axis!r} does not fit an image of shape {shape}")
    return axes, *crop_of(given.get("crop"), tuple(shape[a] for a in axes), where)


def _image(f: Callable[..., Any], given: Given) -> Any:
    """Over leading axes; along deformed ones in pieces, if the displacement is bounded."""
    where, x = "gf.deform", array(given["images"])
    x = x if is_lazy(x) else dask().from_array(x, chunks=-1)
    known(x, where, "images")
    late = {k: given[k] for k in LATE if is_lazy(given.get(k))}
    for name, p in late.items():
        known(p, where, name)
    given = given | {k: np.broadcast_to(0.0, p.shape) for k, p in late.items()}  # for their shapes
    u, batch = given.get("displacement"), given.get("batch_axis")
    axes, start, size = axes_of(given, x.shape, where)
    full = tuple(x.shape[a] for a in axes)
    cut = split(x, axes)
    if batch is not None:
        whole(x, [batch], where, "images")
    if cut and late:
        name = next(iter(late))
        raise TypeError(
            f"{where}: {name} is of dask, but how far it reaches has to be known where images is in several chunks "
            f"along the deformed axes: call {name}.compute() first"
        )
    posed = [k for k in ("affine", "rotate", "zoom") if given.get(k) is not None]
    if cut and (posed or batch is not None or hasattr(u, "spline")):
        why = posed[0] if posed else "batch_axis" if batch is not None else "a SplineField"
        raise InChunks(where, "images", cut, f" with {why}, which may take a pixel from anywhere")
    if not cut:
        index = words("a", x.ndim)
        inside = [index[a] for a in axes]
        made = tuple(f"{w}'" if w in inside else w for w in index)
        new = {f"{w}'": n for w, n in zip(inside, size, strict=True)}
        options = _others(given, "images", "axis", *late) | {"axis": axes}
        names = tuple(late)
        pairs = [p for k, a in late.items() for p in (a.rechunk(-1), words(k, a.ndim))]
        return each(lambda b, *of: f(b, **options, **dict(zip(names, of, strict=True))), made, x, index, *pairs,
                    dtype=x.dtype, new=new, name="deform")  # fmt: skip
    return _in_pieces(f, given, x, axes, full, start, size)


def _in_pieces(f: Any, given: Given, x: Any, axes: Any, full: Any, start: Any, size: Any) -> Any:
    """Pieces of the result, each from that part of the image that its displacement may reach."""
    where, nd, da = "gf.deform", len(axes), dask()
    lead = [a for a in range(x.ndim) if a not in axes]
    moved = x.transpose(*lead, *axes)
    last = range(len(lead), x.ndim)
    u = np.asarray(given["displacement"], np.float64)
    if u.ndim != nd + 1 or len(u) != nd:
        raise ValueError(f"{where}: displacement has shape {u.shape} but must be ({nd}, *points) for axes {axes}")
    u = per_pixel(FACE, u[None], spacing_of(given.get("spacing"), nd, where), "float64")
    dense = u.shape[2:] == full
    c = u if dense else spline(FACE, u)
    bound = np.abs(c).max(axis=(0, *range(2, c.ndim)))  # a spline is within its coefficients
    if not np.isfinite(bound).all():
        raise ValueError(f"{where}: displacement is not finite, so that its reach is not known: images.rechunk first")
    kernel = given.get("kernel", "cubic")
    kernels = as_kernels("linear" if kernel == LABEL else _hashable(kernel), nd, where)
    names = as_boundaries(_hashable(given.get("boundary", "constant")), nd, (False,) * nd, where)
    wide = (
        np.float64
        if x.dtype.kind in "iub" and x.dtype.itemsize > 1
        else np.float32
        if x.dtype.kind in "iub"
        else x.dtype
    )
    decay = reach_of(kernels, wide) if given.get("prefilter", True) else [0] * nd
    margin = [ceil(b) + k.width + d for b, k, d in zip(bound, kernels, decay, strict=True)]
    options = _others(given, "images", "displacement", "axis", "crop", "spacing", "boundary")
    index, pieces = (*words("lead", len(lead)), *words("a", nd)), []
    made = (*words("lead", len(lead)), *words("b", nd))
    cuts = [_cuts(moved.chunks[a], s, n) for a, s, n in zip(last, start, size, strict=True)]
    for number in np.ndindex(*map(len, cuts)):
        region = [cut[i] for cut, i in zip(cuts, number, strict=True)]
        near = [(0, n) if b == "wrap" else (max(lo - m, 0), min(hi + m, n))
                for (lo, hi), m, n, b in zip(region, margin, full, names, strict=True)]  # fmt: skip
        body = functools.partial(_piece, f, c, dense, full, region, near, names, options)
        new = {w: hi - lo for w, (lo, hi) in zip(words("b", nd), region, strict=True)}
        pieces.append(each(body, made, _taken(moved, last, near), index, dtype=x.dtype, new=new, name="deform"))
    out = _assembled(da, pieces, [len(cut) for cut in cuts], len(lead))
    return out.transpose(*np.argsort([*lead, *axes]).tolist())


def _cuts(chunks: tuple[int, ...], start: int, size: int) -> list[tuple[int, int]]:
    """The parts of start ... start + size that chunks cut it into."""
    ends = np.cumsum((0, *chunks))
    inner = [int(e) for e in ends if start < e < start + size]
    return list(itertools.pairwise([start, *inner, start + size]))


def _piece(
    f: Any, c: Any, dense: bool, full: Any, region: Any, near: Any, names: Any, options: Given, block: Any
) -> Any:
    """The deformed pixels of a region, from a part of the image."""
    nd = len(full)
    inside = tuple(slice(lo - n, hi - n) for (lo, hi), (n, _) in zip(region, near, strict=True))
    if dense:
        part = c[(0, slice(None), *(slice(*r) for r in region))]
    else:
        rows = [lattice.matrix(p, n)[slice(*r)] for p, n, r in zip(c.shape[2:], full, region, strict=True)]
        part = expand(FACE, c, rows)[0]
    shape = block.shape[block.ndim - nd :]
    u = np.zeros((nd, *shape))
    u[(slice(None), *inside)] = part
    axis = tuple(range(block.ndim - nd, block.ndim))
    return f(block, u, axis=axis, crop=inside, boundary=names, **options)


def _assembled(da: Any, pieces: list[Any], counts: list[int], first: int) -> Any:
    """Pieces in C order, put together."""
    for a in range(len(counts) - 1, -1, -1):
        n = counts[a]
        pieces = [da.concatenate(pieces[i : i + n], axis=first + a) for i in range(0, len(pieces), n)]
    return pieces[0]


TABLE: dict[str, Callable[..., Any]] = {"sample": sample, "deform": deform}
