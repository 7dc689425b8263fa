"""What looks around itself: blocks that overlap as far as the kernel reaches.

A recursive prefilter reaches without end, but what it takes from afar dies away as pole**distance: the overlap is where
that is below the rounding of the type. Where a block ends at an end of the grid the boundary does as ever; where it ends
inside, whatever the boundary makes there is in the overlap, which is cut off.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import ceil, log
from typing import Any

import numpy as np

from .. import check, lattice, reference
from ..boundary import ENLARGE, ENLARGED, as_boundaries, extension
from ..deform import LABEL
from ..displacement import per_pixel, spacing_of, spline
from ..faces.numpy import FACE
from ..geometry import crop_of, ndim_of
from ..grid import Grid
from ..kernel import as_kernels
from ..ops import expand
from ..sampling import _hashable
from ..scheme import Axis, Scheme
from ..smoothing import _boundaries
from ..smoothing_kernel import weights
from .blocks import InChunks, array, dask, each, floating, is_lazy, known, whole, words
from .sums import _coordinates, _others

Given = dict[str, Any]
ROUNDING = {4: 2.0**-26, 8: 2.0**-55}  # a quarter of the last digit, by bytes of the type


def _overlapped(f: Callable[[Any], Any], x: Any, depth: dict[int, int], wraps: Sequence[int], dtype: Any) -> Any:
    """f on blocks that reach `depth` over their ends, along the axes `wraps` over those of the grid, too."""
    da = dask()
    ends = {a: ("periodic" if a in wraps else "none") for a in range(x.ndim)}
    full = {a: depth.get(a, 0) for a in range(x.ndim)}
    return da.overlap.map_overlap(
        f, x, depth=full, boundary=ends, trim=True, dtype=dtype, meta=np.empty((0,) * x.ndim, dtype), allow_rechunk=True
    )


def _split(x: Any, axes: Sequence[int]) -> list[int]:
    """Those of the axes that are in several chunks."""
    return [a for a in axes if x.numblocks[a] > 1]


def _stencil(
    make: Callable[[tuple[bool, ...]], Callable[[Any], Any]], x: Any, nd: int, reach: Sequence[int], wraps: Any, kind: Any
) -> Any:
    """Blocks of the last nd axes. make: which of these are cut -> what to do to a block."""
    axes = list(range(x.ndim - nd, x.ndim))
    for a, r in zip(axes, reach, strict=True):  # an axis no longer than the reach is one chunk
        if x.numblocks[a] > 1 and r >= x.shape[a]:
            x = x.rechunk({a: -1})
    cut = tuple(x.numblocks[a] > 1 for a in axes)
    f = make(cut)
    if not any(cut):
        return dask().map_blocks(f, x, dtype=kind, meta=np.empty((0,) * x.ndim, kind))
    depth = {a: int(r) for a, r, c in zip(axes, reach, cut, strict=True) if c}
    around = [a for a, c, w in zip(axes, cut, wraps, strict=True) if c and w]
    return _overlapped(f, x, depth, around, kind)


def _local(words: Sequence[str], cut: Sequence[bool]) -> tuple[str, ...]:
    """Boundaries of a block: what wraps comes with the overlap."""
    return tuple("nearest" if c and b == "wrap" else b for b, c in zip(words, cut, strict=True))


def smooth(f: Callable[..., Any], given: Given) -> Any:
    """The kernel's half width is the reach."""
    where, a = "gf.smooth", array(given["a"])
    known(a, where, "a")
    kernel, grid = given.get("kernel", "ball"), given.get("grid")
    if given.get("return_info"):
        raise ValueError(f"{where}: return_info does not go with dask arrays")
    if grid is not None:
        check.is_grid(grid, where)
        check.trailing(a.shape, grid.shape, "a", "the grid's shape", where)
    nd = grid.ndim if grid is not None else a.ndim if isinstance(kernel, str) else np.ndim(kernel)
    if not 1 <= nd <= a.ndim:
        raise ValueError(f"{where}: kernel has {nd} axes but a has shape {a.shape}")
    spacing = grid.spacing if grid is not None else (1.0,) * nd
    periodic = grid.periodic if grid is not None else (False,) * nd
    check.compute_dtype(a.dtype.name, "int64", where, "a")
    table = weights(kernel, given.get("radius"), given.get("sigma"), spacing, where)
    names = as_boundaries(_hashable(given.get("boundary", "constant")), nd, periodic, where)
    _boundaries(names, periodic, where)
    options = _others(given, "a", "grid", "boundary", "return_info")

    def make(cut: tuple[bool, ...]) -> Callable[[Any], Any]:
        wraps = tuple(p and not c for p, c in zip(periodic, cut, strict=True))
        local = _local(names, cut)

        def block(x: Any) -> Any:
            here = Grid.from_spacing(x.shape[x.ndim - nd :], 0.0, spacing, periodic=wraps)
            return f(x, grid=here, boundary=local, **options)

        return block

    reach = [n // 2 for n in table.shape]
    return _stencil(make, a, nd, reach, [b == "wrap" for b in names], floating(a))


def reach_of(kernels: Any, dtype: Any) -> list[int]:
    """How far a prefilter reaches, to the rounding of the type: pole**n below it; 0 for kernels that interpolate."""
    eps = ROUNDING.get(np.empty(0, dtype).real.itemsize, ROUNDING[4])
    out = []
    for k in kernels:
        poles = [] if k.interpolating else [abs(p) for p in k.poles]
        out.append(ceil(log(eps) / log(max(poles))) if poles and max(poles) > 0 else 0)
    return out


def prefilter(f: Callable[..., Any], given: Given) -> Any:
    """The reach is where the slowest pole has died away."""
    where, x, grid = "gf.prefilter", array(given["values"]), given.get("grid")
    known(x, where, "values")
    if grid is not None:
        check.is_grid(grid, where)
        check.trailing(x.shape, grid.shape, "values", "the grid's shape", where)
        nd = grid.ndim
    else:
        nd = len(check.last_axes(x.shape, given.get("ndim"), "values", where))
    shape = x.shape[x.ndim - nd :]
    periodic = grid.periodic if grid is not None else (False,) * nd
    kernels = as_kernels(_hashable(given.get("kernel", "cubic")), nd, where)
    names = as_boundaries(_hashable(given.get("boundary", "mirror")), nd, periodic, where)
    cval = check.number(given.get("cval", 0.0), "cval", where)
    kind = floating(x)
    check.compute_dtype(x.dtype.name, "int64", where)
    x = x.astype(kind)
    smooth_axes = [not k.interpolating for k in kernels]
    widths = [ENLARGE if s and b in ENLARGED else 0 for s, b in zip(smooth_axes, names, strict=True)]
    if any(widths):
        x = _padded(x, [(w, w) for w in widths], names, cval)
    solved = tuple(ENLARGED.get(b, b) for b in names)

    def make(cut: tuple[bool, ...]) -> Callable[[Any], Any]:
        local = _local(solved, cut)
        # what is enlarged is: "nearest", of which the block would be made larger, stands for a cut end
        local = tuple("mirror" if c and b in ENLARGED else b for b, c in zip(local, cut, strict=True))
        return lambda block: f(block, kernel=kernels, boundary=local, ndim=nd)

    out = _stencil(make, x, nd, reach_of(kernels, kind), [b == "wrap" for b in names], kind)
    if all(b not in ENLARGED for b in names):
        return out
    grid = grid if grid is not None else Grid.pixels(shape)
    larger = Grid.from_spacing(
        tuple(n + 2 * w for n, w in zip(shape, widths, strict=True)),
        tuple(o - w * s for o, w, s in zip(grid.origin, widths, grid.spacing, strict=True)),
        grid.spacing,
        periodic=grid.periodic,
    )
    return out, larger


def _padded(x: Any, widths: Sequence[tuple[int, int]], names: Sequence[str], cval: float) -> Any:
    """Samples beyond the ends, axis by axis, each a combination of those on the grid."""
    da, nd = dask(), len(widths)
    for a, ((before, after), name) in enumerate(zip(widths, names, strict=True)):
        axis, n = x.ndim - nd + a, x.shape[x.ndim - nd + a]
        parts = []
        for k in (np.arange(-before, 0), np.arange(n, n + after)):
            if len(k) == 0:
                parts.append(None)
                continue
            ext = extension("mirror" if name == "constant" else name, n, k)
            total: Any = 0.0
            for t in range(ext.index.shape[1]):
                weight = ext.weight[:, t].reshape([-1 if i == axis else 1 for i in range(x.ndim)]).astype(x.dtype)
                total = total + da.take(x, ext.index[:, t], axis=axis).rechunk({axis: -1}) * weight
            rest = (ext.rest * cval).reshape([-1 if i == axis else 1 for i in range(x.ndim)]).astype(x.dtype)
            parts.append(total + rest)
        x = da.concatenate([p for p in (parts[0], x, parts[1]) if p is not None], axis=axis)
    return x


def pad(f: Callable[..., Any], given: Given) -> Any:
    """The ends, made of those chunks that they come from."""
    where, x = "gf.pad", array(given["values"])
    known(x, where, "values")
    widths = check.margins(given["margins"], x.ndim, where)
    names = as_boundaries(_hashable(given.get("boundary", "mirror")), len(widths), (False,) * len(widths), where)
    cval = check.number(given.get("cval", 0.0), "cval", where)
    return _padded(x.astype(floating(x)), widths, names, cval)


def fold(f: Callable[..., Any], given: Given) -> Any:
    """Whole along the axes that are folded."""
    where, x = "gf.fold", array(given["values"])
    widths = check.margins(given["margins"], x.ndim, where)
    nd = len(widths)
    whole(x, [x.ndim - nd + a for a, w in enumerate(widths) if sum(w)], where, "values")
    axes = range(x.ndim - nd, x.ndim)
    x = x.rechunk({a: -1 for a in axes if x.numblocks[a] > 1 and sum(widths[a - x.ndim + nd])})
    chunks = list(x.chunks)
    for a, w in zip(axes, widths, strict=True):
        if sum(w):
            chunks[a] = (x.shape[a] - sum(w),)
    options = _others(given, "values", "margins")
    return dask().map_blocks(lambda b: f(b, widths, **options), x, chunks=tuple(chunks), dtype=floating(x),
                             meta=np.empty((0,) * x.ndim, floating(x)))  # fmt: skip


def fill_empty(f: Callable[..., Any], given: Given) -> Any:
    """Whole along the axes of the grid."""
    where, x, grid = "gf.fill_empty", array(given["a"]), given.get("grid")
    nd = x.ndim if grid is None else grid.ndim
    whole(x, range(x.ndim - nd, x.ndim), where, "a", ", as a cell may be filled from any other")
    options = _others(given, "a", "grid")
    grid = grid if grid is not None else Grid.pixels(x.shape)
    return dask().map_blocks(lambda b: f(b, grid=grid, **options), x, dtype=x.dtype, meta=np.empty((0,) * x.ndim, x.dtype))


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
    if not is_lazy(v) or not _split(v, axes):
        return each(lambda v, x: f(v, x, grid=grid, **options), (*head, *pts, *lead), v, (*lead, *cells), x, index,
                    dtype=kind, new=new, name="sample")  # fmt: skip
    if given.get("derivative") is not None:
        raise InChunks(where, "values", _split(v, axes), " for derivatives")
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
    split = _split(c, axes)
    margin = [k.width if a in split else 0 for k, a in zip(kernels, axes, strict=True)]
    parts = []
    for ends in np.ndindex(*[c.numblocks[a] for a in axes]):
        cell = [_bounds(c.chunks[a], i) for a, i in zip(axes, ends, strict=True)]
        near = [(s - m, e + m) for (s, e), m in zip(cell, margin, strict=True)]
        near = [
            (lo, hi) if b == "wrap" and a in split else (max(lo, 0), min(hi, n))
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
        if 0 <= lo and hi <= n:
            c = c[(slice(None),) * a + (slice(lo, hi),)]
        else:
            c = da.take(c, np.arange(lo, hi) % n, axis=a)
    return c.rechunk({a: -1 for a in axes})


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
            out.append(_image(f, own | {"images": x}) if is_lazy(x) else f(**own | {"images": x}))
        return dict(zip(keys, out, strict=True)) if isinstance(images, dict) else type(images)(out)
    return _image(f, given)


def _image(f: Callable[..., Any], given: Given) -> Any:
    """Over leading axes; along deformed ones in pieces, if the displacement is bounded."""
    where, x = "gf.deform", array(given["images"])
    known(x, where, "images")
    for name in ("displacement", "affine", "rotate", "zoom"):
        if is_lazy(given.get(name)):
            raise TypeError(
                f"{where}: {name} is of dask, but how far it reaches has to be known: call {name}.compute() first"
            )
    u, batch = given.get("displacement"), given.get("batch_axis")
    axis = given.get("axis")
    if axis is None:
        nd = ndim_of(u, given.get("affine"), given.get("rotate"), batch is not None, where)
        nd = x.ndim - (batch is not None) if nd is None else nd
        axes = tuple(a for a in range(x.ndim) if batch is None or a != batch % x.ndim)[-nd:]
    else:
        axes = tuple(int(a) % x.ndim for a in np.atleast_1d(axis))
    if max(axes) >= x.ndim or len(axes) > x.ndim:
        raise ValueError(f"{where}: axis {axis!r} does not fit an image of shape {x.shape}")
    full = tuple(x.shape[a] for a in axes)
    start, size = crop_of(given.get("crop"), full, where)
    split = _split(x, axes)
    if batch is not None:
        whole(x, [batch], where, "images")
    posed = [k for k in ("affine", "rotate", "zoom") if given.get(k) is not None]
    if split and (posed or batch is not None or hasattr(u, "spline")):
        why = posed[0] if posed else "batch_axis" if batch is not None else "a SplineField"
        raise InChunks(where, "images", split, f" with {why}, which may take a pixel from anywhere")
    if not split:
        index = words("a", x.ndim)
        inside = [index[a] for a in axes]
        made = tuple(f"{w}'" if w in inside else w for w in index)
        new = {f"{w}'": n for w, n in zip(inside, size, strict=True)}
        options = _others(given, "images", "axis") | {"axis": axes}
        return each(lambda b: f(b, **options), made, x, index, dtype=x.dtype, new=new, name="deform")
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
    wide = np.float64 if x.dtype.kind in "iub" and x.dtype.itemsize > 1 else np.float32 if x.dtype.kind in "iub" else x.dtype
    decay = reach_of(kernels, wide) if given.get("prefilter", True) else [0] * nd
    margin = [int(ceil(b)) + k.width + d for b, k, d in zip(bound, kernels, decay, strict=True)]
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
    edges = [start, *inner, start + size]
    return list(zip(edges[:-1], edges[1:], strict=True))


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


TABLE: dict[str, Callable[..., Any]] = {
    "smooth": smooth,
    "prefilter": prefilter,
    "pad": pad,
    "fold": fold,
    "fill_empty": fill_empty,
    "sample": sample,
    "deform": deform,
}
