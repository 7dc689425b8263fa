"""What looks around itself: blocks that overlap as far as the kernel reaches.

A recursive prefilter reaches without end, but what it takes from afar dies away as pole**distance: the overlap is where
that is below the rounding of the type. Where a block ends at an end of the grid the boundary does as ever; where it
ends inside, whatever the boundary makes there is in the overlap, which is cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, log
from typing import Any

import numpy as np

from .. import check
from ..boundary import ENLARGE, ENLARGED, as_boundaries, extension
from ..grid import Grid
from ..kernel import as_kernels
from ..sampling import _hashable
from ..smoothing import _boundaries
from ..smoothing_kernel import weights
from .blocks import array, dask, floating, known, whole
from .sums import _others

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


def split(x: Any, axes: Sequence[int]) -> list[int]:
    """Those of the axes that are in several chunks."""
    return [a for a in axes if x.numblocks[a] > 1]


def _stencil(
    make: Callable[[tuple[bool, ...]], Callable[[Any], Any]],
    x: Any,
    nd: int,
    reach: Sequence[int],
    wraps: Any,
    kind: Any,
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
    return dask().map_blocks(
        lambda b: f(b, grid=grid, **options), x, dtype=x.dtype, meta=np.empty((0,) * x.ndim, x.dtype)
    )


TABLE: dict[str, Callable[..., Any]] = {
    "smooth": smooth,
    "prefilter": prefilter,
    "pad": pad,
    "fold": fold,
    "fill_empty": fill_empty,
}
