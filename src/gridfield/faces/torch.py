"""PyTorch: every op as an autograd.Function around a custom op, with rules derived from ops/.

Eager calls go through the Function: a custom op alone raises under `torch.func.grad` and silently gives zero under
`torch.func.jvp`. Under `torch.compile` the custom op is called directly, so that the graph does not break.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

from ..cpu.kept import Store, current, kept
from ..ops import OPS, Face, Op, batched, derived, of_waves, vjp
from ..scheme import decode
from .numpy import FACE as NUMPY

# which transforms of torch.func are running is known to torch alone (2.5 ... 2.13)
functorch: Any = importlib.import_module("torch._C._functorch")
transforms: Any = importlib.import_module("torch._functorch.eager_transforms")
_names = {t: str(t).removeprefix("torch.") for t in vars(torch).values() if isinstance(t, torch.dtype)}


def _run(op: Op, *args: Any) -> torch.Tensor:
    """The kernel on CPU tensors, without copies; the reference elsewhere."""
    *tensors, text = args
    if all(t.is_cpu for t in tensors):
        return torch.from_numpy(op.run(*[t.numpy(force=True) for t in tensors], text))  # force: of whatever history
    _warn_once(op.name, tensors[0].device.type)
    with torch.no_grad():
        return op.reference(*tensors, decode(text))


def _arrays(tensors: Sequence[torch.Tensor], shapes: Sequence[Any]) -> list[Any] | None:
    """CPU tensors as NumPy arrays of these shapes: a view costs 0.3 us there, 0.9 us in torch. None: not on the CPU."""
    if not all(t.is_cpu for t in tensors):
        return None
    return [t.numpy(force=True).reshape(s) for t, s in zip(tensors, shapes, strict=True)]


def _run_shaped(op: Op, text: str, tensors: Sequence[torch.Tensor], shapes: Sequence[Any], out_shape: Any) -> Any:
    """The op between reshapes."""
    arrays = _arrays(tensors, shapes)
    if arrays is None:
        return _run(op, *map(torch.reshape, tensors, shapes), text).reshape(out_shape)
    return torch.from_numpy(op.run(*arrays, text).reshape(out_shape))


@functools.cache
def _warn_once(op: str, device: str) -> None:
    warnings.warn(
        f"gridfield has no {op} kernel for {device!r} tensors yet: using the reference implementation in plain torch, "
        "which is slower and takes more memory",
        stacklevel=4,
    )


def _custom_op(face: Torch, op: Op) -> Any:
    """The op known to torch.compile."""
    names = [f"a{i}" for i in range(op.arrays)]
    schema = f"({', '.join(f'Tensor {n}' for n in names)}, str text) -> Tensor"
    custom = torch.library.custom_op(
        f"gridfield::{op.name}", functools.partial(_run, op), mutates_args=(), schema=schema
    )
    custom.register_fake(lambda *args: args[0].new_empty(op.shape(*(a.shape for a in args[:-1]), args[-1])))

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[:-1])
        ctx.text = inputs[-1]

    def backward(ctx: Any, ct: torch.Tensor) -> tuple[Any, ...]:
        return *vjp(face, op, ctx.saved_tensors, ct, ctx.needs_input_grad[:-1], ctx.text), None

    custom.register_autograd(backward, setup_context=setup_context)
    custom.register_vmap(lambda info, in_dims, *args: (_batched(face, op, in_dims, args), 0))
    return custom


def _batched(face: Torch, op: Op, in_dims: tuple[Any, ...], args: tuple[Any, ...]) -> torch.Tensor:
    *tensors, text = args
    of = [d is not None for d in in_dims[:-1]]
    front = [t if d is None else t.movedim(d, 0) for t, d in zip(tensors, in_dims, strict=False)]
    return batched(face, op, front, of, text)


def _each_of_batch(f: Callable[..., Any], *batch: Any) -> tuple[Any, ...]:
    """f of every item of (co)tangents under the vmap of torch.autograd (is_grads_batched, vectorize=True)."""
    private: Any = torch
    level = private._C._vmapmode_increment_nesting() - 1
    private._C._vmapmode_decrement_nesting()
    lists = [private._remove_batch_dim(x, level, 1, 0) if _in_batch(x) else x for x in batch]
    count = next(len(items) for items, x in zip(lists, batch, strict=True) if _in_batch(x))
    each = ([x[i] if _in_batch(of) else x for x, of in zip(lists, batch, strict=True)] for i in range(count))
    parts = zip(*(f(*items) for items in each), strict=True)
    return tuple(None if p[0] is None else private._add_batch_dim(torch.stack(p), 0, level) for p in parts)


def _in_batch(x: Any) -> bool:
    return x is not None and functorch.is_legacy_batchedtensor(x)


def _functions(face: Torch, op: Op) -> tuple[type[torch.autograd.Function], type[torch.autograd.Function]]:
    """The op with the derivatives and batching of ops/: for plain autograd, and for torch.func.

    torch.func needs `setup_context`, with which torch binds the signature anew in every call: that costs 10 us, a
    third of a small call.
    """

    class Eager(torch.autograd.Function):
        """Arguments have their users' shapes: views inside cost no nodes in the graph, 30 us of 200 in a small call."""

        @staticmethod
        def forward(ctx: Any, text: str, shapes: Sequence[Any], out_shape: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            if forward_ad._current_level >= 0:
                ctx.save_for_forward(*tensors)
            ctx.static = text, shapes, out_shape
            # autograd vouches for the points that it saves: the backward pass need not locate them again
            ctx.store = current() or (Store() if of_waves(text) else None)
            with kept(ctx.store):
                return _run_shaped(op, text, tensors, shapes, out_shape)

        @staticmethod
        def backward(ctx: Any, ct: torch.Tensor) -> Any:
            if functorch.is_legacy_batchedtensor(ct):
                return _each_of_batch(lambda one: Eager.backward(ctx, one), ct)
            with kept(ctx.store):
                return Eager._backward(ctx, ct)

        @staticmethod
        def _backward(ctx: Any, ct: torch.Tensor) -> Any:
            text, shapes, _ = ctx.static
            tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[3:]
            every, inner = [*tensors, ct], [*shapes, op.shape(*shapes, text)]
            arrays = None
            plain = not torch.is_grad_enabled() and forward_ad._current_level < 0
            if plain and functorch.peek_interpreter_stack() is None:
                arrays = _arrays(every, inner)
            if arrays is None:
                *arrays, ct = map(torch.reshape, every, inner)
                cts = vjp(face, op, arrays, ct, wanted, text)
            else:  # nobody differentiates this again: NumPy's calls are cheaper (a third of a small backward pass)
                *arrays, ct = arrays
                cts = [g if g is None else torch.from_numpy(g) for g in vjp(NUMPY, op, arrays, ct, wanted, text)]
            shaped = (g if g is None else g.reshape(t.shape) for g, t in zip(cts, tensors, strict=True))
            return None, None, None, *shaped

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            if any(map(_in_batch, tangents[3:])):
                first = tangents[:3]
                return _each_of_batch(lambda *items: (Eager.jvp(ctx, *first, *items),), *tangents[3:])[0]
            text, shapes, out_shape = ctx.static
            arrays = list(map(torch.reshape, ctx.saved_tensors, shapes))
            flat = [t if t is None else t.reshape(s) for t, s in zip(tangents[3:], shapes, strict=True)]
            return functools.reduce(torch.add, op.jvp(face, arrays, flat, text)).reshape(out_shape)

    class Transformed(torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return _run(op, *args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            ctx.save_for_backward(*inputs[:-1])
            ctx.save_for_forward(*inputs[:-1])
            ctx.text = inputs[-1]

        @staticmethod
        def backward(ctx: Any, ct: torch.Tensor) -> Any:
            return *vjp(face, op, ctx.saved_tensors, ct, ctx.needs_input_grad[:-1], ctx.text), None

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            return functools.reduce(torch.add, op.jvp(face, ctx.saved_tensors, tangents[:-1], ctx.text))

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
            return _batched(face, op, in_dims, args), 0

    for cls in (Eager, Transformed):
        cls.__name__ = f"gridfield_{op.name}"
    return Eager, Transformed


class _Linear(torch.autograd.Function):
    """A linear map of NumPy arrays with its adjoint: each is the other's derivative backwards.

    Tensors that they depend on are saved, so that changing one of them in place is noticed.
    """

    @staticmethod
    def forward(ctx: Any, f: Callable[..., Any], adjoint: Callable[..., Any], x: Any, *of: torch.Tensor) -> Any:
        ctx.maps = f, adjoint
        ctx.save_for_backward(*of)
        return torch.from_numpy(f(Torch.numpy(x)))

    @staticmethod
    def backward(ctx: Any, ct: torch.Tensor) -> Any:
        if functorch.is_legacy_batchedtensor(ct):
            return _each_of_batch(lambda one: _Linear.backward(ctx, one), ct)
        (f, adjoint), of = ctx.maps, ctx.saved_tensors
        return None, None, _Linear.apply(adjoint, f, ct, *of), *(None for _ in of)


class _Outside(torch.autograd.Function):
    """A NumPy function of the numbers, for autograd and torch.func: constant, and mapped item by item."""

    @staticmethod
    def forward(f: Callable[..., Any], shapes: Any, dtype: torch.dtype, *tensors: torch.Tensor) -> Any:
        made = f(*map(Torch.numpy, tensors))
        return tuple(torch.as_tensor(y).to(tensors[0].device, dtype) for y in made)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.mark_non_differentiable(*output)
        ctx.count = len(output)

    @staticmethod
    def backward(ctx: Any, *cts: Any) -> Any:
        return (None,) * len(ctx.needs_input_grad)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return (None,) * ctx.count

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        f, shapes, dtype, *tensors = args
        if info.batch_size == 0:
            return tuple(tensors[0].new_empty((0, *s), dtype=dtype) for s in shapes), (0,) * len(shapes)
        dims = in_dims[3:]
        items = [
            _outside(
                f, shapes, dtype, *(t if d is None else t.select(d, i) for t, d in zip(tensors, dims, strict=True))
            )
            for i in range(info.batch_size)
        ]
        return tuple(map(torch.stack, zip(*items, strict=True))), (0,) * len(shapes)


def _outside(*args: Any) -> Any:
    return _Outside.apply(*args)


def _aside(f: Callable[..., Any], *args: Any) -> Any:
    return f(*args)


_private: Any = torch
# torch.compiler.disable would import all of Dynamo
_uncompiled, _apart = _private._disable_dynamo(_outside), _private._disable_dynamo(_aside)


def _twice_forward(op: Op) -> NotImplementedError:
    return NotImplementedError(
        f"gf.{op.name}: forward-mode over forward-mode is silently zero in torch's custom functions; "
        "use torch.func.hessian or jacfwd(jacrev(f)), reverse mode inside"
    )


def _forward_levels() -> int:
    """How many forward-mode transforms of torch.func are being run."""
    stack = functorch.get_interpreter_stack() or []
    return sum(level.key() == functorch.TransformType.Jvp for level in stack)


TENSORS = (torch.Tensor, torch.nn.Parameter)


def _followed(tensors: Sequence[Any]) -> bool:
    """Whether autograd, in reverse or forward mode, follows these tensors."""
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


class Torch(Face):
    """The torch face."""

    name = "torch"

    def __init__(self) -> None:
        self.eager: dict[str, Any] = {}
        super().__init__()

    def shaped(self, name: str, arrays: Any, shapes: Any, text: str, out_shape: Any) -> Any:
        """Without nodes for the reshapes where autograd alone follows."""
        traced = torch.compiler.is_compiling() or not all(type(t) in TENSORS for t in arrays)
        if traced or functorch.peek_interpreter_stack() is not None:
            return super().shaped(name, arrays, shapes, text, out_shape)
        if not _followed(arrays):
            return _run_shaped(OPS[name], text, arrays, shapes, out_shape)
        return self.eager[name].apply(text, shapes, out_shape, *arrays)

    def bind(self, op: Op) -> Callable[..., Any]:
        """The op as a function of tensors and the static text."""
        custom, (eager, transformed) = _custom_op(self, op), _functions(self, op)

        def dual(*args: Any) -> torch.Tensor:
            """Forward mode by hand: a custom op has no rule for it, and gives zeros."""
            *tensors, text = args
            derived(text)
            primals, tangents = zip(*map(forward_ad.unpack_dual, tensors), strict=True)
            if transforms.JVP_NESTING > 1:
                raise _twice_forward(op)
            out = custom(*primals, text)
            if all(t is None for t in tangents):
                return out
            return forward_ad.make_dual(out, functools.reduce(torch.add, op.jvp(self, primals, tangents, text)))

        def call(*args: Any) -> torch.Tensor:
            if torch.compiler.is_compiling() or not all(type(t) in TENSORS for t in args[:-1]):
                # fake, functional and other traced tensors
                return custom(*args) if forward_ad._current_level < 0 else dual(*args)
            if functorch.peek_interpreter_stack() is None:
                tensors = args[:-1]
                if not _followed(tensors):
                    return _run(op, *args)
                shapes = [t.shape for t in tensors]
                return eager.apply(args[-1], shapes, op.shape(*shapes, args[-1]), *tensors)
            if _forward_levels() > 1:
                raise _twice_forward(op)
            return transformed.apply(*args)

        self.eager[op.name] = eager
        return call

    @staticmethod
    def reshape(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """As NumPy's."""
        return x.reshape(shape)

    @staticmethod
    def moveaxis(x: torch.Tensor, source: int, target: int) -> torch.Tensor:
        """As NumPy's."""
        return x.movedim(source, target)

    @staticmethod
    def einsum(subscripts: str, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """Of two tensors, by multiplying and summing.

        torch.einsum makes a matrix product for each point of it, and rounds to half precision under autocast.
        """
        (of_a, of_b), out = subscripts.split("->")[0].split(","), subscripts.split("->")[1]
        letters = out + "".join(dict.fromkeys(c for c in of_a + of_b if c not in out))

        def aligned(x: torch.Tensor, of: str) -> torch.Tensor:
            x = x.permute([of.index(c) for c in letters if c in of])
            return x.reshape([x.shape[[d for d in letters if d in of].index(c)] if c in of else 1 for c in letters])

        product = aligned(a, of_a) * aligned(b, of_b)
        summed = list(range(len(out), len(letters)))
        return product.sum(summed) if summed else product

    @staticmethod
    def constant(table: Any, dtype: str, like: torch.Tensor) -> torch.Tensor:
        """A NumPy table as a tensor beside another."""
        return torch.as_tensor(table).to(like.device, getattr(torch, dtype))

    @staticmethod
    def outside(f: Callable[..., Any], shapes: Any, dtype: str, *arrays: torch.Tensor) -> tuple[Any, ...]:
        """A function of its own, at which torch.compile breaks the graph."""
        run = _uncompiled if torch.compiler.is_compiling() else _outside
        return run(f, shapes, getattr(torch, dtype), *arrays)

    def apart(self, f: Callable[..., Any], *args: Any) -> Any:
        """With a break of the graph that torch.compile makes."""
        return _apart(f, *args) if torch.compiler.is_compiling() else f(*args)

    def refusing(self, x: torch.Tensor, message: str) -> torch.Tensor:
        """x, unless it is followed, by torch.func perhaps."""
        forward = forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None
        if forward or (torch.is_grad_enabled() and x.requires_grad):
            raise TypeError(message)
        return x

    @staticmethod
    def followed(*arrays: torch.Tensor) -> bool:
        """By autograd or torch.func."""
        return _followed(arrays) or functorch.peek_interpreter_stack() is not None

    @staticmethod
    def numpy(x: torch.Tensor) -> Any:
        """The values on the CPU, without history, bfloat16 as float32."""
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy(force=True)

    copy = staticmethod(torch.clone)
    fixed = staticmethod(torch.Tensor.detach)

    @staticmethod
    def matmul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        """As NumPy's, in the type of a and b under autocast too."""
        with torch.autocast(a.device.type, enabled=False):
            return a @ b

    sum = staticmethod(torch.sum)
    transpose = staticmethod(torch.permute)
    where = staticmethod(torch.where)
    sin, cos, floor = staticmethod(torch.sin), staticmethod(torch.cos), staticmethod(torch.floor)
    inv, solve = staticmethod(torch.linalg.inv), staticmethod(torch.linalg.solve)
    cholesky = staticmethod(torch.linalg.cholesky)
    sqrt, log, concatenate = staticmethod(torch.sqrt), staticmethod(torch.log), staticmethod(torch.cat)
    amin, amax, argmin = staticmethod(torch.amin), staticmethod(torch.amax), staticmethod(torch.argmin)
    take = staticmethod(lambda x, indices: x[indices])

    @staticmethod
    def concrete(x: torch.Tensor) -> Any:
        """The numbers, or None while something traces."""
        traced = torch.compiler.is_compiling() or functorch.peek_interpreter_stack() is not None
        return None if traced or type(x) not in TENSORS else x.numpy(force=True)

    def known(self, size: Any) -> int | None:
        """Not under a compiler, which would have to compile anew for another size."""
        return None if torch.compiler.is_compiling() else super().known(size)

    def recomputed(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """Not under torch.func or a compiler, which keeps what it likes."""
        if torch.compiler.is_compiling() or functorch.peek_interpreter_stack() is not None:
            return f
        if not torch.is_grad_enabled() or forward_ad._current_level >= 0:
            return f
        from torch.utils.checkpoint import checkpoint

        return functools.partial(checkpoint, f, use_reentrant=False, preserve_rng_state=False)

    def version(self, x: torch.Tensor) -> int | None:
        """How often it has been changed in place, as far as torch counts that."""
        if torch.compiler.is_compiling() or functorch.peek_interpreter_stack() is not None:
            return None
        known = type(x) in TENSORS and x.is_cpu and x.is_contiguous() and not x.is_inference()
        return x._version if known else None

    def linear(self, f: Callable[..., Any], adjoint: Callable[..., Any], x: torch.Tensor, *of: torch.Tensor) -> Any:
        """Followed by plain autograd backwards, too."""
        traced = torch.compiler.is_compiling() or type(x) not in TENSORS
        if traced or not x.is_cpu or forward_ad._current_level >= 0 or functorch.peek_interpreter_stack() is not None:
            return None
        return _Linear.apply(f, adjoint, x, *of)

    def nearby(self, x: torch.Tensor) -> bool:
        """Whether it lies in the memory of the CPU."""
        return x.is_cpu

    exp, conj, roll = staticmethod(torch.exp), staticmethod(torch.conj_physical), staticmethod(torch.roll)
    fft, ifft = staticmethod(torch.fft.fft), staticmethod(torch.fft.ifft)
    broadcast_to = staticmethod(torch.broadcast_to)
    stack = staticmethod(torch.stack)

    @staticmethod
    def dtype(x: torch.Tensor) -> str:
        """Name of the element type."""
        return _names[x.dtype]

    @staticmethod
    def astype(x: torch.Tensor, dtype: str) -> torch.Tensor:
        """Convert, without a copy where there is nothing to do."""
        return x.to(getattr(torch, dtype))

    @staticmethod
    def array(x: Any, dtype: str | None = None) -> torch.Tensor:
        """From anything array-like."""
        if dtype is None and isinstance(x, torch.Tensor):
            if x.layout is not torch.strided or x.is_nested:
                kind = "nested" if x.is_nested else str(x.layout).removeprefix("torch.")
                raise TypeError(f"a {kind} tensor; give a dense one, e.g. x.to_dense()")
            return x
        return torch.as_tensor(x, dtype=None if dtype is None else getattr(torch, dtype))

    @staticmethod
    def as_real(x: torch.Tensor) -> torch.Tensor:
        """Complex (...) -> real (..., 2)."""
        return torch.view_as_real(x.resolve_conj())

    @staticmethod
    def as_complex(x: torch.Tensor) -> torch.Tensor:
        """Real (..., 2) -> complex (...)."""
        return torch.view_as_complex(x.contiguous())

    @staticmethod
    def round_to(x: torch.Tensor, dtype: str) -> torch.Tensor:
        """Floats to the nearest integers of a type, saturated; NaN is 0."""
        target = getattr(torch, dtype)
        info = torch.iinfo(target)
        x = torch.nan_to_num(x.round(), nan=0.0)
        low, high = x <= float(info.min), x >= float(info.max)
        y = torch.where(low | high, 0.0, x).to(target)
        return torch.where(low, info.min, torch.where(high, info.max, y))


FACE = Torch()
