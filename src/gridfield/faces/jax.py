"""JAX: every op is a Primitive, with rules derived from ops/; on the CPU the kernels read and write XLA's buffers."""

from __future__ import annotations

import contextlib
import functools
import operator
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray, Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..cached import lock
from ..ops import COMPOSITES, Face, Op, batched
from ..scheme import decode

try:
    from jax.experimental.buffer_callback import buffer_callback
except ImportError:  # another version of JAX
    buffer_callback = None


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _refusing(x: Any, message: str) -> Any:
    """x."""
    return x


def _refused(message: str, primals: Any, tangents: Any) -> Any:
    if not isinstance(tangents[0], SymbolicZero):
        raise TypeError(message)
    return primals[0], tangents[0]


_refusing.defjvp(_refused, symbolic_zeros=True)


def _kernel(op: Op, *arrays: Any, text: str) -> Any:
    """The op by its CPU kernel. Shapes and types are checked before: a callback must not raise."""
    out = jax.ShapeDtypeStruct(op.shape(*(a.shape for a in arrays), text), arrays[0].dtype)
    if buffer_callback is None:
        return jax.pure_callback(lambda *a: op.run(*map(np.asarray, a), text), out, *arrays)

    def run(ctx: Any, target: Any, *buffers: Any) -> None:
        op.run(*map(np.asarray, buffers), text, np.asarray(target))

    return buffer_callback(run, out)(*arrays)


def _reference(op: Op, *arrays: Any, text: str) -> Any:
    """The op in plain array code: on devices without a kernel, and in what is exported."""
    return op.reference(*arrays, decode(text))


@functools.cache
def _warn_once(op: str, platforms: tuple[str, ...]) -> None:
    warnings.warn(
        f"gridfield has no {op} kernel for JAX on {', '.join(platforms)} yet: using the reference implementation in "
        "plain JAX, which is slower and takes more memory",
        stacklevel=2,
    )


def _lowering(op: Op, kernel: bool) -> Callable[..., Any]:
    by = {plain: mlir.lower_fun(functools.partial(f, op), multiple_results=False)
          for plain, f in ((False, _kernel), (True, _reference))}  # fmt: skip

    def lower(ctx: Any, *arrays: Any, text: str) -> Any:
        exported = ctx.module_context.lowering_parameters.for_export  # a Python callback cannot be
        if not kernel and not exported:
            _warn_once(op.name, tuple(ctx.module_context.platforms))
        return by[exported or not kernel](ctx, *arrays, text=text)

    return lower


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Ctrl-C in a callback is Ctrl-C again, of which JAX makes an error of its own."""
    try:
        yield
    except Exception as error:
        if "KeyboardInterrupt" in str(error):
            raise KeyboardInterrupt from None
        raise


def _eager(primitive: Primitive, static: str) -> None:
    """Outside of jit, a primitive is a compiled function of its own."""

    def bind(*arrays: Any, **params: Any) -> Any:
        return primitive.bind(*arrays, **params)

    compiled = jax.jit(bind, static_argnames=static)

    def impl(*arrays: Any, **params: Any) -> Any:
        with (
            _interrupts(),
            jax.disable_jit(False),
        ):  # a kernel has nothing to step through, and would come back here for ever
            return compiled(*arrays, **params)

    primitive.def_impl(impl)


def _varying(aval: Any) -> frozenset[Any]:
    """The axes of a mesh along which an array differs, inside of shard_map (JAX 0.10; before, `vma`)."""
    return getattr(getattr(aval, "manual_axis_type", None), "varying", None) or getattr(aval, "vma", frozenset())


def _abstract(avals: Any, shape: Any) -> Any:
    """Of that shape, varying along all axes along which an argument does."""
    if not any(map(_varying, avals)):
        return ShapedArray(shape, avals[0].dtype)

    def alike(*arrays: Any) -> Any:  # so that JAX says itself of what type such a result is
        return jnp.broadcast_to(functools.reduce(operator.add, map(jnp.sum, arrays)), shape)

    return jax.make_jaxpr(alike)(*avals).out_avals[0]


def _alike(arrays: Any) -> Any:
    """Arguments that vary along the same axes, or the transpose would not sum over those it has to."""
    if not any(isinstance(a, Tracer) for a in arrays):
        return arrays
    axes = [_varying(jax.typeof(a)) for a in arrays]
    every = frozenset().union(*axes)
    return [
        a if v == every else jax.lax.pcast(a, tuple(every - v), to="varying") for a, v in zip(arrays, axes, strict=True)
    ]


def _zero_as_none(tangents: Any) -> list[Any]:
    return [None if type(t) is ad.Zero else t for t in tangents]


_trees: set[type] = set()
_lock = lock()


class Jax(Face):
    """The JAX face."""

    name = "jax"

    def bind(self, op: Op) -> Callable[..., Any]:
        """The op as a Primitive."""
        p = Primitive(f"gridfield_{op.name}")
        _eager(p, "text")
        p.def_abstract_eval(lambda *avals, text: _abstract(avals, op.shape(*(a.shape for a in avals), text)))
        mlir.register_lowering(p, _lowering(op, kernel=False))
        mlir.register_lowering(p, _lowering(op, kernel=True), platform="cpu")

        def call(*args: Any) -> Any:
            return p.bind(*_alike(args[:-1]), text=args[-1])

        def jvp(primals: Any, tangents: Any, *, text: str) -> tuple[Any, Any]:
            terms = op.jvp(self, primals, _zero_as_none(tangents), text)
            return call(*primals, text), functools.reduce(operator.add, terms)

        def transpose(ct: Any, *arrays: Any, text: str) -> list[Any]:
            cts: list[Any] = [None] * len(arrays)
            (at,) = (i for i, a in enumerate(arrays) if ad.is_undefined_primal(a))
            if type(ct) is ad.Zero:
                cts[at] = ad.Zero(arrays[at].aval)
            else:
                cts[at] = op.transpose[at](self, ct, arrays, text)
            return cts

        def batch(arrays: Any, axes: Any, *, text: str) -> tuple[Any, int]:
            of = [a is not None for a in axes]
            front = [jnp.moveaxis(x, a, 0) if has else x for x, a, has in zip(arrays, axes, of, strict=True)]
            return batched(self, op, front, of, text), 0

        ad.primitive_jvps[p], ad.primitive_transposes[p], batching.primitive_batchers[p] = jvp, transpose, batch
        return call

    def compose(self, name: str) -> Callable[..., Any]:
        """A composite as a Primitive, for the sake of its transpose; all else is that of the ops it is made of."""
        f, transposed = COMPOSITES[name]
        p = Primitive(f"gridfield_{name}")

        def run(*arrays: Any, text: tuple[str, ...]) -> Any:
            return f(self, *arrays, *text)

        _eager(p, "text")
        p.def_abstract_eval(
            lambda *avals, text: _abstract(avals, jax.eval_shape(functools.partial(run, text=text), *avals).shape)
        )
        mlir.register_lowering(p, mlir.lower_fun(run, multiple_results=False))

        def jvp(primals: Any, tangents: Any, *, text: tuple[str, ...]) -> tuple[Any, Any]:
            first, *rest = _zero_as_none(tangents)
            terms = [] if first is None else [p.bind(first, *primals[1:], text=text)]
            moving = [i for i, t in enumerate(rest, start=1) if t is not None]
            if moving:

                def of(*some: Any) -> Any:
                    arrays = list(primals)
                    for i, a in zip(moving, some, strict=True):
                        arrays[i] = a
                    return run(*arrays, text=text)

                terms.append(jax.jvp(of, [primals[i] for i in moving], [rest[i - 1] for i in moving])[1])
            return p.bind(*primals, text=text), functools.reduce(operator.add, terms)

        def transpose(ct: Any, first: Any, *rest: Any, text: tuple[str, ...]) -> tuple[Any, ...]:
            ct = ad.Zero(first.aval) if type(ct) is ad.Zero else transposed(self, ct, *rest, *text)
            return (ct, *(None for _ in rest))

        def batch(arrays: Any, axes: Any, *, text: tuple[str, ...]) -> tuple[Any, int]:
            return jax.vmap(functools.partial(run, text=text), in_axes=tuple(axes))(*arrays), 0

        ad.primitive_jvps[p], ad.primitive_transposes[p], batching.primitive_batchers[p] = jvp, transpose, batch

        def call(*args: Any) -> Any:
            text = args[-1:] if isinstance(args[-1], str) else ()
            return p.bind(*_alike(args[: len(args) - len(text)]), text=text)

        return call

    def shaped(self, name: str, arrays: Any, shapes: Any, text: str, out_shape: Any) -> Any:
        """In one compiled call, where it is not a part of one already."""
        shapes, out_shape = tuple(map(tuple, shapes)), tuple(out_shape)
        if any(isinstance(a, Tracer) for a in arrays):
            return super().shaped(name, arrays, shapes, text, out_shape)
        with _interrupts():
            return self._compiled(name, shapes, text, out_shape)(*arrays)

    @functools.lru_cache(maxsize=4096)  # noqa: B019 (there is one face)
    def _compiled(self, name: str, shapes: Any, text: str, out_shape: Any) -> Callable[..., Any]:
        return jax.jit(lambda *arrays: Face.shaped(self, name, arrays, shapes, text, out_shape))

    reshape = staticmethod(jnp.reshape)
    moveaxis = staticmethod(jnp.moveaxis)
    einsum = staticmethod(functools.partial(jnp.einsum, precision="highest"))
    sum = staticmethod(jnp.sum)
    broadcast_to = staticmethod(jnp.broadcast_to)
    stack = staticmethod(jnp.stack)
    matmul = staticmethod(functools.partial(jnp.matmul, precision="highest"))
    transpose = staticmethod(jnp.transpose)
    where = staticmethod(jnp.where)
    sin, cos, floor = staticmethod(jnp.sin), staticmethod(jnp.cos), staticmethod(jnp.floor)
    inv, solve = staticmethod(jnp.linalg.inv), staticmethod(jnp.linalg.solve)
    cholesky = staticmethod(jnp.linalg.cholesky)
    sqrt, log, concatenate = staticmethod(jnp.sqrt), staticmethod(jnp.log), staticmethod(jnp.concatenate)
    amin, amax, argmin = staticmethod(jnp.min), staticmethod(jnp.max), staticmethod(jnp.argmin)
    take = staticmethod(lambda x, indices: x[indices])
    exp, conj, roll = staticmethod(jnp.exp), staticmethod(jnp.conj), staticmethod(jnp.roll)
    fft, ifft = staticmethod(jnp.fft.fft), staticmethod(jnp.fft.ifft)

    @staticmethod
    def concrete(x: Any) -> Any:
        """The numbers, or None for a tracer."""
        return None if isinstance(x, Tracer) else np.asarray(x)

    def as_tree(self, cls: Any) -> None:
        """Once for each class."""
        with _lock:
            if cls not in _trees:
                jax.tree_util.register_pytree_node(cls, cls._flattened, cls._unflattened)
                _trees.add(cls)

    def nearby(self, x: Any) -> bool:
        """Whether it lies in the memory of the CPU."""
        return all(d.platform == "cpu" for d in x.devices())

    @staticmethod
    def outside(f: Callable[..., Any], shapes: Any, dtype: str, *arrays: Any) -> tuple[Any, ...]:
        """A callback while something traces.

        On XLA's own buffers where that can be: a pure_callback copies its arguments, and on one core waits for that
        copy for ever.
        """
        if not any(isinstance(a, Tracer) for a in arrays):
            return tuple(jnp.asarray(y, dtype) for y in f(*map(np.asarray, arrays)))
        out = tuple(jax.ShapeDtypeStruct(shape, dtype) for shape in shapes)
        held = map(jax.lax.stop_gradient, arrays)
        if buffer_callback is None or jax.default_backend() != "cpu":
            return jax.pure_callback(
                lambda *a: tuple(np.asarray(y, dtype) for y in f(*map(np.asarray, a))),
                out, *held, vmap_method="sequential",
            )  # fmt: skip

        def run(ctx: Any, targets: Any, *buffers: Any) -> None:
            for target, y in zip(targets, f(*map(np.asarray, buffers)), strict=True):
                np.asarray(target)[...] = y

        return buffer_callback(run, out, vmap_method="sequential")(*held)

    def recomputed(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """As JAX does it."""
        return jax.checkpoint(f)

    def refusing(self, x: Any, message: str) -> Any:
        """x, without a derivative."""
        return _refusing(x, message) if jnp.issubdtype(x.dtype, jnp.floating) else x

    @staticmethod
    def followed(*arrays: Any) -> bool:
        """By a transformation, perhaps."""
        return any(isinstance(a, Tracer) for a in arrays)

    @staticmethod
    def constant(table: Any, dtype: str, like: Any) -> Any:
        """A NumPy table as an array."""
        return jnp.asarray(table, dtype)

    @staticmethod
    def numpy(x: Any) -> Any:
        """The values, bfloat16 as float32."""
        x = np.asarray(x)
        return x.astype(np.float32) if x.dtype.name == "bfloat16" else x

    fixed = staticmethod(jax.lax.stop_gradient)

    @staticmethod
    def copy(x: Any) -> Any:
        """The array itself: nobody can change it."""
        return x

    def device(self, x: Any) -> Any:
        """Its devices; tracers and uncommitted arrays go where the others are."""
        return None if isinstance(x, Tracer) or not x.committed else str(sorted(map(str, x.devices())))

    def widest(self, dtype: str) -> str:
        """float32 instead of float64 unless JAX is told otherwise (jax_enable_x64)."""
        return jax.dtypes.canonicalize_dtype(dtype).name

    @staticmethod
    def dtype(x: Any) -> str:
        """Name of the element type."""
        return x.dtype.name

    @staticmethod
    def astype(x: Any, dtype: str) -> Any:
        """Convert, without a copy where there is nothing to do."""
        return x if x.dtype.name == dtype else x.astype(dtype)

    @staticmethod
    def array(x: Any, dtype: str | None = None) -> Any:
        """From anything array-like."""
        return jnp.asarray(x, dtype)

    @staticmethod
    def as_real(x: Any) -> Any:
        """Complex (...) -> real (..., 2)."""
        return jnp.stack([x.real, x.imag], -1)

    @staticmethod
    def as_complex(x: Any) -> Any:
        """Real (..., 2) -> complex (...)."""
        return jax.lax.complex(x[..., 0], x[..., 1])

    @staticmethod
    def round_to(x: Any, dtype: str) -> Any:
        """Floats to the nearest integers of a type, saturated; NaN is 0."""
        info = np.iinfo(dtype)
        lowest, highest = np.array(info.min, dtype), np.array(info.max, dtype)
        x = jnp.nan_to_num(jnp.round(x), nan=0.0)
        low, high = x <= float(info.min), x >= float(info.max)
        y = jnp.where(low | high, 0.0, x).astype(dtype)
        return jnp.where(low, lowest, jnp.where(high, highest, y))


FACE = Jax()
