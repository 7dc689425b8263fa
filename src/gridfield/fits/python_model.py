"""Models that are Python functions of NumPy, torch, JAX or TensorFlow: values and Jacobians of many fits at once.

Which framework a function is written in is found by calling it. Derivatives come from that framework; those of NumPy
functions by the complex step, exact to rounding where the function takes complex numbers (J. R. R. A. Martins,
P. Sturdza, J. J. Alonso, ACM Trans. Math. Softw. 29 (2003), 245-262), else by central differences.
"""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from .blocks import boxes, part_of
from .parameters import Parameters

Array = np.ndarray[Any, Any]

WAYS = ("auto", "autodiff", "complex", "2-point", "3-point")
BLOCK = 2**22  # numbers of a Jacobian that are made at a time
POINTS = 2**16  # of a block, where f can be evaluated by blocks: 4096^2 points of 7 parameters, see docs/curve_fit.md
TINY = 1e-30  # complex step
STEP = float(np.finfo(float).eps) ** (1 / 3)


class Function:
    """f of one fit or of many.

    coords: arrays that broadcast to (fits or 1, *shape), with `build`, which makes of them what f takes.
    """

    def __init__(
        self, f: Callable[..., Any], parameters: Parameters, coords: Sequence[Array], build: Callable[[list[Any]], Any],
        shape: tuple[int, ...], fits: int, jac: Any, start: Array, framework: str, where: str,
    ) -> None:  # fmt: skip
        self.f, self.parameters, self.coords, self.build = f, parameters, list(coords), build
        self.shape, self.fits, self.where, self.jac = shape, fits, where, jac
        self.low, self.high = np.full(start.shape[1], -np.inf), np.full(start.shape[1], np.inf)
        self.exact = float(np.finfo(float).eps)
        self.framework, value = self._find(framework, start)
        if value.dtype.kind == "c":
            raise TypeError(f"{where}: f must return real numbers, got {value.dtype}: fit its parts, or its abs")
        self._compiled: dict[Any, Any] = {}
        self.together = fits <= 1 or self._broadcasts(start, value)
        self.points = self._points(start, value)
        del value
        self.way = self._choose(start)

    def elsewhere(self, coords: Sequence[Array], shape: tuple[int, ...]) -> Function:
        """The same at other coordinates, of one fit."""
        other = copy.copy(self)
        other.coords, other.shape, other._compiled, other.together = list(coords), shape, {}, False
        other.points = None
        return other

    # ---- parts of the points
    def block(self, box: tuple[slice, ...]) -> Function:
        """The same at some of its points."""
        shape = tuple(len(range(n)[s]) for n, s in zip(self.shape, box, strict=True))
        other = self.elsewhere([part_of(c, box) for c in self.coords], shape)
        other._compiled = self._compiled.setdefault(shape, {})
        return other

    def blocks(self) -> Iterator[tuple[slice, Function]]:
        """Where in C order each block is, and f there; all of it where f cannot be evaluated by blocks."""
        if self.points is None:
            yield slice(0, prod(self.shape)), self
            return
        for place, box in boxes(self.shape, self.points):
            yield place, self.block(box)

    def _points(self, start: Array, value: Array) -> int | None:
        """How many points at a time; None: all."""
        if prod(self.shape) * (start.shape[1] + 2) <= BLOCK:
            return None
        first = self._first(start)
        self.points = POINTS
        if not (self.splits(start[first], first, value) and self.splits(start[first] * 1.05 + 1e-6, first)):
            return None
        return POINTS if not callable(self.jac) or self._jacobian_splits(start[first], first) else None

    @staticmethod
    def _first(start: Array) -> int:
        """A fit that begins somewhere."""
        return int(np.isfinite(start).all(1).argmax())

    def splits(self, theta: Array, fit: int, value: Array | None = None) -> bool:
        """Whether f of a block is that part of f of all points, to rounding: not if it normalises or convolves.

        A function over arrays of its own cannot be called with a part, either.
        """
        try:
            with np.errstate(all="ignore"):
                x = _to(self.framework, theta)
                value = self._checked(self._one(x, fit), self.shape) if value is None else value
                value, largest = value.reshape(-1), 0.0
                for place, part in self.blocks():
                    ours, theirs = part._checked(part._one(x, fit), part.shape).reshape(-1), value[place]
                    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
                    if same.all():
                        continue
                    if not largest:
                        largest = float(np.abs(value).max(initial=0.0, where=np.isfinite(value)))
                    if not (same | (np.abs(ours - theirs) <= 4 * self.exact * largest)).all():
                        return False
        except Exception:  # of the user's function: whatever it likes
            return False
        return True

    def _jacobian_splits(self, theta: Array, fit: int) -> bool:
        """The same of a Jacobian that is given, in the first block and in a part of it: all of it is too large."""
        try:
            box = next(boxes(self.shape, self.points or POINTS))[1]
            some = self.block(box)
            whole = some._given(theta, fit)
            for place, part in boxes(some.shape, max(1, prod(some.shape) // 3)):
                if not np.allclose(some.block(part)._given(theta, fit), whole[:, place], 1e-12, 0.0, equal_nan=True):
                    return False
        except Exception:  # of the user's function: whatever it likes
            return False
        return True

    # ---- calls
    def _arrays(self, which: Any, framework: str) -> list[Any]:
        """Coordinates of some fits, (m or 1, *shape); of one, without its axis."""
        out = []
        for c in self.coords:
            c = c[0] if len(c) == 1 and np.ndim(which) == 0 else c if len(c) == 1 else c[which]
            out.append(_to(framework, c))
        return out

    def _one(self, theta: Any, fit: int, framework: str | None = None) -> Any:
        """f at parameters (p,) of any framework, as it comes."""
        framework = framework or self.framework
        return self.parameters.call(self.f, self.build(self._arrays(fit, framework)), theta)

    def _many(self, theta: Any, which: Array) -> Any:
        """f at parameters (m, p) by broadcasting: each of shape (m, 1, ..., 1)."""
        coords = self.build(self._arrays(which, self.framework))
        return self.parameters.call(self.f, coords, theta, (len(which), *(1 for _ in self.shape)))

    def _find(self, framework: str, start: Array) -> tuple[str, Array]:
        """The framework of f, and its values at the first start."""
        loaded = [name for name in dispatch.FRAMEWORKS if name in sys.modules]
        order = [framework, *(name for name in ("numpy", *loaded) if name != framework)]
        first = self._first(start)
        failure: Exception | None = None
        for name in order:
            try:
                with np.errstate(all="ignore"):
                    value = self._one(_to(name, start[first]), first, name)
            except Exception as error:  # of the user's function: whatever it likes
                failure = failure or error
                continue
            found = dispatch.frameworks((type(value),))[0] or "numpy"
            if found == name:
                return found, self._checked(value, self.shape)
            if found != "numpy" and found not in order[: order.index(name)]:
                value = self._one(_to(found, start[first]), first, found)
                return found, self._checked(value, self.shape)
            return name, self._checked(value, self.shape)
        if failure is None:  # not reached: order is not empty
            raise RuntimeError
        raise failure

    def _checked(self, value: Any, shape: tuple[int, ...]) -> Array:
        """Values as a NumPy array of their shape."""
        value = _numpy(value)
        if value.dtype.kind not in "fiubc":
            raise TypeError(f"{self.where}: f must return numbers, got an array of {value.dtype}")
        if value.dtype.kind == "f":
            self.exact = max(self.exact, float(np.finfo(value.dtype).eps))
        try:
            return np.broadcast_to(value, shape)
        except ValueError:
            raise ValueError(
                f"{self.where}: f returned shape {value.shape}, but the data of a fit have shape {shape}"
            ) from None

    def _broadcasts(self, start: Array, value: Array) -> bool:
        """Whether f of many fits at once is f of each of them."""
        if self.framework in ("torch", "jax"):
            return True  # mapped
        some = np.unique(np.linspace(0, self.fits - 1, 3).astype(int))
        # at places of their own: what mixes fits shows only where they differ
        theta = start[some] * (1 + 0.05 * np.arange(1, len(some) + 1))[:, None] + 1e-6
        try:
            with np.errstate(all="ignore"):
                together = self._checked(self._many(_to(self.framework, theta), some), (len(some), *self.shape))
                each = [
                    self._checked(self._one(_to(self.framework, x), int(i)), self.shape)
                    for x, i in zip(theta, some, strict=True)
                ]
        except Exception:  # it takes one fit only
            return False
        return bool(np.allclose(together, np.stack(each), rtol=1e-10, atol=1e-300, equal_nan=True))

    def _maps(self, start: Array) -> bool:
        """Whether torch or JAX can follow f: np.exp takes a tensor, and gives one, but cannot be mapped."""
        try:
            _, part = next(self.blocks())
            if self.jac in ("auto", "autodiff"):
                part.jacobian(start[:1], np.arange(1), "autodiff")
            else:
                part.value(start[:1], np.arange(1))
        except Exception:  # of the user's function: whatever it likes
            return False
        return True

    def _in_numpy(self, start: Array) -> None:
        """Call f with NumPy's arrays instead, if it takes them."""
        try:
            with np.errstate(all="ignore"):
                value = self._one(start[0], 0, "numpy")
        except Exception:
            return
        if dispatch.frameworks((type(value),))[0] in ("", "numpy"):
            self.framework = "numpy"
            value = self._checked(value, self.shape)
            self.together = self.fits <= 1 or self._broadcasts(start, value)
            self.points = self._points(start, value)

    # ---- values and derivatives
    def _choose(self, start: Array) -> str:
        """How derivatives are made."""
        if self.framework in ("torch", "jax") and not self._maps(start):
            self._in_numpy(start)
        # TensorFlow's tensors become NumPy's in np.exp, and their derivative nothing, without a word
        if (
            self.framework == "tensorflow"
            and self.jac == "auto"
            and not self.agrees(start[:1], np.arange(1), "autodiff")
        ):
            self._in_numpy(start)
            if self.framework != "numpy":
                return "3-point"
        if callable(self.jac):
            return "given"
        if self.jac not in WAYS:
            raise ValueError(
                f"{self.where}: jac must be one of {', '.join(map(repr, WAYS))} or a function, got {self.jac!r}"
            )
        if self.jac == "autodiff" and self.framework == "numpy":
            raise ValueError(f"{self.where}: jac='autodiff' needs a function of torch, JAX or TensorFlow")
        if self.jac not in ("auto", "autodiff"):
            return self.jac
        if self.framework != "numpy":
            try:
                next(self.blocks())[1].jacobian(start[:1], np.arange(1), "autodiff")
            except Exception:
                if self.jac == "autodiff":
                    raise
                return "3-point"
            return "autodiff"
        return "complex" if self.agrees(start[:1], np.arange(1)) else "3-point"

    def agrees(self, params: Array, which: Array, way: str = "complex") -> bool:
        """Whether a way gives what differences give: some functions drop the imaginary part, or derivatives."""
        size: Any = 0.0  # largest derivative, and difference, in each parameter
        off: Any = 0.0
        try:
            for _, part in self.blocks():
                ours, theirs = (part.jacobian(params, which, way)[1] for way in (way, "3-point"))
                with np.errstate(all="ignore"):
                    size = np.maximum(size, np.abs(theirs).max(-1, initial=0.0))
                    off = np.maximum(off, np.abs(ours - theirs).max(-1, initial=0.0))
        except Exception:  # what takes no complex numbers raises this or that
            return False
        return bool((off <= 1e-4 * size + 1e-300).all() or not np.isfinite(size).all())

    def value(self, params: Array, which: Array) -> Array:
        """(m, n) at the parameters (m, p) of the fits `which`."""
        if self.framework in ("torch", "jax"):
            return self._mapped("value", params, which)
        return self._plain(params, which)

    def _plain(self, params: Array, which: Array) -> Array:
        shape = (len(which), *self.shape)
        with np.errstate(all="ignore"):
            if not self.together or len(which) == 1:
                each = [
                    self._checked(self._one(_to(self.framework, x), i), self.shape)
                    for x, i in zip(params, which, strict=True)
                ]
                return np.stack(each).reshape(len(which), -1)
            return self._checked(self._many(_to(self.framework, params), which), shape).reshape(len(which), -1)

    def jacobian(self, params: Array, which: Array, way: str | None = None) -> tuple[Array, Array]:
        """(f (m, n), J (m, p, n))."""
        way = way or self.way
        if way == "given":
            return self.value(params, which), np.stack([self._given(x, i) for x, i in zip(params, which, strict=True)])
        if way == "autodiff":
            return (
                self._forward(params, which) if self.framework == "tensorflow" else self._mapped("both", params, which)
            )
        f = self.value(params, which)
        J = np.empty((*params.shape, f.shape[1]))
        if way == "complex":
            theta = params.astype(complex)
            for k in range(params.shape[1]):
                theta[:, k] += 1j * TINY
                column = self._plain(theta, which)
                if column.dtype.kind != "c":
                    raise TypeError("f does not return complex numbers")
                J[:, k] = column.imag / TINY
                theta[:, k] = params[:, k]
            return f.real, J
        h = (STEP if way == "3-point" else STEP**1.5) * np.where(params != 0, np.abs(params), 1.0)
        for k in range(params.shape[1]):
            up, down = params.copy(), params.copy()
            up[:, k] = np.minimum(params[:, k] + h[:, k], self.high[k])
            down[:, k] = np.maximum(params[:, k] - h[:, k], self.low[k]) if way == "3-point" else params[:, k]
            width = np.where(up[:, k] > down[:, k], up[:, k] - down[:, k], 1.0)
            below = f if way == "2-point" else self.value(down, which)
            J[:, k] = (self.value(up, which) - below) / width[:, None]
        return f, J

    def _given(self, x: Array, fit: int) -> Array:
        with np.errstate(all="ignore"):
            J = self.parameters.call(self.jac, self.build(self._arrays(fit, self.framework)), _to(self.framework, x))
        if isinstance(J, dict):
            J = np.stack([np.broadcast_to(_numpy(J[name]), self.shape) for name in self.parameters.names], -1)
        J, p = _numpy(J), len(x)
        if J.shape not in ((*self.shape, p), (int(np.prod(self.shape)), p)):
            raise ValueError(
                f"{self.where}: jac returned shape {J.shape}, expected {(*self.shape, p)}, the parameters last"
            )
        return J.reshape(-1, p).T

    def _mapped(self, what: str, params: Array, which: Array) -> Any:
        """By torch.func or jax, mapped over fits; of one fit without that."""
        name = self.framework
        if what not in self._compiled:
            self._compiled[what] = _transformed(self, what, [len(c) > 1 for c in self.coords])
        theta = _to(name, params)
        coords = [_to(name, c if len(c) == 1 else c[which]) for c in self.coords]
        out = self._compiled[what](
            theta, *(c[0] if k == 1 else c for c, k in zip(coords, map(len, self.coords), strict=True))
        )
        if what == "value":
            return _numpy(out).astype(np.float64).reshape(len(which), -1)
        f, J = (_numpy(a).astype(np.float64) for a in out)
        return f.reshape(len(which), -1), np.moveaxis(J.reshape(len(which), -1, params.shape[1]), -1, 1)

    def _forward(self, params: Array, which: Array) -> tuple[Array, Array]:
        """By TensorFlow's forward accumulators, a parameter at a time."""
        import tensorflow as tf

        if not self.together and len(which) > 1:
            each = [self._forward(params[m : m + 1], which[m : m + 1]) for m in range(len(which))]
            return tuple(np.concatenate(a) for a in zip(*each, strict=True))  # type: ignore[return-value]
        theta, columns, f = tf.constant(params), [], None
        for k in range(params.shape[1]):
            tangent = np.zeros_like(params)
            tangent[:, k] = 1
            with tf.autodiff.ForwardAccumulator(theta, tf.constant(tangent)) as accumulator:
                f = self._many(theta, which) if len(which) > 1 else self._one(theta[0], int(which[0]))
            columns.append(accumulator.jvp(f, tf.UnconnectedGradients.ZERO))
        shape = (len(which), *self.shape)
        f, *columns = (self._checked(a, shape).reshape(len(which), -1) for a in (f, *columns))
        return f, np.stack(columns, 1)


def _transformed(model: Function, what: str, own: Sequence[bool]) -> Callable[..., Any]:
    """f, or f and its Jacobian, of (m, p) parameters."""
    size = int(np.prod(model.shape))

    def one(theta: Any, *coords: Any) -> Any:
        y = model.parameters.call(model.f, model.build(list(coords)), theta)
        return spread(model.framework, y, model.shape, size)

    if model.framework == "jax":
        import jax

        both = lambda theta, *coords: (one(theta, *coords), jax.jacfwd(one)(theta, *coords))  # noqa: E731
        return jax.jit(jax.vmap(one if what == "value" else both, in_axes=(0, *(0 if o else None for o in own))))
    import torch

    both = lambda theta, *coords: (one(theta, *coords), torch.func.jacfwd(one)(theta, *coords))  # noqa: E731
    mapped = torch.func.vmap(one if what == "value" else both, in_dims=(0, *(0 if o else None for o in own)))

    def run(*arrays: Any) -> Any:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch's own use of torch.jit.script
            return mapped(*arrays)

    return run


def spread(framework: str, y: Any, shape: tuple[int, ...], size: int) -> Any:
    """Values of one fit in one axis."""
    if framework == "torch":
        return y.broadcast_to(shape).reshape(size)
    F = dispatch.of(framework)
    return F.reshape(F.broadcast_to(y, shape), (size,))


def _to(framework: str, x: Any) -> Any:
    """A NumPy array in a framework, in float64 where that has it."""
    if framework == "numpy":
        return x
    F = dispatch.of(framework)
    return F.array(x if framework == "jax" or (x.flags.c_contiguous and x.flags.writeable) else np.array(x))


def _numpy(x: Any) -> Array:
    """Any array's numbers."""
    framework = dispatch.frameworks((type(x),))[0]
    return np.asarray(x) if framework in ("", "numpy") else dispatch.of(framework).numpy(x)
