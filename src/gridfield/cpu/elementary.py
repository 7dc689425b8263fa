"""Elementary functions of float64 vectors, as straight-line staged code: eight numbers cost about what the C library's
scalar function takes for one.

Each is an argument reduction with a remainder carried in a second word, and a polynomial, interpolated at Chebyshev's
points at 60 digits, whose error is below 1e-16 of the result. Errors against mpmath, in units of the last place, are in
tests/test_elementary.py: at most 1 for exp, log, sin, cos, 2 to 3 for the others; a power's is at most 1e-14.
Reductions by W. J. Cody and W. Waite, Software Manual for the Elementary Functions (1980); the sign of a zero is lost.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

MAGIC = 1.5 * 2.0**52  # added and taken away it rounds to whole numbers, which are then the low bits of the sum
MAGIC_BITS = 0x4338000000000000
LOG2E = 1.4426950408889634
LN2_HIGH, LN2_LOW = 0.6931471803691238, 1.9082149292705877e-10  # of 32 bits, so that whole multiples are exact
HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)  # of 33, 33 and 53 bits
QUARTER_PI, QUARTER_PI_LOW = 0.7853981633974483, 3.061616997868383e-17
ROOT_HALF_BITS = 0x3FE6A09E667F3BCD
MOST = 1e6  # radians that are reduced here; the C library takes those beyond

# (exp(r) - 1 - r) / r**2
EXP = (
    0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333326136, 0.001388888888888375, 0.00019841269874815834,
    2.480158732554432e-05, 2.7557255406285044e-06, 2.7557273647451087e-07, 2.5105214474751413e-08,
    2.0914685161418067e-09,
)  # fmt: skip
# (2 atanh(s) - 2 s) / s**3, in s**2
LOG = (
    0.6666666666666666, 0.4000000000000088, 0.2857142857080329, 0.222222223917858, 0.18181795632452163,
    0.1538624012056702, 0.13268761951330021, 0.13086743139119072,
)  # fmt: skip
# (sin(r) - r) / r**3 and (cos(r) - 1 + r**2 / 2) / r**4, in r**2
SIN = (
    -0.16666666666666666, 0.008333333333333331, -0.00019841269841265003, 2.7557319219291695e-06,
    -2.5052106215978872e-08, 1.6058529011960858e-10, -7.586543634101903e-13,
)  # fmt: skip
COS = (
    0.041666666666666664, -0.0013888888888888887, 2.480158730158461e-05, -2.7557319221376434e-07,
    2.08767557819242e-09, -1.1470459438155826e-11, 4.7457865678652127e-14,
)  # fmt: skip
# (atan(x) - x) / x**3, in x**2
ATAN = (
    -0.3333333333333333, 0.19999999999995519, -0.14285714284666276, 0.11111111015234812, -0.09090904577248296,
    0.0769218317048485, -0.06664511160859166, 0.058581464238093545, -0.050854367132677145, 0.039231282023743305,
    -0.019176426315546866,
)  # fmt: skip
# erf(x) / x - 1, in x**2
ERF = (
    0.1283791670955126, -0.3761263890318375, 0.11283791670954879, -0.026866170645076792, 0.0052239776248180145,
    -0.000854832698083379, 0.0001205533111164271, -1.4925595266831182e-05, 1.6461000484121368e-06,
    -1.6350312701054695e-07, 1.4659775274047436e-08, -1.1372848856791674e-09, 5.957176147748911e-11,
)  # fmt: skip
# exp(x**2) erfc(x) (x + 2), in (x - 2) / (x + 2) (M. M. Shepherd and J. G. Laframboise, Math. Comp. 36 (1981), 249)
ERFC = (
    1.021582705242023, -0.6871606844138097, 0.2794720925560415, -0.03644223150700756, -0.021510661888480553,
    0.006479185073443965, 0.0030906120284550287, -0.0008372961745251725, -0.0006630730109413752, 3.437258954053571e-05,
    0.00014446603189920013, 3.4142291349835214e-05, -2.1668054428139143e-05, -1.61006979073787e-05,
    -1.2322674637762806e-06, 3.6207364691924107e-06, 2.2529092315455068e-06, -3.551467515070983e-08,
    -9.136110871375136e-07, -1.8609629934539267e-07, 2.2849038917374968e-07, -1.1150777759106423e-08,
)  # fmt: skip


def _polynomial(m: Any, x: Any, c: Sequence[float]) -> Any:
    """By pairs, pairs of pairs, ... (Estrin): a chain of 11 multiply-adds is 44 cycles long, and the instructions of
    two such chains are all that a core looks ahead."""
    terms: list[Any] = [m.fused(x, c[k + 1], c[k]) if k + 1 < len(c) else c[k] for k in range(0, len(c), 2)]
    while len(terms) > 1:
        x = x * x
        terms = [
            m.fused(x, terms[k + 1], terms[k]) if k + 1 < len(terms) else terms[k] for k in range(0, len(terms), 2)
        ]
    return terms[0]


def _equal(x: Any, y: Any) -> Any:
    return (x <= y) & (x >= y)


def _constant(m: Any, like: Any, c: float) -> Any:
    """As many of a number as another vector has: folded when it is compiled."""
    return m.real((m.bits(like) & 0) + struct.unpack("q", struct.pack("d", c))[0])


def _signed(m: Any, size: Any, like: Any) -> Any:
    """size, with the sign of another."""
    return m.select(like < 0, -size, size)


def _whole(m: Any, x: Any, scale: float) -> tuple[Any, Any]:
    """x scale rounded to a whole number below 2**31: as float64, and as a 64-bit integer."""
    t = m.fused(x, scale, MAGIC)
    return t - MAGIC, m.bits(t) - MAGIC_BITS


def _reduced_exp(m: Any, x: Any, low: Any) -> tuple[Any, Any]:
    """exp(x + low) = 2**k (1 + e): e, and k as an integer."""
    k, n = _whole(m, x, LOG2E)
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    if low is not None:
        r = r + low
    return r + r * r * _polynomial(m, r, EXP), n


def exp(m: Any, x: Any, low: Any = None, shift: int = 0) -> Any:
    """exp(x + low) / 2**shift, low being small."""
    x = m.select(x > 750.0, 750.0, x)
    x = m.select(x < -750.0, -750.0, x)  # NaN stays
    e, n = _reduced_exp(m, x, low)
    n = n - shift
    half = n >> 1  # in two steps, since 2**1024 is none, and below 2**-1022 digits are lost only once
    first, second = m.real((half + 1023) << 52), m.real((n - half + 1023) << 52)
    return (e * first + first) * second


def expm1(m: Any, x: Any) -> Any:
    """exp(x) - 1 for x up to 700."""
    x = m.select(x < -50.0, -50.0, x)
    e, n = _reduced_exp(m, x, None)
    scale = m.real((n + 1023) << 52)
    return m.fused(e, scale, scale - 1.0)


def log_parts(m: Any, x: Any) -> tuple[Any, Any]:
    """log(x) of a number above 0 as a sum of two."""
    small = x < 2.0**-1022
    x = m.select(small, x * 2.0**54, x)
    b = m.bits(x)
    n = (b - ROOT_HALF_BITS) >> 52
    fraction = m.real(b - (n << 52))  # from sqrt(1/2) to sqrt(2)
    k = m.real(n + MAGIC_BITS) - MAGIC
    k = m.select(small, k - 54.0, k)
    f, d = fraction - 1.0, fraction + 1.0
    lost = fraction - (d - 1.0)
    inverse = 1.0 / d
    s = f * inverse
    rest = (m.precise(-s, d, f) - s * lost) * inverse
    z = s * s
    low = rest * 2.0 + s * z * _polynomial(m, z, LOG)
    first, second = k * LN2_HIGH, s * 2.0
    high = first + second
    low = ((first - high) + second) + (k * LN2_LOW + low)
    total = high + low
    return total, (high - total) + low


def log(m: Any, x: Any, parts: Any = None) -> Any:
    """log(x)."""
    high, _ = log_parts(m, x) if parts is None else parts
    out = m.select(x < math.inf, high, x)
    return m.select(x <= 0.0, m.select(x < 0.0, x * 0.0 + math.nan, x * 0.0 - math.inf), out)


def log1p(m: Any, x: Any) -> Any:
    """log(1 + x) for x >= 0."""
    u = x + 1.0
    return m.select(x < 1e15, log(m, u) + (x - (u - 1.0)) / u, log(m, x))


def power(m: Any, x: Any, a: Any, parts: Any) -> Any:
    """x**a as NumPy has it; parts: those of log |x|."""
    size, (high, low) = m.absolute(x), parts
    main = a * high
    rest = m.precise(a, high, -main) + a * low
    out = exp(m, main, m.select(m.absolute(main) < 1e4, rest, 0.0))
    out = m.select(size <= 0.0, m.select(a > 0.0, _constant(m, x, 0.0), math.inf), out)
    out = m.select(size < math.inf, out, m.select(a > 0.0, size, 1.0 / size))
    whole, half = m.floor(a), a * 0.5
    odd = m.select(_equal(m.floor(half), half), out, -out)
    below = m.select(_equal(whole, a), odd, m.select(size < math.inf, math.nan, out))
    out = m.select(x < 0.0, below, out)
    out = m.select(m.absolute(a) <= math.inf, out, a)
    return m.select(_equal(a, _constant(m, a, 0.0)), 1.0, out)


def sin_cos(m: Any, x: Any) -> tuple[Any, Any]:
    """sin(x) and cos(x)."""
    k, n = _whole(m, x, 2 / math.pi)
    r = x - k * HALF_PI[0]
    w = k * HALF_PI[1]
    first = r - w
    low = ((r - first) - w) - k * HALF_PI[2]
    r = first + low
    low = (first - r) + low
    z = r * r
    s = r + (r * z * _polynomial(m, z, SIN) + low)
    half = z * 0.5
    one = 1.0 - half
    c = one + (((1.0 - one) - half) + (z * z * _polynomial(m, z, COS) - r * low))
    swapped, back = (n & 1) > 0, (n & 2) > 0
    sine, cosine = m.select(swapped, c, s), m.select(swapped, s, c)
    sine, cosine = m.select(back, -sine, sine), m.select(((n + 1) & 2) > 0, -cosine, cosine)
    far = m.any(m.absolute(x) > MOST)
    return tuple(m.loop(0, far, lambda i, carry: [m.each("sin", x), m.each("cos", x)], [sine, cosine]))


def tan(m: Any, x: Any) -> Any:
    """tan(x)."""
    s, c = sin_cos(m, x)
    return s / c


def tanh(m: Any, x: Any) -> Any:
    """tanh(x)."""
    u = expm1(m, m.absolute(x) * -2.0)
    return _signed(m, -u / (u + 2.0), x)


def sinh(m: Any, x: Any) -> Any:
    """sinh(x)."""
    size = m.absolute(x)
    u = expm1(m, m.select(size > 1.0, 1.0, size))
    h = exp(m, size, shift=1)
    return _signed(m, m.select(size < 1.0, (u + u / (u + 1.0)) * 0.5, h - 0.25 / h), x)


def cosh(m: Any, x: Any) -> Any:
    """cosh(x)."""
    h = exp(m, m.absolute(x), shift=1)
    return h + 0.25 / h


def atan2(m: Any, y: Any, x: Any) -> Any:
    """The angle of (x, y)."""
    a, b = m.absolute(y), m.absolute(x)
    steep = a > b
    low, high = m.select(steep, b, a), m.select(steep, a, b)
    wide = low > high * 0.41421356237309503  # tan(pi / 8)
    top, bottom = m.select(wide, low - high, low), m.select(wide, low + high, high)
    q = top / m.select(bottom <= 0.0, 1.0, bottom)
    z = q * q
    v = q + q * z * _polynomial(m, z, ATAN)
    # the angle is k quarters of pi, plus or minus v
    k = m.select(wide, q * 0.0 + 1.0, q * 0.0)
    k, v = m.select(steep, 2.0 - k, k), m.select(steep, -v, v)
    left = x < 0.0
    k, v = m.select(left, 4.0 - k, k), m.select(left, -v, v)
    main = k * QUARTER_PI
    rest = m.precise(k, QUARTER_PI, -main) + k * QUARTER_PI_LOW
    return _signed(m, main + (v + rest), y)


def atan(m: Any, x: Any) -> Any:
    """atan(x)."""
    return atan2(m, x, _constant(m, x, 1.0))


def asin(m: Any, x: Any) -> Any:
    """asin(x)."""
    return atan2(m, x, m.sqrt((1.0 - x) * (x + 1.0)))


def acos(m: Any, x: Any) -> Any:
    """acos(x)."""
    return atan2(m, m.sqrt((1.0 - x) * (x + 1.0)), x)


def erf_erfc(m: Any, x: Any) -> tuple[Any, Any]:
    """erf(x) and erfc(x)."""
    size = m.absolute(x)
    z = x * x
    inner = x + x * _polynomial(m, z, ERF)
    far = m.select(size > 30.0, 30.0, size)
    t = (far - 2.0) / (far + 2.0)
    square = far * far
    outer = exp(m, -square, -m.precise(far, far, -square)) * _polynomial(m, t, ERFC) / (far + 2.0)
    erf = m.select(size < 1.0, inner, _signed(m, 1.0 - outer, x))
    erfc = m.select(x < 0.5, m.select(x < -1.0, 2.0 - outer, 1.0 - inner), outer)
    return erf, erfc


def minimum(m: Any, a: Any, b: Any) -> Any:
    """The smaller, NaN if one is."""
    return m.select(a < b, a, m.select(b <= a, b, a + b))


def maximum(m: Any, a: Any, b: Any) -> Any:
    """The larger, NaN if one is."""
    return m.select(a > b, a, m.select(b >= a, b, a + b))


def sign(m: Any, x: Any) -> Any:
    """-1, 0 or 1."""
    return m.select(x > 0.0, 1.0, m.select(x < 0.0, -1.0, x))


ONE = {
    "exp": exp, "tan": tan, "tanh": tanh, "sinh": sinh, "cosh": cosh, "atan": atan, "asin": asin, "acos": acos,
    "sign": sign, "sqrt": lambda m, x: m.sqrt(x), "abs": lambda m, x: m.absolute(x),
    "heaviside": lambda m, x: sign(m, x) * 0.5 + 0.5,
}  # fmt: skip
TWO = {"atan2": atan2, "min": minimum, "max": maximum}
