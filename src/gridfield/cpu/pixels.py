"""Pixels of a displaced row located: cells and fractions, the weights of their stencils, gathered where they are.

Pixel and displacement stay apart: the displacement's floor is added to the pixel as an integer, and what folds at the
ends are integers. Where nothing folds, pixels are located without what folding takes: two thirds of the instructions, a
fifth of the time of a 2-D image.
"""

from __future__ import annotations

from collections.abc import Callable
from math import floor
from typing import Any

from .displaced import ROW
from .machine import WHOLE, staged
from .taps import BLOCK, gather_code, horner, note

# per axis: added to a pixel, lowest and highest cell, cell of the turning point, period, last cell, cut, room, and
# between which cells nothing folds and all samples are there
INTS = 10
FAR = 2.0**29  # no displacement is larger: what folds by a period has lost all digits long before


def turning(fold: str, width: int) -> tuple[float, float]:
    """Where a period starts, in cells, and the fraction of its turning point: half a period later, a whole number."""
    start = (-0.5 if fold == "reflect" else 0.0) + 0.5 * (width % 2)
    return start, start - floor(start)


def weigh(m: Any, spec: Any, a: int, t: Any, w: Any, q: Any) -> None:
    """The weights of an axis at its fraction."""
    for (axis, o, j), s in spec.slots.items():
        if axis == a:
            m.store(w, q + s * BLOCK, horner(spec.table(a, o)[j], t))


@staged
def plain_row(m: Any, spec: Any, d: Any, first: Any, pix: Any, ints: Any, count: Any, base: Any) -> None:
    """base[(2 + ndim) * BLOCK] = how many of these pixels come before one that is so far out, or NaN, that something
    may fold there."""
    nd = spec.ndim
    pixels = [m.load(pix, a) + m.load(ints, a * INTS) for a in range(nd)]
    pixels[-1] = pixels[-1] + m.narrow(first, base)
    low, high = ([m.load(ints, a * INTS + k) - pixels[a] for a in range(nd)] for k in (8, 9))
    all_of_them = m.narrow(count, base)

    def body(q: Any, carry: list[Any]) -> list[Any]:
        plain, i = None, m.narrow(q, base)
        for a in range(nd):
            x = m.load(d, first + q + a * ROW)
            at = x + m.to_float(i, x) if a == nd - 1 else x
            inside = (at > m.to_float(low[a], x)) & (at < m.to_float(high[a], x))
            plain = inside if plain is None else plain & inside
        here = m.select(plain, all_of_them, i)
        return [m.select(here < carry[0], here, carry[0])]

    (before,) = m.loop(0, count, body, [all_of_them])
    m.store(base, (2 + nd) * BLOCK, before)


def plain(m: Any, spec: Any, grid: Any, pix: Any, ints: Any, base: Any) -> Callable[..., Any]:
    """How pixels of a row are located where nothing folds: (displacements, number in the row) -> (offset, fractions).
    The same numbers as of locate_row with a third of the instructions; of one pixel, or of a vector of them."""
    nd = spec.ndim
    shifts = [0.5 * (n % 2) for n in spec.widths]
    # the last axis is dense
    strides = [m.narrow(m.stride(grid, a + 1), base) for a in range(nd - 1)] + [spec.channels]
    start = None
    for a in range(nd):
        cell = m.load(pix, a) + m.load(ints, a * INTS) - m.load(ints, a * INTS + 6) - int(shifts[a] - spec.offsets[a])
        start = cell * strides[a] if start is None else start + cell * strides[a]

    def located(ds: list[Any], number: Any) -> tuple[Any, list[Any]]:
        offset, ts = start + number * spec.channels, []
        for a in range(nd):
            e = ds[a] + shifts[a] if shifts[a] else ds[a]
            k = m.floor(e)
            ts.append(e - k)
            offset = m.truncate(k, base) * strides[a] + offset
        return offset, ts

    return located


@staged
def locate_plain(
    m: Any, spec: Any, grid: Any, d: Any, first: Any, pix: Any, ints: Any, count: Any, base: Any, w: Any
) -> None:
    """locate_row where nothing folds."""
    nd, located = spec.ndim, plain(m, spec, grid, pix, ints, base)

    def body(q: Any, _: Any) -> None:
        offset, ts = located([m.load(d, first + q + a * ROW) for a in range(nd)], m.narrow(first + q, base))
        for a, t in enumerate(ts):
            weigh(m, spec, a, t, w, q)
        m.store(w, q + len(spec.slots) * BLOCK, ts[-1])
        m.store(base, q, offset)

    m.loop(0, count, body)


def narrow_sum(m: Any, spec: Any, grid: Any, start: Any, places: Any, weights: Any) -> Any:
    """The sum over the taps of all axes from element `start` + `places` on, for one pixel or a vector of them: the same
    bits, since what is fused into one operation is not left to the compiler."""

    def contract(a: int, start: Any) -> Any:
        if a < spec.ndim - 1:
            parts = [contract(a + 1, start + m.stride(grid, a + 1) * j) for j in range(spec.widths[a])]
        else:
            parts = m.pick(grid, start, places, spec.widths[a])
        total = parts[0] * weights[a][0]
        for x, weight in zip(parts[1:], weights[a][1:]):
            total = m.fused(x, weight, total)
        return total

    return contract(0, start)


@staged
def gather_located(m: Any, spec: Any, grid: Any, g: Any, base: Any, w: Any, q: Any, out: Any, b: Any, i: Any) -> None:
    """taps.gather, or the same bits as of gather_plain."""
    if not spec.across:
        gather_code(m, spec, grid, g, base, q, w, q, out, out, b, i)
        return
    nd, t = spec.ndim, m.load(w, q + len(spec.slots) * BLOCK)
    weights = [[m.load(w, q + spec.slots[a, 0, j] * BLOCK) for j in range(spec.widths[a])] for a in range(nd - 1)]
    weights.append([horner(taps, t) for taps in spec.table(nd - 1, 0)])
    total = narrow_sum(m, spec, grid, g * m.stride(grid, 0), m.load(base, q), weights)
    m.store(out, b * m.stride(out, 0) + i * m.stride(out, 2), total)


@staged
def gather_plain(
    m: Any, spec: Any, grid: Any, g: Any, d: Any, first: Any, pix: Any, ints: Any, count: Any, base: Any,
    out: Any, b: Any, i: Any,
) -> None:  # fmt: skip
    """locate_plain and gather in one, a vector of pixels at a time, to a result whose pixels lie densely.

    16 images of 256**2 with two taps: 3.0 ms instead of 5.1 (two threads; 1.7 and 1.9 of grid_sample in those runs).
    """
    nd, lanes, located = spec.ndim, WHOLE // m.itemsize(d), plain(m, spec, grid, pix, ints, base)
    numbers = m.const(base, list(range(lanes)))

    def value(q: Any, lanes: int) -> Any:
        number = m.narrow(first + q, base)
        places, ts = located(
            [m.load(d, first + q + a * ROW, lanes) for a in range(nd)], numbers + number if lanes else number
        )
        weights = [[horner(taps, t) for taps in spec.table(a, 0)] for a, t in enumerate(ts)]
        return narrow_sum(m, spec, grid, g * m.stride(grid, 0), places, weights)

    whole, place = m.quotient(count, lanes), b * m.stride(out, 0) + i
    m.loop(0, whole, lambda p, _: m.store(out, place + p * lanes, value(p * lanes, lanes)))
    m.loop(whole * lanes, count, lambda q, _: m.store(out, place + q, value(q, 0)))


@staged
def locate_row(
    m: Any, spec: Any, grid: Any, d: Any, first: Any, pix: Any, ints: Any, frame: Any, count: Any, base: Any, w: Any
) -> None:
    """As taps.locate for pixels pix + (0 ... 0, first + q) displaced by d[axis * ROW + first + q]."""
    nd, rows = spec.ndim, len(spec.slots)
    strides = [m.narrow(m.stride(grid, a + 1), base) for a in range(nd)]
    known = [[m.load(ints, a * INTS + k) for k in range(INTS)] for a in range(nd)]
    pixels = [m.load(pix, a) + known[a][0] for a in range(nd)]
    slacks = [m.load(frame, a * 7 + 4) for a in range(nd)]  # of "inside": the rounding that is let pass
    inverses = [m.load(frame, a * 7 + 5) for a in range(nd)]
    pixels[-1] = pixels[-1] + m.narrow(first, base)

    def body(q: Any, carry: list[Any]) -> list[Any]:
        ds = [m.load(d, first + q + a * ROW) for a in range(nd)]
        offset, nan, off, t = None, None, None, None
        for a in range(nd):
            how, shift = spec.folds[a], 0.5 * (spec.widths[a] % 2)
            _, low_cell, high_cell, turn_cell, period, last_cell, cut, room, _, _ = known[a]
            # what is infinitely far is nowhere within a period
            is_nan = m.not_number(ds[a] if how in ("hold", "inside") else ds[a] * 0.0)
            e = m.select(ds[a] > -FAR, ds[a], ds[a] * 0.0)
            e = m.select(ds[a] > -FAR, e, slacks[a] * 0.0 - FAR)
            e = m.select(e < FAR, e, slacks[a] * 0.0 + FAR)
            e = e + shift if shift else e
            k = m.floor(e)
            t = e - k
            cell = m.truncate(k, base) + pixels[a]
            if a == nd - 1:
                cell = cell + m.narrow(q, base)
            if how in ("hold", "inside"):
                low = m.to_float(cell - low_cell, t) + (t - shift)
                high = m.to_float(cell - high_cell, t) + (t - shift)
                if how == "inside":
                    beyond = (low < slacks[a] * -1.0) | (high > slacks[a])
                    off = beyond if off is None else off | beyond
                cell = m.select(low < 0.0, low_cell, m.select(high > 0.0, high_cell, cell))
                t = m.select((low < 0.0) | (high > 0.0), t * 0.0 + shift, t)
            else:
                start, fraction = turning(how, spec.widths[a])
                turns = m.floor((m.to_float(cell, t) + (t - start)) * inverses[a])
                cell = cell - m.truncate(turns, base) * period
                if how != "wrap":
                    back = m.to_float(cell - turn_cell, t) + (t - fraction) > 0.0
                    # the sum of a place and its mirror image is twice the turning point
                    cell = m.select(back, turn_cell * 2 + (int(2 * fraction) - 1) - cell, cell)
                    t = m.select(back, t * -1.0 + 1.0, t)
            rel = cell - int(shift - spec.offsets[a])
            inner = m.select(rel < 0, rel * 0, m.select(rel > last_cell, last_cell, rel))
            t = t + m.to_float(rel - inner, t)
            t = m.select(t > 0.0, t, t * 0.0)
            t = m.select(t < 1.0, t, t * 0.0 + 1.0)
            weigh(m, spec, a, t, w, q)
            place = inner - cut
            place = m.select(place < 0, place * 0, m.select(place > room, room, place))
            step = place * strides[a]
            offset = step if offset is None else offset + step
            nan = is_nan if nan is None else nan | is_nan
        m.store(w, q + rows * BLOCK, t)
        return [carry[0] | note(m, base, q, offset, nan, off, None)]

    zero = m.narrow(count * 0, base)
    (special,) = m.loop(0, count, body, [zero])
    m.store(base, (2 + nd) * BLOCK, special)
