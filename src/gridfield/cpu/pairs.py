"""Functions of the distances of all pairs of two sets of points, in tiles that stay in the caches.

A block is ROWS points of the first set with a panel of the second, VECTORS vectors of it: each number that is read is
used for several pairs. The squares come out of one of three forms:

    square      sum_k (x_k - y_k)^2                     as exact as the coordinates
    bilinear    sum_k (x_k - y_k) (b_k - c_k)           b and c other coordinates of the same points
    product     |x|^2 + |y|^2 - 2 sum_k x_k y_k         half of the arithmetic; what cancels is computed as `square`

and what is done with them is said by a sink: written, as a function of them ("store"), the least of a row kept
("nearest"), or a sum over the row ("sum"). The second set is packed panel by panel, its last point repeated to fill the
last panel: a repeated point is never nearer than the first, and weighs nothing in a sum.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from .cache import SOURCES
from .machine import WHOLE, specialising, staged

Array = np.ndarray[Any, Any]

ROWS, VECTORS = 4, 4  # 16 sums at once hide the latency of multiply-adds, and fit the 32 registers
UNROLLED = 8  # coordinates
CANCELS = 0.25  # a square below this part of |x|^2 + |y|^2 has lost bits: it is computed from the differences
LN2 = {4: (0.693359375, -2.12194440e-4), 8: (6.93147180369123816490e-01, 1.90821492927058770002e-10)}  # two words
SMALL = {4: 1e-28, 8: 1e-290}  # squares below have residuals that are not normal numbers
LIMIT = {4: 87.0, 8: 708.0}  # beyond, exp is not a normal number
FACTORIALS = {4: 7, 8: 13}  # terms of its series within ln(2)/2: 5e-9 and 4e-18 are left


@specialising(SOURCES)
@dataclass(frozen=True)
class Pairs:
    """What a kernel is specialised to; d = 0: coordinates in a loop."""

    lanes: int
    d: int
    form: str
    radial: tuple[Any, ...]
    sink: str
    side: str = ""  # whether each row, or each column, has an offset of the exponent
    channels: int = 1
    streamed: bool = False

    @property
    def panel(self) -> int:
        """Points of a panel."""
        return self.lanes * VECTORS


# ---- functions of q
def exponential(m: Any, a: Any, x: Any) -> Any:
    """exp(x): 2^n exp(r), r by two words of ln 2, its series by Horner; 0 or infinity beyond the normal numbers."""
    size = m.itemsize(a)
    high, low = LN2[size]
    held = m.select(x > -LIMIT[size], x, -LIMIT[size])
    held = m.select(held < LIMIT[size], held, LIMIT[size])
    n = m.floor(held * 1.4426950408889634 + 0.5)
    r = m.fused(n, held * 0 - low, m.fused(n, held * 0 - high, held))
    factor, series = 1.0, None
    terms = [1.0]
    for k in range(1, FACTORIALS[size] + 1):
        factor /= k
        terms.append(factor)
    series = held * 0 + terms[-1]
    for c in terms[-2::-1]:
        series = m.fused(series, r, held * 0 + c)
    y = series * m.power_of_two(n)
    y = m.select(x < -LIMIT[size], y * 0, y)
    y = m.select(x > LIMIT[size], y * float("inf"), y)
    return m.select(m.not_number(x), x, y)


def whole_power(base: Any, n: int) -> Any:
    """base^n, n > 0, by squaring."""
    half = whole_power(base, n // 2) if n > 1 else None
    if half is None:
        return base
    return half * half * base if n % 2 else half * half


def root(m: Any, a: Any, q: Any) -> Any:
    """The square root: an estimate, one step of Goldschmidt's in float64, and the residual. Exact where it is a number
    of the type; else one of 130 is the neighbour of the machine's, which takes 22 cycles for a vector of eight (32 ms
    of 5000 x 5000 in the plane instead of 22, 56 instead of 32 with 16 coordinates)."""
    r = m.root_estimate(q)
    if r is None:
        return m.sqrt(q)
    g, h = q * r, r * 0.5
    if m.itemsize(a) == 8:
        e = m.fused(g * -1.0, h, 0.5)
        g, h = m.fused(g, e, g), m.fused(h, e, h)
    y = m.fused(m.fused(g * -1.0, g, q), h, g)
    sound = (q > SMALL[m.itemsize(a)]) & (q < float("inf"))
    count = m.number_of(sound)
    rest = m.select(count < WHOLE // m.itemsize(a), count * 0 + 1, count * 0)
    return m.loop(0, rest, lambda _, __: [m.sqrt(q)], [y])[0]


def radial(m: Any, spec: Any, a: Any, q: Any, offset: Any) -> Any:
    """The function of q that the numbers of spec.radial say (radial.py)."""
    kind, *rest = spec.radial
    if kind == "gauss":
        rate, c = rest
        e = exponential(m, a, q * rate - offset if spec.side else q * rate)
        return e if c == 1 else e * c
    if kind == "power":
        o, h, c = rest
        if c == 0:
            return q * 0
        base = q + o if o else q
        y = root(m, a, base) if h % 2 else None
        if abs(h) > 1:
            p = whole_power(base, abs(h) // 2)
            y = p if y is None else y * p
        if y is None:
            y = q * 0 + 1.0
        if h < 0:
            y = m.const(a, [c] * spec.lanes) / y
            return y if o else m.select(q > 0, y, q * 0)
        return y if c == 1 else y * c
    rate, terms = rest
    r = root(m, a, q)
    e = exponential(m, a, r * -rate - offset if spec.side else r * -rate)
    lowest = min((k for k, _ in terms), default=0)
    total = None
    for k, c in terms:
        term = whole_power(r, k - lowest) * c if k > lowest else m.const(a, [c] * spec.lanes)
        total = term if total is None else total + term
    if total is None:
        return q * 0
    if lowest > 0:
        total = total * whole_power(r, lowest)
    if lowest < 0:
        total = total / whole_power(r, -lowest)
        return m.select(q > 0, total * e, q * 0)
    # where e is 0 a power of r may be infinite
    return m.select(e > 0, total * e, e) if max(k for k, _ in terms) > 0 else total * e


def offset(m: Any, spec: Any, offsets: Any, row: Any, p: Any, v: int) -> Any:
    """What is taken from the exponent in a row, or in the columns of a vector of a panel."""
    if spec.side == "rows":
        return m.load(offsets, row)
    return m.load(offsets, p * spec.panel + v * spec.lanes, spec.lanes) if spec.side else None


# ---- squares
def squares(m: Any, spec: Any, of: Any, i: Any, rows: int, p: Any) -> list[list[Any]]:
    """[row][vector] of q for points i ... i + rows of the first set and a panel of the second."""
    xs, bs, nx, ys, cs, ny, d = of
    lanes, panel = spec.lanes, spec.panel
    zero = m.const(ys, [0.0] * lanes)
    rs, vs = range(rows), range(VECTORS)

    def columns(a: Any, k: Any) -> list[Any]:
        return [m.load(a, (p * d + k) * panel + v * lanes, lanes) for v in vs]

    def direct(k: Any, sums: list[Any]) -> list[Any]:
        y = columns(ys, k)
        c = columns(cs, k) if spec.form == "bilinear" else None
        out = []
        for r in rs:
            x = m.load(xs, (i + r) * d + k)
            b = m.load(bs, (i + r) * d + k) if c else None
            for v in vs:
                u = y[v] - x
                out.append(m.fused(u, c[v] - b if c else u, sums[r * VECTORS + v]))
        return out

    def product(k: Any, sums: list[Any]) -> list[Any]:
        y = columns(ys, k)
        xr = [m.load(xs, (i + r) * d + k) for r in rs]
        return [m.fused(y[v], xr[r], sums[r * VECTORS + v]) for r in rs for v in vs]

    def summed(term: Any) -> list[Any]:
        sums = [zero] * (rows * VECTORS)
        if not spec.d:
            return m.loop(0, d, term, sums)
        for k in range(spec.d):
            sums = term(k, sums)
        return sums

    if spec.form != "product":
        q = summed(direct)
    else:
        n = [m.load(ny, p * panel + v * lanes, lanes) for v in vs]
        both = [n[v] + m.load(nx, i + r) for r in rs for v in vs]
        q = [b - s * 2 for b, s in zip(both, summed(product))]
        sound = [x >= b * CANCELS for x, b in zip(q, both)]  # not what is NaN, as infinity less infinity is
        count = m.number_of(functools.reduce(lambda a, b: a & b, sound))

        def again(_: Any, q: list[Any]) -> list[Any]:
            return [m.select(x, z, y) for x, y, z in zip(sound, summed(direct), q)]

        q = m.loop(0, m.select(count < lanes, count * 0 + 1, count * 0), again, q)
    return [q[r * VECTORS : (r + 1) * VECTORS] for r in rs]


@staged
def store_tile(
    m: Any, spec: Any, xs: Any, bs: Any, nx: Any, ys: Any, cs: Any, ny: Any, d: Any, offsets: Any,
    start: Any, stop: Any, first: Any, last: Any, n: Any, out: Any, base: Any, step: Any, column: Any,
) -> None:  # fmt: skip
    """out[base + (row - start) step + column of the point - column] = f(q) for rows start ... stop and panels
    first ... last; n: how many points the second set has."""
    of, lanes, panel = (xs, bs, nx, ys, cs, ny, d), spec.lanes, spec.panel
    whole = m.quotient(n, panel)
    whole = m.select(whole < last, whole, last)

    def block(i: Any) -> None:
        def over(p: Any, tail: bool) -> None:
            for r, vectors in enumerate(squares(m, spec, of, i, ROWS, p)):
                at = base + (i - start + r) * step + p * panel - column
                values = [radial(m, spec, ys, q, offset(m, spec, offsets, i + r, p, v)) for v, q in enumerate(vectors)]
                there = m.select(i + r < stop, start * 0 + 1, start * 0)
                m.loop(0, there, lambda _, __: written(at, values, p, tail))  # noqa: B023 (called at once)

        def written(at: Any, values: list[Any], p: Any, tail: bool) -> None:
            for v, y in enumerate(values):
                if not tail:
                    m.store(out, at + v * lanes, y)
                    continue
                left = n - p * panel - v * lanes
                left = m.select(left > 0, left, left * 0)
                m.store(out, at + v * lanes, y, live=m.select(left < lanes, left, left * 0 + lanes))

        m.loop(first, whole, lambda p, _: over(p, False))
        m.loop(m.select(whole > first, whole, first), last, lambda p, _: over(p, True))

    # rows are packed in whole blocks: what is behind the last one is computed, and not written
    m.loop(0, m.quotient(stop - start + (ROWS - 1), ROWS), lambda b, _: block(start + b * ROWS))


@staged
def lay(m: Any, spec: Any, room: Any, at: Any, out: Any, base: Any, count: Any, skew: Any) -> None:
    """out[base ...] = room[at ...], past the caches if spec.streamed; out begins `skew` elements after a line."""
    lanes = spec.lanes
    head = (base + skew) * -1 & (lanes - 1)
    head = m.select(head < count, head, count)
    m.loop(0, head, lambda k, _: m.store(out, base + k, m.load(room, at + k)))
    vectors = m.quotient(count - head, lanes)

    def whole(k: Any, _: Any) -> None:
        (m.stream if spec.streamed else m.store)(
            out, base + head + k * lanes, m.load(room, at + head + k * lanes, lanes)
        )

    m.loop(0, vectors, whole)
    m.loop(head + vectors * lanes, count, lambda k, _: m.store(out, base + k, m.load(room, at + k)))


@staged
def transpose_tile(m: Any, spec: Any, a: Any, b: Any, side: Any, step: Any) -> None:
    """b[j, i] = a[i, j] of side x side numbers, rows `step` apart."""
    lanes = spec.lanes

    def square(i: Any, j: Any) -> None:
        block = m.transpose([m.load(a, (i * lanes + k) * step + j * lanes, lanes) for k in range(lanes)])
        for k, v in enumerate(block):
            m.store(b, (j * lanes + k) * step + i * lanes, v)

    count = m.quotient(side, lanes)
    m.loop(0, count, lambda i, _: m.loop(0, count, lambda j, _: square(i, j)) and None)


@staged
def nearest_block(
    m: Any, spec: Any, xs: Any, bs: Any, nx: Any, ys: Any, cs: Any, ny: Any, d: Any,
    i: Any, first: Any, last: Any, best: Any, where: Any,
) -> None:  # fmt: skip
    """The least q of ROWS points and panels first ... last, and which point it is, lane by lane."""
    of, lanes, panel = (xs, bs, nx, ys, cs, ny, d), spec.lanes, spec.panel
    numbers = [m.const(where, list(range(v * lanes, (v + 1) * lanes))) for v in range(VECTORS)]
    most, none = m.const(best, [float("inf")] * lanes), m.const(where, [-1] * lanes)

    def over(p: Any, carry: list[Any]) -> list[Any]:
        at = [number + m.cast(p * panel, where) for number in numbers]
        out = []
        for r, vectors in enumerate(squares(m, spec, of, i, ROWS, p)):
            q, k = carry[2 * r], carry[2 * r + 1]
            for v in range(VECTORS):
                less = vectors[v] < q
                q, k = m.select(less, vectors[v], q), m.select(less, at[v], k)
            out += [q, k]
        return out

    for r, pair in enumerate(_pairs(m.loop(first, last, over, [most, none] * ROWS))):
        m.store(best, r * lanes, pair[0])
        m.store(where, r * lanes, pair[1])


def _pairs(items: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(items[::2], items[1::2]))


@staged
def sum_block(
    m: Any, spec: Any, xs: Any, bs: Any, nx: Any, ys: Any, cs: Any, ny: Any, d: Any, offsets: Any,
    vs: Any, i: Any, first: Any, last: Any, n: Any, room: Any,
) -> None:  # fmt: skip
    """Sums of f(q) v over panels first ... last for ROWS points, channel by channel, lane by lane; n: how many points
    the second set has: what fills the last panel is not to be multiplied by 0, as it may be infinite."""
    of, lanes, panel, channels = (xs, bs, nx, ys, cs, ny, d), spec.lanes, spec.panel, spec.channels
    zero = m.const(room, [0.0] * lanes)
    numbers = [m.const(room, [float(k) for k in range(v * lanes, (v + 1) * lanes)]) for v in range(VECTORS)]

    def over(p: Any, sums: list[Any]) -> list[Any]:
        out = list(sums)
        left = m.to_float(n - p * panel, m.load(ys, 0))
        there = [number < left for number in numbers]
        for r, vectors in enumerate(squares(m, spec, of, i, ROWS, p)):
            for v, q in enumerate(vectors):
                y = radial(m, spec, ys, q, offset(m, spec, offsets, i + r, p, v))
                for c in range(channels):
                    w = m.load(vs, (p * channels + c) * panel + v * lanes, lanes)
                    before = out[r * channels + c]
                    out[r * channels + c] = m.select(there[v], m.fused(y, w, before), before)
        return out

    for k, s in enumerate(m.loop(first, last, over, [zero] * (ROWS * channels))):
        m.store(room, k * lanes, s)
