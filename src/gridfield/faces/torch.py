"""PyTorch: every op as an autograd.Function around a custom op, with rules derived from ops.py.

Eager calls go through the Function: a custom op alone raises under `torch.func.grad` and silently gives zero under
`torch.func.jvp`. Under `torch.compile` the custom op is called directly, so that the graph does not break.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

import torch

from ..ops import STATIC, Face, Op, batched, vjp
from ..scheme import decode

# which transforms of torch.func are running is known to torch alone (2.5 ... 2.13)
functorch: Any = importlib.import_module("torch._C._functorch")
_names = {t: str(t).removeprefix("torch.") for t in vars(torch).values() if isinstance(t, torch.dtype)}


def _run(op: Op, *args: Any) -> torch.Tensor:
    """The kernel on CPU tensors, without copies; the reference elsewhere."""
    *tensors, text = args
    if all(t.device.type == "cpu" for t in tensors):
        return torch.from_numpy(op.run(*(t.detach().resolve_neg().numpy() for t in tensors), text))
    _warn_once(op.name, tensors[0].device.type)
    with torch.no_grad():
        return op.reference(*tensors, decode(text))


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


def _functions(face: Torch, op: Op) -> tuple[type[torch.autograd.Function], type[torch.autograd.Function]]:
    """The op with the derivatives and batching of ops.py: for plain autograd, and for torch.func.

    torch.func needs `setup_context`, with which torch binds the signature anew in every call: that costs 10 us, a
    third of a small call.
    """

    def keep(ctx: Any, args: tuple[Any, ...]) -> None:
        ctx.save_for_backward(*args[:-1])
        ctx.save_for_forward(*args[:-1])
        ctx.text = args[-1]

    class Rules:
        @staticmethod
        def backward(ctx: Any, ct: torch.Tensor) -> Any:
            return *vjp(face, op, ctx.saved_tensors, ct, ctx.needs_input_grad[:-1], ctx.text), None

        @staticmethod
        def jvp(ctx: Any, *tangents: Any) -> Any:
            return functools.reduce(torch.add, op.jvp(face, ctx.saved_tensors, tangents[:-1], ctx.text))

    class Eager(Rules, torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *args: Any) -> Any:
            keep(ctx, args)
            return _run(op, *args)

    class Transformed(Rules, torch.autograd.Function):
        @staticmethod
        def forward(*args: Any) -> Any:
            return _run(op, *args)

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
            keep(ctx, inputs)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
            return _batched(face, op, in_dims, args), 0

    for cls in (Eager, Transformed):
        cls.__name__ = f"gridfield_{op.name}"
    return Eager, Transformed


def _forward_levels() -> int:
    """How many forward-mode transforms of torch.func are being run."""
    stack = functorch.get_interpreter_stack() or []
    return sum(level.key() == functorch.TransformType.Jvp for level in stack)


class Torch(Face):
    """The torch face."""

    name = "torch"

    def bind(self, op: Op) -> Callable[..., Any]:
        """The op as a function of tensors and the static text."""
        custom, (eager, transformed) = _custom_op(self, op), _functions(self, op)

        def call(*args: Any) -> torch.Tensor:
            if torch.compiler.is_compiling():
                return custom(*args)
            if functorch.peek_interpreter_stack() is None:
                if torch.autograd.forward_ad._current_level >= 0:
                    return eager.apply(*args)
                if torch.is_grad_enabled() and any(t.requires_grad for t in args[:-1]):
                    return eager.apply(*args)
                return _run(op, *args)
            if _forward_levels() > 1:
                raise NotImplementedError(
                    f"gf.{op.name}: forward-mode over forward-mode is silently zero in torch's custom functions; "
                    "use torch.func.hessian or jacfwd(jacrev(f)), reverse mode inside"
                )
            return transformed.apply(*args)

        return call

    @staticmethod
    def reshape(x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        """As NumPy's."""
        return x.reshape(shape)

    @staticmethod
    def moveaxis(x: torch.Tensor, source: int, target: int) -> torch.Tensor:
        """As NumPy's."""
        return x.movedim(source, target)

    einsum = staticmethod(torch.einsum)
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

for _f in STATIC:  # the recipes are imported before this
    torch.compiler.assume_constant_result(_f)
