"""What a framework provides, and the ops bound to it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .op import Op
from .table import COMPOSITES, OPS


class Face:
    """One framework: its few array functions, and the ops bound to it. faces/ has a subclass for each."""

    converts = False  # whether `warp` takes values of any real type, which it converts as it reads them

    # what a subclass provides, besides `bind`
    name: str
    reshape: Callable[..., Any]  # these five as NumPy's
    moveaxis: Callable[..., Any]
    einsum: Callable[..., Any]
    broadcast_to: Callable[..., Any]
    stack: Callable[..., Any]
    copy: Callable[[Any], Any]
    fixed: Callable[[Any], Any]  # the same numbers, a constant to derivatives: for comparisons
    array: Callable[[Any], Any]  # from anything array-like
    dtype: Callable[[Any], str]  # the name of the element type
    astype: Callable[[Any, str], Any]
    as_real: Callable[[Any], Any]  # complex (...) -> real (..., 2)
    as_complex: Callable[[Any], Any]  # and back
    round_to: Callable[[Any, str], Any]  # floats to an integer type, rounded and saturated; NaN is 0
    matmul: Callable[[Any, Any], Any]
    sum: Callable[..., Any]  # of all elements, or along one axis
    constant: Callable[[np.ndarray, str, Any], Any]  # (table, dtype, an array whose device it goes to)
    numpy: Callable[[Any], np.ndarray]  # the values, without history; an error where there are none yet
    transpose: Callable[..., Any]  # this and those below as NumPy's
    where: Callable[..., Any]
    sin: Callable[[Any], Any]
    cos: Callable[[Any], Any]
    floor: Callable[[Any], Any]
    inv: Callable[[Any], Any]  # of matrices
    solve: Callable[[Any, Any], Any]  # of matrices, as NumPy's
    cholesky: Callable[[Any], Any]  # the lower factor
    sqrt: Callable[[Any], Any]
    log: Callable[[Any], Any]
    take: Callable[[Any, Any], Any]  # (x, indices): along the first axis
    concatenate: Callable[[Any, int], Any]
    amin: Callable[[Any, int], Any]  # these three along an axis
    amax: Callable[[Any, int], Any]
    argmin: Callable[[Any, int], Any]
    exp: Callable[[Any], Any]
    conj: Callable[[Any], Any]
    roll: Callable[[Any, Any, Any], Any]  # (x, shifts, axes), both tuples
    fft: Callable[[Any, int, int], Any]  # (x, size, axis): of complex x, zeros appended to that size
    ifft: Callable[[Any, int, int], Any]
    concrete: Callable[[Any], np.ndarray | None]  # the numbers, where they are known: not while tracing
    # (f, shapes, dtype, *arrays) -> arrays of that type: f, of NumPy arrays, on the numbers, which it gets while
    # something traces too. It makes an array of each of the shapes (None: a size that the trace does not know),
    # must not raise, and is a constant to derivatives; what maps calls it for every item.
    outside: Callable[..., tuple[Any, ...]]
    followed: Callable[..., bool]  # whether derivatives of any of these arrays may be asked for

    # what `bind` makes of OPS
    sample: Callable[..., Any]
    splat: Callable[..., Any]
    dot: Callable[..., Any]
    prefilter: Callable[..., Any]
    pad: Callable[..., Any]
    fold: Callable[..., Any]
    warp: Callable[..., Any]
    correlate: Callable[..., Any]
    square: Callable[..., Any]
    bilinear: Callable[..., Any]
    least: Callable[..., Any]
    interact: Callable[..., Any]
    shifted: Callable[..., Any]
    steer: Callable[..., Any]
    weigh: Callable[..., Any]
    moments: Callable[..., Any]
    projected: Callable[..., Any]
    moved: Callable[..., Any]
    posed: Callable[..., Any]
    slid: Callable[..., Any]
    turned: Callable[..., Any]
    along: Callable[..., Any]
    push: Callable[..., Any]
    spread: Callable[..., Any]

    def __init__(self) -> None:
        for name, op in OPS.items():
            setattr(self, name, self.bind(op))
        for name in COMPOSITES:
            setattr(self, name, self.compose(name))

    def shape(self, x: Any) -> tuple[Any, ...]:
        """Sizes of the axes, for reshapes; what a tracing compiler does not know yet may be a tensor."""
        return tuple(x.shape)

    def device(self, x: Any) -> Any:
        """Where an array is: equal for arrays that can be used together."""
        return x.device

    def version(self, x: Any) -> int | None:
        """Changes when the numbers of an array do. None: unknown, or such numbers reach the kernels as copies."""
        return None

    def as_tree(self, cls: Any) -> None:
        """Make instances of a class trees of arrays, by its `_flattened` and `_unflattened`, where there are such."""

    def apart(self, f: Callable[..., Any], *args: Any) -> Any:
        """f(*args), which a compiler that cannot look into it leaves as it is."""
        return f(*args)

    def refusing(self, x: Any, message: str) -> Any:
        """x; a derivative in it is a TypeError, as far as that can be known."""
        return x

    def nearby(self, x: Any) -> bool:
        """Whether an array lies in the memory of the CPU."""
        return True

    def at_hand(self, x: Any) -> np.ndarray | None:
        """The numbers, for a kernel that no op stands for: None where they are not known, elsewhere, or followed."""
        return self.concrete(x) if not self.followed(x) and self.nearby(x) else None

    def linear(self, f: Callable[..., np.ndarray], adjoint: Callable[..., np.ndarray], x: Any, *of: Any) -> Any:
        """f(x), f a linear map of NumPy arrays, which depends on the arrays `of`. None: not where x is, or followed."""
        known = self.at_hand(x)
        return None if known is None else self.constant(f(known), self.dtype(x), x)

    def recomputed(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """f, whose inner values a backward pass computes again instead of keeping them, where a framework can."""
        return f

    def known(self, size: Any) -> int | None:
        """The size of an axis, if it is a number, the same in each call of what a compiler makes."""
        return size if isinstance(size, int) else None

    def widest(self, dtype: str) -> str:
        """The float type that stands for this one, where a framework does not have all of them switched on."""
        return dtype

    def shaped(self, name: str, arrays: Any, shapes: Any, text: str, out_shape: Any) -> Any:
        """An op between reshapes: of its arrays to `shapes`, of its result to `out_shape`."""
        out = getattr(self, name)(*(self.reshape(a, s) for a, s in zip(arrays, shapes, strict=True)), text)
        return self.reshape(out, out_shape)

    def bind(self, op: Op) -> Callable[..., Any]:
        """The op as a differentiable function of this framework's arrays."""
        raise NotImplementedError

    def compose(self, name: str) -> Callable[..., Any]:
        """A composite as a function of this framework's arrays."""
        return functools.partial(COMPOSITES[name][0], self)
