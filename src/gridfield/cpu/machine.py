"""Straight-line vector code from ordinary Python at compile time. The only file that knows LLVM.

A kernel is specialised by a `Spec`: plain frozen data that becomes a Numba *type*. A function decorated with
`@staged` takes (machine, spec, *arguments) and runs while Numba compiles: its Python loops, dictionaries and
recursion vanish, and each operation it asks of the machine leaves one instruction. Two machines have the same
vocabulary: `Emit` writes LLVM; `Plain` (plain_machine.py) computes with NumPy when the JIT is off
(NUMBA_DISABLE_JIT=1), so that a kernel can be stepped through.

Plain Numba loops were 2-6 times slower here: LLVM's straight-line (SLP) vectoriser is off in Numba, and the sum
over taps is straight-line code.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox

from ..cached import cached_property
from .plain_machine import Plain

I1, I32, I64, F64 = ir.IntType(1), ir.IntType(32), ir.IntType(64), ir.DoubleType()

WHOLE = 64  # bytes of a vector of AVX-512: any number of those needs no masks

# a*b + c may fuse and the sign of zero may go. With `reassoc` LLVM turns the tree of multiply-adds into one serial
# chain; `nnan` breaks NaN coordinates.
FLAGS = ("contract", "nsz")


def _is_vector(t: ir.Type) -> bool:
    return isinstance(t, ir.VectorType)


def _shaped(t: ir.Type, element: ir.Type) -> ir.Type:
    """The type of as many numbers of another type."""
    return ir.VectorType(element, t.count) if _is_vector(t) else element


def _element(t: ir.Type) -> ir.Type:
    return t.element if _is_vector(t) else t


def _is_int(t: ir.Type) -> bool:
    return isinstance(_element(t), ir.IntType)


def _shuffle(b: ir.IRBuilder, v: ir.Value, lanes: list[int], other: ir.Value | None = None) -> ir.Value:
    other = ir.Constant(v.type, ir.Undefined) if other is None else other
    return b.shuffle_vector(v, other, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def _broadcast(b: ir.IRBuilder, scalar: ir.Value, n: int) -> ir.Value:
    one = b.insert_element(ir.Constant(ir.VectorType(scalar.type, 1), ir.Undefined), scalar, I64(0))
    return _shuffle(b, one, [0] * n)


class Value:
    """An LLVM integer, float or vector of them, with + - * / and comparisons; scalars broadcast against vectors."""

    __slots__ = ("b", "v")

    def __init__(self, b: ir.IRBuilder, v: ir.Value) -> None:
        self.b, self.v = b, v

    def _pair(self, other: Any) -> tuple[ir.Value, ir.Value]:
        v, w = self.v, other.v if isinstance(other, Value) else None
        if w is None:
            t = v.type
            w = ir.Constant(t, [other] * t.count if _is_vector(t) else other)
        if _is_vector(v.type) and not _is_vector(w.type):
            w = _broadcast(self.b, w, v.type.count)
        if _is_vector(w.type) and not _is_vector(v.type):
            v = _broadcast(self.b, v, w.type.count)
        return v, w

    def _arithmetic(self, other: Any, op: str) -> Value:
        v, w = self._pair(other)
        if _is_int(v.type):
            return Value(self.b, getattr(self.b, op)(v, w))
        return Value(self.b, getattr(self.b, "f" + op)(v, w, flags=FLAGS))

    def _compare(self, other: Any, op: str) -> Value:
        v, w = self._pair(other)
        compare = self.b.icmp_signed if _is_int(v.type) else self.b.fcmp_ordered
        return Value(self.b, compare(op, v, w))

    def __add__(self, other: Any) -> Value:
        return self._arithmetic(other, "add")

    def __mul__(self, other: Any) -> Value:
        return self._arithmetic(other, "mul")

    def __sub__(self, other: Any) -> Value:
        return self._arithmetic(other, "sub")

    def __truediv__(self, other: Any) -> Value:
        return self._arithmetic(other, "div")

    def __rsub__(self, other: Any) -> Value:
        return self * -1 + other

    def __rtruediv__(self, other: Any) -> Value:
        a, b = self._pair(other)
        return Value(self.b, self.b.fdiv(b, a, flags=FLAGS))

    def __neg__(self) -> Value:
        return Value(self.b, self.b.neg(self.v) if _is_int(self.v.type) else self.b.fneg(self.v))

    def __lt__(self, other: Any) -> Value:
        return self._compare(other, "<")

    def __gt__(self, other: Any) -> Value:
        return self._compare(other, ">")

    def __le__(self, other: Any) -> Value:
        return self._compare(other, "<=")

    def __ge__(self, other: Any) -> Value:
        return self._compare(other, ">=")

    def __and__(self, other: Any) -> Value:
        return Value(self.b, self.b.and_(*self._pair(other)))

    def __or__(self, other: Any) -> Value:
        return Value(self.b, self.b.or_(*self._pair(other)))

    def __lshift__(self, bits: int) -> Value:
        return Value(self.b, self.b.shl(*self._pair(bits)))

    def __rshift__(self, bits: Any) -> Value:
        return Value(self.b, self.b.ashr(*self._pair(bits)))

    def __invert__(self) -> Value:
        return Value(self.b, self.b.not_(self.v))

    __radd__, __rmul__ = __add__, __mul__


class Emit:
    """The machine that writes LLVM instructions. An index is in elements, counted from the array's first."""

    def __init__(self, context: Any, builder: ir.IRBuilder) -> None:
        self.context, self.b = context, builder

    def _value(self, v: ir.Value) -> Value:
        return Value(self.b, v)

    def _pointer(self, a: Any, i: Any, lanes: int) -> ir.Value:
        p = self.b.gep(a.data, [i.v if isinstance(i, Value) else I64(i)])
        return self.b.bitcast(p, ir.VectorType(a.element, lanes).as_pointer()) if lanes else p

    # ---- memory
    def load(self, a: Any, i: Any, lanes: int = 0, slack: bool = False, live: Value | None = None) -> Value:
        """One element, or a vector; slack: memory up to the next power of two may be read (and is dropped); live: a
        number known at run time, only so many lanes are read, the others are 0."""
        if live is not None:
            return self._value(self._masked(a, i, lanes, live=live))
        if lanes & (lanes - 1) and lanes * a.itemsize % WHOLE:
            if not slack:
                return self._value(self._masked(a, i, lanes))
            wide = self.b.load(self._pointer(a, i, 1 << lanes.bit_length()), align=a.itemsize)
            return self._value(_shuffle(self.b, wide, list(range(lanes))))
        return self._value(self.b.load(self._pointer(a, i, lanes), align=a.itemsize))

    def store(self, a: Any, i: Any, x: Any, live: Value | None = None) -> None:
        """Write one element or a vector; live: only so many of its lanes."""
        v = x.v if isinstance(x, Value) else ir.Constant(a.element, x)
        lanes = v.type.count if _is_vector(v.type) else 0
        if (lanes & (lanes - 1) and lanes * a.itemsize % WHOLE) or live is not None:
            self._masked(a, i, lanes, v, live)
        else:
            self.b.store(v, self._pointer(a, i, lanes), align=a.itemsize)

    def _masked(self, a: Any, i: Any, lanes: int, v: ir.Value | None = None, live: Value | None = None) -> ir.Value:
        """Load (or store v) a number of lanes that is no power of two by one masked access: LLVM would emit two."""
        b, full = self.b, 1 << (lanes - 1).bit_length()
        t, mask_t = ir.VectorType(a.element, full), ir.VectorType(I1, full)
        p = self._pointer(a, i, full)
        mask = ir.Constant(mask_t, [1] * lanes + [0] * (full - lanes))
        if live is not None:
            numbers = ir.Constant(ir.VectorType(I32, full), list(range(full)))
            mask = b.icmp_signed("<", numbers, _broadcast(b, b.trunc(live.v, I32), full))
        suffix, align = f"v{full}f{8 * a.itemsize}.p0", I32(a.itemsize)
        if v is not None:
            f = ir.FunctionType(ir.VoidType(), [t, p.type, I32, mask_t])
            f = cgutils.get_or_insert_function(b.module, f, "llvm.masked.store." + suffix)
            return b.call(f, [_shuffle(b, v, list(range(lanes)) + [0] * (full - lanes)), p, align, mask])
        f = ir.FunctionType(t, [p.type, I32, mask_t, t])
        f = cgutils.get_or_insert_function(b.module, f, "llvm.masked.load." + suffix)
        return _shuffle(b, b.call(f, [p, align, mask, ir.Constant(t, [0.0] * full)]), list(range(lanes)))

    def pick(self, a: Any, i: Any, places: Value, count: int) -> list[Value]:
        """Vectors k = 0 ... count of the elements i + k + places[lane], or those of one place. Two neighbours of 32
        bits are read as one number of 64: half as many reads."""
        if not _is_vector(places.v.type):
            return [self.load(a, i + self.widen(places) + k) for k in range(count)]
        b, lanes, vectors, k = self.b, places.v.type.count, [], 0
        while k < count:
            if count - k > 1 and a.itemsize == 4:
                halves = [_shuffle(b, places.v, list(range(h, h + lanes // 2))) for h in (0, lanes // 2)]
                parts = [b.bitcast(self._picked(a, i + k, h, F64), ir.VectorType(a.element, lanes)) for h in halves]
                vectors += self.split(self._value(_shuffle(b, parts[0], list(range(2 * lanes)), parts[1])))
                k += 2
            else:
                vectors.append(self._value(self._picked(a, i + k, places.v, a.element)))
                k += 1
        return vectors

    def _picked(self, a: Any, i: Any, places: ir.Value, element: ir.Type) -> ir.Value:
        b, n = self.b, places.type.count
        p = b.gep(self._pointer(a, i, 0), [places], source_etype=a.element)
        p.type = ir.VectorType(p.type, n)  # llvmlite knows of no vectors of pointers
        t, mask = ir.VectorType(element, n), ir.Constant(ir.VectorType(I1, n), [1] * n)
        f = ir.FunctionType(t, [p.type, I32, mask.type, t])
        name = f"llvm.masked.gather.v{n}f{64 if element == F64 else 32}.v{n}p0"
        f = cgutils.get_or_insert_function(b.module, f, name)
        return b.call(f, [p, I32(a.itemsize), mask, ir.Constant(t, ir.Undefined)])

    def stream(self, a: Any, i: Any, x: Value) -> None:
        """Write a vector of WHOLE bytes to a place that is a multiple of those, past the caches."""
        store = self.b.store(x.v, self._pointer(a, i, x.v.type.count), align=WHOLE)
        store.set_metadata("nontemporal", self.b.module.add_metadata([I32(1)]))

    def prefetch(self, a: Any, i: Any) -> None:
        """Ask for the cache line of an element, which may lie beyond the array, to be brought near."""
        p = self.b.bitcast(self._pointer(a, i, 0), ir.IntType(8).as_pointer())  # one function for arrays of any type
        f = ir.FunctionType(ir.VoidType(), [p.type, I32, I32, I32])
        f = cgutils.get_or_insert_function(self.b.module, f, "llvm.prefetch.p0")
        self.b.call(f, [p, I32(0), I32(2), I32(1)])  # to be read, into the second level, data

    def stride(self, a: Any, axis: int) -> Value:
        """Stride of an axis in elements."""
        step = cgutils.unpack_tuple(self.b, a.strides)[axis]
        return self._value(self.b.sdiv(step, I64(a.itemsize), flags=["exact"]))

    def itemsize(self, a: Any) -> int:
        """Bytes of an element."""
        return a.itemsize

    def shape(self, a: Any, axis: int) -> Value:
        """Length of an axis."""
        return self._value(cgutils.unpack_tuple(self.b, a.shape)[axis])

    # ---- numbers
    def const(self, a: Any, xs: list[float]) -> Value:
        """A vector of constants of a's type."""
        return self._value(ir.Constant(ir.VectorType(a.element, len(xs)), xs))

    def narrow(self, x: Value, a: Any) -> Value:
        """A 64-bit integer as the integer type of a."""
        return self._value(self.b.trunc(x.v, a.element)) if a.element.width < 64 else x

    def widen(self, x: Value) -> Value:
        """An integer as a 64-bit one."""
        return self._value(self.b.sext(x.v, I64)) if x.v.type.width < 64 else x

    def truncate(self, x: Value, a: Any) -> Value:
        """A float below 2**31 towards zero, as the integer type of a (32 bits convert a vector at once)."""
        i = self.b.fptosi(x.v, _shaped(x.v.type, I32))
        return self._value(i if a.element.width < 64 else self.b.sext(i, _shaped(x.v.type, I64)))

    def cast(self, i: Value, a: Any) -> Value:
        """An integer as the integer type of a."""
        t = i.v.type
        own, to = (t.element if _is_vector(t) else t).width, _shaped(t, a.element)
        if own == a.element.width:
            return i
        return self._value(self.b.trunc(i.v, to) if own > a.element.width else self.b.sext(i.v, to))

    def to_double(self, x: Value) -> Value:
        """A float as float64."""
        to = _shaped(x.v.type, F64)
        return x if x.v.type == to else self._value(self.b.fpext(x.v, to))

    def as_element(self, x: Value, a: Any) -> Value:
        """A float64 as the float type of a."""
        to = _shaped(x.v.type, a.element)
        return x if x.v.type == to else self._value(self.b.fptrunc(x.v, to))

    def to_float(self, i: Value, like: Value) -> Value:
        """A small integer as the float type of like."""
        return self._value(self.b.sitofp(self.b.trunc(i.v, I32) if i.v.type.width > 32 else i.v, like.v.type))

    def fused(self, x: Value, y: Value, z: Value) -> Value:
        """x y + z, rounded once, whatever is around it; scalars broadcast against a vector x."""
        t = x.v.type
        element = t.element if _is_vector(t) else t
        name = f"llvm.fma.{f'v{t.count}' if _is_vector(t) else ''}f{32 if element == ir.FloatType() else 64}"
        f = cgutils.get_or_insert_function(self.b.module, ir.FunctionType(t, [t, t, t]), name)
        return self._value(self.b.call(f, [x.v, x._pair(y)[1], x._pair(z)[1]]))

    def precise(self, x: Value, y: Any, z: Any) -> Value:
        """x y + z, rounded once, on every machine: what error-free transforms rest on."""
        return self.fused(x, y, z)

    def bits(self, x: Value) -> Value:
        """The bits of float64 as 64-bit integers."""
        return self._value(self.b.bitcast(x.v, _shaped(x.v.type, I64)))

    def real(self, i: Value) -> Value:
        """And back."""
        return self._value(self.b.bitcast(i.v, _shaped(i.v.type, F64)))

    def spread(self, x: Value, lanes: int) -> Value:
        """A vector of one number."""
        return self._value(_broadcast(self.b, x.v, lanes))

    def _math(self, name: str, x: Value) -> Value:
        t = x.v.type
        name = f"llvm.{name}.{f'v{t.count}' if _is_vector(t) else ''}f{32 if _element(t) == ir.FloatType() else 64}"
        f = cgutils.get_or_insert_function(self.b.module, ir.FunctionType(t, [t]), name)
        return self._value(self.b.call(f, [x.v]))

    def sqrt(self, x: Value) -> Value:
        """The square root."""
        return self._math("sqrt", x)

    def root_estimate(self, x: Value) -> Value | None:
        """1 / sqrt(x) of a vector of WHOLE bytes to 14 bits, if this machine can (AVX-512)."""
        t, name = x.v.type, "ps" if _element(x.v.type) == ir.FloatType() else "pd"
        if not _is_vector(t) or t.count * (4 if name == "ps" else 8) != WHOLE:
            return None
        if "+avx512f," not in self.context.codegen()._tm_features + ",":  # what Numba compiles for
            return None
        mask = ir.IntType(t.count)
        f = ir.FunctionType(t, [t, t, mask])
        f = cgutils.get_or_insert_function(self.b.module, f, f"llvm.x86.avx512.rsqrt14.{name}.512")
        return self._value(self.b.call(f, [x.v, ir.Constant(t, ir.Undefined), ir.Constant(mask, -1)]))

    def absolute(self, x: Value) -> Value:
        """|x|."""
        return self._math("fabs", x)

    def any(self, chosen: Value) -> Value:
        """1 where one of the lanes is, else 0."""
        bits = self.b.bitcast(chosen.v, ir.IntType(chosen.v.type.count))
        return self._value(self.b.zext(self.b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), I64))

    def each(self, name: str, x: Value) -> Value:
        """A function of the C library, lane by lane."""
        f = cgutils.get_or_insert_function(self.b.module, ir.FunctionType(F64, [F64]), name)
        b, slot = self.b, cgutils.alloca_once_value(self.b, x.v)
        numbers = b.bitcast(slot, F64.as_pointer())
        with cgutils.for_range(
            b, I64(x.v.type.count), intp=I64
        ) as turn:  # written out, 16 calls double the compile time
            place = b.gep(numbers, [turn.index])
            b.store(b.call(f, [b.load(place)]), place)
        return self._value(b.load(slot))

    def quotient(self, x: Value, n: Any) -> Value:
        """x // n of a 64-bit integer that is not negative."""
        return self._value(self.b.udiv(x.v, n.v if isinstance(n, Value) else I64(n)))

    def floor(self, x: Value) -> Value:
        """The largest integer not above (Numba's math.floor would promote float32)."""
        return self._math("floor", x)

    def power_of_two(self, n: Value) -> Value:
        """2**n of whole floats, within the range of exponents."""
        b, t, single = self.b, n.v.type, _element(n.v.type) == ir.FloatType()
        whole = _shaped(t, I32 if single else I64)
        i = b.fptosi(n.v, _shaped(t, I32))
        i = self._value(i if single else b.sext(i, whole)) + (127 if single else 1023)
        return self._value(b.bitcast((i << (23 if single else 52)).v, t))

    def select(self, condition: Value, x: Any, y: Any) -> Value:
        """x where the condition holds, else y; at least one of them a Value."""
        v, w = x._pair(y) if isinstance(x, Value) else y._pair(x)[::-1]
        return self._value(self.b.select(condition.v, v, w))

    def not_number(self, x: Value) -> Value:
        """Whether x is NaN."""
        return self._value(self.b.fcmp_unordered("uno", x.v, x.v))

    def bit(self, condition: Value, k: int, a: Any) -> Value:
        """2**k where the condition holds, else 0, as the integer type of a."""
        t = a.element
        return self._value(self.b.select(condition.v, ir.Constant(t, 1 << k), ir.Constant(t, 0)))

    # ---- lanes
    def compress(self, x: Value, chosen: Value) -> Value:
        """The chosen lanes of a vector, one behind the other; behind them anything."""
        t = x.v.type
        f = ir.FunctionType(t, [t, chosen.v.type, t])
        kind = f"i{t.element.width}" if _is_int(t) else "f32" if t.element == ir.FloatType() else "f64"
        f = cgutils.get_or_insert_function(self.b.module, f, f"llvm.experimental.vector.compress.v{t.count}{kind}")
        return self._value(self.b.call(f, [x.v, chosen.v, ir.Constant(t, ir.Undefined)]))

    def number_of(self, chosen: Value) -> Value:
        """How many lanes are."""
        bits = self.b.bitcast(chosen.v, ir.IntType(chosen.v.type.count))
        f = ir.FunctionType(bits.type, [bits.type])
        f = cgutils.get_or_insert_function(self.b.module, f, f"llvm.ctpop.i{bits.type.width}")
        return self._value(self.b.zext(self.b.call(f, [bits]), I64))

    def tile(self, x: Value, n: int) -> Value:
        """(c0 c1) -> (c0 c1 c0 c1 ...), n copies."""
        return self._value(_shuffle(self.b, x.v, list(range(x.v.type.count)) * n))

    def sum_lanes(self, x: Value, channels: int) -> Value:
        """Lanes (tap, channel) summed over the taps, by halves."""
        b, v = self.b, x.v
        while (n := v.type.count) > channels:
            taps = n // channels
            half = (1 << (taps - 1).bit_length() - 1) * channels  # the largest power of two of taps below all
            low = _shuffle(b, v, list(range(half)))
            zero = ir.Constant(v.type, [0.0] * n)
            high = _shuffle(b, v, list(range(half, n)) + [n] * (2 * half - n), zero)
            v = b.fadd(low, high, flags=FLAGS)
        return self._value(v)

    def transpose(self, rows: list[Value]) -> list[Value]:
        """A square block of L vectors of L lanes, L a power of two, by log2(L) rounds of two-input shuffles."""
        block, n, step = [r.v for r in rows], len(rows), 1
        while step < n:
            even = [c if not c & step else n + (c ^ step) for c in range(n)]
            odd = [(c | step) if not c & step else n + c for c in range(n)]
            for k in range(n):
                if not k & step:
                    x, y = block[k], block[k | step]
                    block[k], block[k | step] = _shuffle(self.b, x, even, y), _shuffle(self.b, x, odd, y)
            step *= 2
        return [self._value(v) for v in block]

    def split(self, x: Value) -> tuple[Value, Value]:
        """(a0 b0 a1 b1 ...) -> (a0 a1 ...), (b0 b1 ...)."""
        even, odd = self.every(x, 2)
        return even, odd

    def every(self, x: Value, step: int) -> list[Value]:
        """(a0 b0 c0 a1 b1 c1 ...) -> (a0 a1 ...), (b0 b1 ...), (c0 c1 ...) for a step of 3."""
        n = x.v.type.count
        return [self._value(_shuffle(self.b, x.v, list(range(k, n, step)))) for k in range(step)]

    def interleave(self, x: Value, y: Value) -> Value:
        """The inverse of split."""
        n = x.v.type.count
        return self._value(_shuffle(self.b, x.v, [k // 2 + n * (k % 2) for k in range(2 * n)], y.v))

    # ---- control
    def loop(
        self, start: Any, stop: Any, body: Callable[..., list[Value] | None], carry: Sequence[Value] = ()
    ) -> list[Value]:
        """`for i in range(start, stop): carry = body(i, carry)` at run time; carried values live in registers."""
        b = self.b
        start, stop = (x.v if isinstance(x, Value) else I64(x) for x in (start, stop))
        slots = [cgutils.alloca_once_value(b, c.v) for c in carry]
        with cgutils.for_range_slice(b, start, stop, I64(1), I64) as (i, _):
            new = body(self._value(i), [self._value(b.load(s)) for s in slots])
            for s, c in zip(slots, new or [], strict=True):
                b.store(c.v, s)
        return [self._value(b.load(s)) for s in slots]

    def outlined(self, name: str, f: Callable[..., Any], *values: Value, results: int = 1) -> Any:
        """f(machine, *values) as a function of its own, compiled once, however often there is one of a name; arguments
        and results are vectors of one type."""
        b, types_ = self.b, [v.v.type for v in values]
        out = types_[0] if results == 1 else ir.LiteralStructType([types_[0]] * results)
        name = f"apart.{name}.{len(types_)}.{types_[0].count}"
        function = b.module.globals.get(name)
        if function is None:
            function = ir.Function(b.module, ir.FunctionType(out, types_), name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            inner = Emit(self.context, ir.IRBuilder(function.append_basic_block()))
            found = f(inner, *(Value(inner.b, a) for a in function.args))
            if results == 1:
                inner.b.ret(found.v)
            else:
                whole: ir.Value = ir.Constant(out, ir.Undefined)
                for k, x in enumerate(found):
                    whole = inner.b.insert_value(whole, x.v, k)
                inner.b.ret(whole)
        called = b.call(function, [v.v for v in values])
        if results == 1:
            return self._value(called)
        return tuple(self._value(b.extract_value(called, k)) for k in range(results))

    def repeat(self, body: Callable[[], Value]) -> None:
        """body() once, and again as long as the integer it gives is not 0."""
        b = self.b
        again, behind = b.append_basic_block("again"), b.append_basic_block("behind")
        b.branch(again)
        b.position_at_end(again)
        b.cbranch(b.icmp_signed("!=", body().v, I64(0)), again, behind)
        b.position_at_end(behind)


# ---- a Spec as a Numba type: all of it is in the type, nothing is passed at run time
class SpecType(types.Type):
    """The Numba type of one specialisation. Its key holds a hash of the sources that emit code from it, because
    Numba's disk cache does not notice edits in files other than the cached function's own."""

    def __init__(self, spec: Any, sources: str) -> None:
        self.spec, self.sources = spec, sources
        self.digest = hashlib.sha256(repr((spec, sources)).encode()).hexdigest()[:20]
        super().__init__(name=f"Spec[{self.digest}]")

    @property
    def key(self) -> Any:
        """Equality of types."""
        return self.spec, self.sources


register_model(SpecType)(models.OpaqueModel)


@unbox(SpecType)
def _unbox_spec(typ: SpecType, obj: Any, c: Any) -> NativeValue:
    return NativeValue(c.context.get_dummy_value())


def specialising(sources: str) -> Callable[[type], type]:
    """Class decorator: instances of this frozen dataclass are Numba types."""

    def register(cls: type) -> type:
        typed = cached_property(lambda spec: SpecType(spec, sources))
        typed.__set_name__(cls, "_numba_type_")
        # pickled in every cache file: the fields alone, since a cached attribute would lead back to the type
        cls.__reduce__ = lambda spec: (cls, tuple(getattr(spec, f.name) for f in dataclasses.fields(spec)))
        cls._numba_type_ = typed  # type: ignore[attr-defined]
        typeof_impl.register(cls)(lambda spec, c: spec._numba_type_)
        return cls

    return register


def staged(f: Callable[..., Any]) -> Callable[..., Any]:
    """f(machine, spec, *args) -> a function of (spec, *args) for use inside jitted code; f runs at compile time."""
    if config.DISABLE_JIT:
        return functools.partial(f, Plain)

    def define(typing_context: Any, *tys: Any) -> Any:
        spec = tys[0].spec

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            def wrap(t: Any, v: Any) -> Any:
                if isinstance(t, types.BaseTuple):
                    return [wrap(*each) for each in zip(t, cgutils.unpack_tuple(builder, v), strict=True)]
                if not isinstance(t, types.Array):
                    return Value(builder, context.cast(builder, v, t, types.int64))
                a = context.make_array(t)(context, builder, v)
                element = context.get_data_type(t.dtype)
                size = t.dtype.bitwidth // 8
                return SimpleNamespace(data=a.data, shape=a.shape, strides=a.strides, itemsize=size, element=element)

            f(Emit(context, builder), spec, *map(wrap, tys[1:], args[1:]))
            return context.get_dummy_value()

        return types.void(*tys), codegen

    parameters = [inspect.Parameter("typing_context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += list(inspect.signature(f).parameters.values())[1:]
    define.__name__ = f.__name__
    define.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return intrinsic(define)
