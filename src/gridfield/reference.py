"""The primitives in plain array code: the oracle of the tests, and what runs where there is no kernel.

Every function takes NumPy arrays, torch tensors or JAX arrays (of any device, traced or not) and returns the same.
Shapes: values (batch, channels, *grid), points (batch, n, ndim), samples (batch, orders, n, channels).
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from .boundary import Extension, extension
from .radial import Radial
from .scheme import Axis, Filter, Margins, Scheme, Stencil, Warp, Waves, decode, period_rest

Array = Any


def _lib(x: Array) -> Any:
    """The array library: numpy, torch or jax.numpy, none of which is imported here."""
    if isinstance(x, (np.ndarray, np.generic)):
        return np
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(x, torch.Tensor) else sys.modules["jax.numpy"]


def _zeros(x: Array, shape: tuple[int, ...]) -> Array:
    """Zeros of x's library, type and device; JAX may not know all sizes."""
    lib = _lib(x)
    return x.new_zeros(shape) if lib is sys.modules.get("torch") else lib.zeros(shape, x.dtype)


def _like(x: Array, table: np.ndarray) -> Array:
    """A NumPy table as an array of x's library and device; floats in x's dtype."""
    lib = _lib(x)
    if lib is sys.modules.get("torch"):
        t = lib.as_tensor(table, device=x.device)
        return t.to(x.dtype) if table.dtype.kind == "f" else t
    if lib is not np and table.dtype == np.int64:
        table = table.astype(np.int32)  # JAX has no others unless asked; indices into one grid
    return lib.asarray(table, x.dtype if table.dtype.kind == "f" else None)


def fold(u: Array, axis: Axis) -> tuple[Array, Array, Array]:
    """Coordinate in samples -> (the one it folds to, the sign of its slope there, whether it is on the spline)."""
    xp, n, lo, hi = _lib(u), axis.n, axis.lowest, axis.highest
    on = u == u
    if axis.fold in ("hold", "inside"):
        y = xp.where(u < lo, lo + 0 * u, xp.where(u > hi, hi + 0 * u, u))
        y = xp.where(xp.isinf(u), xp.where(u > 0, hi, lo), y)
        if axis.fold == "inside":
            slack = axis.slack(float(np.finfo(str(u.dtype).removeprefix("torch.")).eps))
            on = (u >= lo - slack) & (u <= hi + slack)
        return y, xp.where((u >= lo) & (u <= hi), 1.0, 0.0), on | (u != u)
    period = {"mirror": max(2.0 * (n - 1), 1.0), "reflect": 2.0 * n, "wrap": float(n)}[axis.fold]
    start = lo if axis.fold == "reflect" else 0.0
    z = u - start
    z = z - period * xp.floor(z / period)
    if axis.fold == "wrap":
        return z, xp.ones_like(u), on | True
    back = z > period / 2
    return xp.where(back, period - z, z) + start, xp.where(back, -1.0, 1.0), on | True


def locate(x: Array, axis: Axis, origin: float, spacing: float) -> tuple[Array, Array, Array, Array, Array]:
    """Coordinates along one axis -> (cell, fraction in it, sign of the folded slope, whether on the spline, a number).

    The stencil of cell m is samples axis.first + m ... axis.first + m + width - 1, on the grid or beyond.
    """
    xp = _lib(x)
    y, sign, on = fold((x - origin) / spacing, axis)
    number = y == y
    u = xp.where(number, y, axis.lowest) + axis.kernel.shift - axis.cell
    u = xp.where(u < 0, 0.0, xp.where(u > axis.cells, float(axis.cells), u))  # of 1e30 folding leaves only rounding
    cell = xp.floor(u)
    cell = xp.where(cell > axis.cells - 1, float(axis.cells - 1), cell)
    t = u - cell
    cell = cell.astype(np.int64 if xp is np else np.int32) if hasattr(cell, "astype") else cell.long()
    return cell, t, sign, on, number


def continued(axis: Axis) -> Extension:
    """What the samples that stencils touch, on the grid and beyond, are made of."""
    return extension(axis.boundary, axis.n, np.arange(axis.first, axis.first + axis.extent))


def taps(x: Array, axis: Axis, orders: set[int], origin: float, spacing: float) -> tuple[list[Any], Array, Array]:
    """Per tap of one axis: (index, {order: weight}); then whether each point is on the spline, and is a number."""
    cell, t, sign, on, number = locate(x, axis, origin, spacing)
    ext = continued(axis)
    index, weight = _like(t, ext.index), _like(t, ext.weight)
    found = []
    for j in range(axis.kernel.width):
        w = {}
        for o in orders:
            row = axis.kernel.table(o)[j]
            w[o] = sum((c * t**p for p, c in enumerate(row)), 0 * t) * (sign / spacing) ** o
        for term in range(index.shape[1]):
            found.append((index[cell + j, term], {o: w[o] * weight[cell + j, term] for o in orders}))
    return found, on, number


def _stencil(points: Array, scheme: Scheme) -> tuple[Iterator[tuple[Array, list[Array]]], Array, Array]:
    """Iterate over (flat index, weight per order) of every tap; whether points are on the spline; are numbers."""
    axes = [
        taps(points[..., a], axis, {o[a] for o in scheme.orders}, scheme.grid.origin[a], scheme.grid.spacing[a])
        for a, axis in enumerate(scheme.axes)
    ]

    def combine() -> Iterator[tuple[Array, list[Array]]]:
        for combo in itertools.product(*(of_axis for of_axis, _, _ in axes)):
            flat = 0
            for (index, _), n in zip(combo, scheme.grid.shape, strict=True):
                flat = flat * n + index
            yield flat, [math.prod(w[o[a]] for a, (_, w) in enumerate(combo)) for o in scheme.orders]

    on, number = axes[0][1], axes[0][2]
    for _, axis_on, axis_number in axes[1:]:
        on, number = on & axis_on, number & axis_number
    return combine(), on, number


def sample(values: Array, points: Array, scheme: Scheme | Waves) -> Array:
    """out[b, k, n, c] = d^orders[k] of the spline with coefficients values[b, c], at points[b, n]."""
    if isinstance(scheme, Waves):
        return wave_sums(values, points, scheme)
    xp = _lib(values)
    batch, channels = values.shape[:2]
    beyond = scheme.cval if "grid-constant" in scheme.boundaries else 0.0
    flat_values = values.reshape(batch, channels, -1) - beyond  # beyond grid-constant ends: 0 = cval - cval
    item = _like(points, np.arange(batch))[:, None]
    stencil, on, number = _stencil(points, scheme)
    out: list[Any] = [0.0] * len(scheme.orders)
    for flat, weights in stencil:
        rows = flat_values[item, :, flat]
        out = [o + w[..., None] * rows for o, w in zip(out, weights, strict=True)]
    for k, order in enumerate(scheme.orders):
        inside = out[k] + beyond * _of_ones(points, scheme, order) if beyond else out[k]
        out[k] = xp.where(on[..., None], inside, 0.0 if any(order) else scheme.cval)
        out[k] = xp.where(number[..., None], out[k], math.nan)
    return xp.stack(out, 1)


def _of_ones(points: Array, scheme: Scheme, order: tuple[int, ...]) -> Array:
    """What the field of ones, continued by ones, gives at the points: the weights' own sum."""
    total: Any = 1.0
    for a, axis in enumerate(scheme.axes):
        plain = axis._replace(boundary="nearest" if axis.boundary == "grid-constant" else axis.boundary)
        found, _, _ = taps(points[..., a], plain, {order[a]}, scheme.grid.origin[a], scheme.grid.spacing[a])
        total = total * sum(w[order[a]] for _, w in found)
    return total[..., None]


def _waves(points: Array, w: Waves) -> tuple[Array, Array, list[Array]]:
    """cos and sin (batch, n, modes) of the phase at each point of each mode; per order prod_i (s w_i k_i)**alpha_i."""
    xp = _lib(points)
    for_all = _like(points, np.array([[p, period_rest(p)] for p in w.periods]))
    turns = xp.floor(points / for_all[:, 0])
    points = (points - turns * for_all[:, 0]) - turns * for_all[:, 1]
    k = [2 * math.pi * w.sign / p * m for p, m in zip(w.periods, np.meshgrid(*w.modes, indexing="ij"), strict=True)]
    phase = xp.einsum("bni,im->bnm", points, _like(points, np.stack([x.reshape(-1) for x in k])))
    ramps = [math.prod(x.reshape(-1) ** a for x, a in zip(k, order, strict=True)) for order in w.orders]
    return xp.cos(phase), xp.sin(phase), [_like(points, np.asarray(r, np.float64)) for r in ramps]


def _turned(z: Array, quarters: int) -> Array:
    """i**quarters times complex numbers given as (..., 2)."""
    xp, (re, im) = _lib(z), (z[..., 0], z[..., 1])
    return xp.stack([(re, im), (-im, re), (-re, -im), (im, -re)][quarters % 4], -1)


def wave_sums(values: Array, points: Array, w: Waves) -> Array:
    """out[b, k, n, (c, part)] = sum over the modes of values[b, c, mode], ramps and waves."""
    xp, (batch, channels) = _lib(values), values.shape[:2]
    cos, sin, ramps = _waves(points, w)
    z = values.reshape(batch, channels, -1, 2)
    out = []
    for order, ramp in zip(w.orders, ramps, strict=True):
        v = _turned(z * ramp[:, None], sum(order))
        re, im = (
            xp.einsum("bnm,bcm->bnc", cos, v[..., part]) + sign * xp.einsum("bnm,bcm->bnc", sin, v[..., 1 - part])
            for part, sign in ((0, -1), (1, 1))
        )
        out.append(xp.stack([re, im], -1).reshape(batch, -1, 2 * channels))
    return xp.stack(out, 1)


def wave_sums_back(values: Array, points: Array, w: Waves) -> Array:
    """The transpose of wave_sums."""
    xp, (batch, _, n, numbers) = _lib(values), values.shape
    cos, sin, ramps = _waves(points, w)
    total: Any = 0.0
    for k, (order, ramp) in enumerate(zip(w.orders, ramps, strict=True)):
        y = values[:, k].reshape(batch, n, numbers // 2, 2)
        parts = [
            xp.einsum("bnm,bnc->bcm", cos, y[..., part]) + sign * xp.einsum("bnm,bnc->bcm", sin, y[..., 1 - part])
            for part, sign in ((0, 1), (1, -1))
        ]
        total = total + _turned(xp.stack(parts, -1), -sum(order)) * ramp[:, None]
    return total.reshape(batch, numbers // 2, *w.extent)


def dot(values: Array, weights: Array, points: Array, scheme: Scheme | Waves) -> Array:
    """out[b, n, i] = sum over k, c of weights[b, k, n, c] times the derivative along axis i of sample[b, k, n, c]."""
    slopes = sample(values, points, decode(scheme.up))
    batch, _, n, channels = slopes.shape
    slopes = slopes.reshape(batch, len(scheme.orders), scheme.ndim, n, channels)
    return _lib(values).einsum("bknc,bkinc->bni", weights, slopes)


def splat(values: Array, points: Array, scheme: Scheme | Waves) -> Array:
    """The transpose of sample: (batch, orders, n, channels) -> (batch, channels, *grid)."""
    if isinstance(scheme, Waves):
        return wave_sums_back(values, points, scheme)
    xp = _lib(values)
    batch, _, _, channels = values.shape
    size = math.prod(scheme.grid.shape)
    stencil, on, number = _stencil(points, scheme)
    used = (on & number)[..., None]
    item = _like(points, np.arange(batch))[:, None] * size
    grid = _like(values, np.zeros((batch * size, channels)))
    for flat, weights in stencil:
        part = sum(w[..., None] * values[:, k] for k, w in enumerate(weights))
        part = xp.where(used, part, 0.0).reshape(-1, channels)
        where = (item + flat).reshape(-1)
        if xp is np:
            np.add.at(grid, where, part)
        else:
            grid = grid.at[where].add(part) if hasattr(grid, "at") else grid.index_add_(0, where, part)
    return _moved(grid.reshape(batch, size, channels), -1, 1).reshape(batch, channels, *scheme.grid.shape)


def _along(values: Array, matrix: np.ndarray, axis: int) -> Array:
    """matrix @ values along one axis."""
    return _moved(_lib(values).tensordot(_like(values, matrix), values, ([1], [axis])), 0, axis)


def _moved(x: Array, source: int, target: int) -> Array:
    xp = _lib(x)
    return (xp.moveaxis if hasattr(xp, "moveaxis") else xp.movedim)(x, source, target)


def extension_matrix(ext: Extension, n: int) -> np.ndarray:
    """(samples, n): what they are made of, as a matrix."""
    matrix = np.zeros((len(ext.rest), n))
    np.add.at(matrix, (np.arange(len(matrix))[:, None], ext.index), ext.weight)
    return matrix


def pad(values: Array, margins: Margins) -> Array:
    """Continue the axes after the first by (before, after) samples each."""
    for axis, ((before, after), boundary) in enumerate(zip(margins.widths, margins.boundaries, strict=True), start=1):
        n = values.shape[axis]
        ext = extension(boundary, n, np.arange(-before, n + after))
        rest = _like(values, ext.rest * margins.cval).reshape(-1, *[1] * (values.ndim - 1 - axis))
        values = _along(values, extension_matrix(ext, n), axis) + rest
    return values


def fold_back(values: Array, margins: Margins) -> Array:
    """The transpose of pad (with cval = 0)."""
    for axis, ((before, after), boundary) in enumerate(zip(margins.widths, margins.boundaries, strict=True), start=1):
        n = values.shape[axis] - before - after
        ext = extension(boundary, n, np.arange(-before, n + after))
        values = _along(values, extension_matrix(ext, n).T, axis)
    return values


def prefilter(values: Array, static: Filter) -> Array:
    """Coefficients whose spline passes through the values, along the axes after the first: dense solves."""
    for axis, (kernel, boundary) in enumerate(zip(static.kernels, static.boundaries, strict=True), start=1):
        n, m = values.shape[axis], kernel.width // 2
        matrix = np.zeros((n, n))
        for k, tap in zip(range(-m, m + 1), kernel.samples, strict=True):
            matrix += tap * extension_matrix(extension(boundary, n, np.arange(n) + k), n)
        if not kernel.interpolating:
            inverse = np.linalg.inv(matrix)
            values = _along(values, inverse.T if static.transposed else inverse, axis)
    return values


def correlate(values: Array, static: Stencil) -> Array:
    """y[i] = sum_k w[k] v[i + k - before] along the axes after the first, v being zero beyond its ends."""
    xp, axes = _lib(values), range(1, values.ndim)
    sizes = [n + e for n, e in zip(values.shape[1:], static.extras, strict=True)]
    for axis, size, width, before in zip(axes, sizes, static.shape, static.befores, strict=True):
        rows = before, size + width - 1 - before - values.shape[axis]
        zeros = [_zeros(values, (*values.shape[:axis], n, *values.shape[axis + 1 :])) for n in rows]
        values = xp.concatenate([zeros[0], values, zeros[1]], axis)
    out = _zeros(values, (values.shape[0], *sizes))
    for k in zip(*np.nonzero(static.table), strict=True):
        part = values[(slice(None), *(slice(int(i), int(i) + n) for i, n in zip(k, sizes, strict=True)))]
        out = out + float(static.table[k]) * part
    return out


def warp(values: Array, field: Array, pose: Array, static: Warp) -> Array:
    """(batch, 1, n, channels): values (batch, channels, *grid) sampled at displaced pixels."""
    xp, batch, axes = _lib(values), len(values), range(1, static.ndim + 1)
    shape = values.shape[:2]
    c = values.reshape(-1, *values.shape[2:])
    if static.pad:
        c = pad(c, decode(static.pad))
    if static.filter:
        c = prefilter(c, decode(static.filter))
    u = field.reshape(-1, *field.shape[2:])
    if static.points is not None:
        for a, matrix in zip(axes, static.matrices, strict=True):
            u = _along(u, matrix, a)
    u = _moved(u.reshape(batch, static.ndim, -1), 1, 2)
    pixels = np.stack([a.reshape(-1) for a in np.indices(static.shape)]).astype(np.float64)
    centred = np.concatenate([pixels - (np.array(static.shape)[:, None] - 1) / 2, np.ones_like(pixels[:1])])
    pixels = (pixels + np.array(static.start)[:, None]).T
    x = _like(values, pixels) + u + xp.einsum("bij,jn->bni", pose, _like(values, centred))
    return sample(c.reshape(*shape, *c.shape[1:]), x, decode(static.sample))


def square_distances(x: Array, y: Array, static: Radial) -> Array:
    """(batch, m, n): sum over k of (x_mk - y_nk)^2, of points (batch, m, d) and (batch, n, d)."""
    return bilinear(x, x, y, y, static)


def bilinear(x: Array, b: Array, y: Array, c: Array, static: Radial) -> Array:
    """(batch, m, n): sum over k of (x_mk - y_nk) (b_mk - c_nk); one coordinate at a time, as memory is m n."""
    total = _zeros(x, (x.shape[0], x.shape[1], y.shape[1]))
    for k in range(x.shape[-1]):
        total = total + (x[:, :, None, k] - y[:, None, :, k]) * (b[:, :, None, k] - c[:, None, :, k])
    return total


def least(x: Array, y: Array, static: Radial) -> Array:
    """(batch, m): the least square of a row."""
    q, xp = square_distances(x, y, static), _lib(x)
    return xp.amin(q, 2)


def interact(x: Array, y: Array, v: Array, static: Radial) -> Array:
    """(batch, m, c): sum over n of f(|x_m - y_n|^2) v_nc."""
    return _lib(x).matmul(radial(square_distances(x, y, static), static.form), v)


def interact_shifted(x: Array, y: Array, v: Array, offsets: Array, static: Radial) -> Array:
    """The same, offsets (batch, m), or (batch, n) if they are of the columns, taken from the exponent of f."""
    o = offsets[:, :, None] if static.side == "rows" else offsets[:, None, :]
    return _lib(x).matmul(radial(square_distances(x, y, static), static.form, o), v)


def radial(q: Array, form: tuple[Any, ...], offset: Any = 0.0) -> Array:
    """A function of squared distances (radial.py)."""
    xp, (kind, *rest) = _lib(q), form
    if kind == "gauss":
        rate, c = rest
        return c * xp.exp(rate * q - offset)
    zero, safe = q == 0, xp.where(q == 0, 1.0, q)
    if kind == "power":
        o, h, c = rest
        if c == 0:
            return 0 * q
        if o or h > 0:
            return c * (q + o) ** (h / 2)
        y = c * safe ** (h / 2)
        return xp.where(zero, 0.0, y) if h < 0 else y
    rate, terms = rest
    r = xp.sqrt(safe if any(k < 0 for k, _ in terms) else q)
    y = 0 * q
    for k, c in terms:
        y = y + c * (r**k if k else 1.0)
    y = y * xp.exp(-rate * r - offset)
    return xp.where(zero, 0.0, y) if any(k < 0 for k, _ in terms) else y
