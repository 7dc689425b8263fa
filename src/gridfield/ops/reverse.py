"""Reverse mode and batching, derived from what an op states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..scheme import decode
from .marks import static
from .op import Op
from .table import COMPOSITES, OPS


class _Traced:
    """A tangent whose linear history is remembered: `back` takes a cotangent of this to one of `source`."""

    __slots__ = ("back", "source")

    def __init__(self, source: _Traced | None = None, back: Callable[[Any], Any] = lambda ct: ct) -> None:
        self.source, self.back = source, back


class _Tracing:
    """A Face whose ops, given a _Traced, only note how to transpose that step."""

    def __init__(self, F: Any) -> None:
        self._face = F

    def __getattr__(self, name: str) -> Callable[..., Any]:
        F = self._face

        def step(*args: Any) -> Any:
            at = next((i for i, a in enumerate(args) if type(a) is _Traced), None)
            if at is None:
                return getattr(F, name)(*args)
            traced = args[at]
            if name in COMPOSITES:
                return _Traced(traced, lambda ct: COMPOSITES[name][1](F, ct, *args[1:]))
            return _Traced(traced, lambda ct: OPS[name].transpose[at](F, ct, args[:-1], args[-1]))

        return step


def vjp(F: Any, op: Op, arrays: Sequence[Any], ct: Any, wanted: Sequence[bool], text: str) -> tuple[Any, ...]:
    """Cotangents of the wanted arguments (None for the others): the jvp in each, transposed."""
    out: list[Any] = []
    for i, want in enumerate(wanted):
        if not want:
            out.append(None)
            continue
        tangents = [_Traced() if j == i else None for j in range(len(wanted))]
        (traced,) = op.jvp(_Tracing(F), arrays, tangents, text)
        cotangent = ct
        while traced is not None:
            cotangent, traced = traced.back(cotangent), traced.source
        out.append(cotangent)
    return tuple(out)


def batched(F: Any, op: Op, arrays: Sequence[Any], of: Sequence[bool], text: str) -> Any:
    """The op over one more leading axis, on the arrays marked in `of`.

    By more points or channels where that does, else by joining it to the batch axis, which all arrays have.
    """
    if op.merge is not None and (result := op.merge(F, arrays, of, text)) is not None:
        return result
    size = next(a.shape[0] for a, has in zip(arrays, of, strict=True) if has)
    whole = [a if has else F.broadcast_to(a, (size, *a.shape)) for a, has in zip(arrays, of, strict=True)]
    y = getattr(F, op.name)(*(F.reshape(a, (size * a.shape[1], *a.shape[2:])) for a in whole), text)
    return F.reshape(y, (size, y.shape[0] // size if size else 0, *y.shape[1:]))


@static
def derived(text: str, depth: int = 2) -> None:
    """Work out the texts that derivatives of an op need, before a compiler traces how that is done."""
    for name in ("linear", "up", "flipped", "sample"):
        further = getattr(decode(text), name, None)
        if isinstance(further, str) and further != text and depth:
            derived(further, depth - 1)
