"""TensorFlow: every op as a NumPy function with a gradient of our own, by rules derived from ops/."""

from __future__ import annotations

import contextlib
import threading
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from ..ops import OPS, Face, Op, vjp

try:  # which arguments a GradientTape or a ForwardAccumulator follows is known to TensorFlow alone
    from tensorflow.python.eager.forwardprop_util import pack_tangents
    from tensorflow.python.eager.record import record_operation, should_record_backprop, stop_recording
except (
    ImportError
):  # another version: no forward mode inside of tf.function; gradients that nobody wants are worked out
    stop_recording, record_operation = contextlib.nullcontext, None

    def should_record_backprop(tensors: Any) -> bool:  # noqa: D103
        return True

    def pack_tangents(tensors: Any) -> Any:  # noqa: D103
        return types.SimpleNamespace(tangents=())


_inside = threading.local()  # .forward: an accumulator is transposing a gradient, which it follows without a tape


def _followed(x: Any) -> bool:
    return should_record_backprop([x]) or bool(pack_tangents([x]).tangents) or getattr(_inside, "forward", False)


def _run(op: Op, *arrays: Any, text: str) -> Any:
    """The kernel on what is there."""
    return tf.convert_to_tensor(op.run(*map(np.asarray, arrays), text))


class TensorFlow(Face):
    """The TensorFlow face."""

    name = "tensorflow"

    def __init__(self) -> None:
        self.gradients: dict[tuple[str, str], str] = {}
        super().__init__()

    def bind(self, op: Op) -> Callable[..., Any]:
        """The op with its gradient."""

        def call(*args: Any) -> Any:
            *arrays, text = args
            eager = tf.executing_eagerly()
            everything = not eager or getattr(_inside, "forward", False)
            forward = any(pack_tangents([a]).tangents for a in arrays)
            wanted = [everything or forward or should_record_backprop([a]) for a in arrays]
            if not any(wanted):
                return _run(op, *arrays, text=text)

            def grad(ct: Any) -> tuple[Any, ...]:
                if ct.shape.rank is None:  # as accumulators make it
                    ct.set_shape(op.shape(*(tuple(a.shape) for a in arrays), text))
                outer = getattr(_inside, "forward", False)
                _inside.forward = outer or forward
                try:
                    return vjp(self, op, arrays, ct, wanted, text)
                finally:
                    _inside.forward = outer

            if eager:
                return tf.custom_gradient(lambda *_: (_run(op, *arrays, text=text), grad))(*arrays)
            if record_operation is None:
                return tf.custom_gradient(lambda *_: (self._node(op, arrays, text), grad))(*arrays)
            with stop_recording():
                out = self._node(op, arrays, text)
            record_operation(op.name, [out], arrays, grad)  # for tapes and accumulators inside of this function
            return out

        return call

    def _node(self, op: Op, arrays: Any, text: str) -> Any:
        """The op in a graph, with a gradient in terms of its own inputs.

        That is what tf.gradients and whatever takes the graph apart (the backward pass of a function, a loop, a
        vectorized_map) look for: a custom gradient would be lost there, silently. Stateless: results that nobody uses
        are not worked out, as gradients in arguments that are not asked for.
        """
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map({"PyFuncStateless": self._gradient(op, text)}):
            out = tf.numpy_function(
                lambda *a: op.run(*a, text), arrays, arrays[0].dtype, stateful=False, name=f"gridfield_{op.name}"
            )
        out.set_shape(op.shape(*(tuple(a.shape) for a in arrays), text))
        return out

    def _gradient(self, op: Op, text: str) -> str:
        """The name under which TensorFlow knows the gradient."""
        key = op.name, text
        if key not in self.gradients:
            name = f"gridfield_{op.name}_{len(self.gradients)}"

            def gradient(node: Any, ct: Any) -> list[Any]:
                ct.set_shape(node.outputs[0].shape)
                return list(vjp(self, op, tuple(node.inputs), ct, [True] * op.arrays, text))

            tf.RegisterGradient(name)(gradient)
            self.gradients[key] = name
        return self.gradients[key]

    def shaped(self, name: str, arrays: Any, shapes: Any, text: str, out_shape: Any) -> Any:
        """Reshaped in NumPy where nobody follows: a view costs 0.3 us there, 20 us in TensorFlow."""
        if not tf.executing_eagerly() or any(map(_followed, arrays)):
            return super().shaped(name, arrays, shapes, text, out_shape)
        views = [np.asarray(a).reshape(s) for a, s in zip(arrays, shapes, strict=True)]
        return tf.convert_to_tensor(OPS[name].run(*views, text).reshape(out_shape))

    reshape = staticmethod(tf.reshape)
    sum = staticmethod(tf.reduce_sum)
    broadcast_to = staticmethod(tf.broadcast_to)
    matmul = staticmethod(tf.matmul)
    copy = staticmethod(tf.identity)
    fixed = staticmethod(tf.stop_gradient)
    transpose = staticmethod(tf.transpose)
    where = staticmethod(tf.where)
    sin, cos, floor = staticmethod(tf.sin), staticmethod(tf.cos), staticmethod(tf.floor)
    inv, solve = staticmethod(tf.linalg.inv), staticmethod(tf.linalg.solve)
    cholesky = staticmethod(tf.linalg.cholesky)
    sqrt, log, concatenate = staticmethod(tf.sqrt), staticmethod(tf.math.log), staticmethod(tf.concat)
    amin, amax, argmin = staticmethod(tf.reduce_min), staticmethod(tf.reduce_max), staticmethod(tf.argmin)
    take = staticmethod(tf.gather)
    exp, conj, roll = staticmethod(tf.exp), staticmethod(tf.math.conj), staticmethod(tf.roll)

    @staticmethod
    def fft(x: Any, size: int, axis: int) -> Any:
        """Zeros are appended to that size."""
        x = TensorFlow.moveaxis(x, axis, len(x.shape) - 1)  # TensorFlow has no kernel for other axes on the CPU
        zeros = tf.zeros(tf.concat([tf.shape(x)[:-1], [size - x.shape[-1]]], 0), x.dtype)
        x = tf.concat([x, zeros], -1)
        return TensorFlow.moveaxis(tf.signal.fft(x), len(x.shape) - 1, axis)

    @staticmethod
    def ifft(x: Any, size: int, axis: int) -> Any:
        """The inverse."""
        return tf.math.conj(TensorFlow.fft(tf.math.conj(x), size, axis)) / size

    @staticmethod
    def concrete(x: Any) -> Any:
        """The numbers, or None in a graph."""
        return x.numpy() if hasattr(x, "numpy") and tf.executing_eagerly() else None

    def nearby(self, x: Any) -> bool:
        """Whether it lies in the memory of the CPU."""
        return "CPU" in x.device

    @staticmethod
    def outside(f: Callable[..., Any], shapes: Any, dtype: str, *arrays: Any) -> tuple[Any, ...]:
        """A NumPy function, also in a graph."""

        def run(*given: Any) -> list[Any]:
            return [np.asarray(y, dtype) for y in f(*map(np.asarray, given))]

        with stop_recording():
            out = tf.numpy_function(run, list(map(tf.stop_gradient, arrays)), [tf.as_dtype(dtype)] * len(shapes), False)
        out = list(out) if isinstance(out, (list, tuple)) else [out]  # of one, eager code gets the tensor itself
        for y, shape in zip(out, shapes, strict=True):
            y.set_shape(shape)
        return tuple(map(tf.stop_gradient, out))

    def refusing(self, x: Any, message: str) -> Any:
        """x, unless a tape follows it; in a graph, of a tape around that nothing is known."""
        if should_record_backprop([x]) or pack_tangents([x]).tangents:
            raise TypeError(message)
        return x

    @staticmethod
    def followed(*arrays: Any) -> bool:
        """By a tape or an accumulator; who knows, in a graph."""
        return not tf.executing_eagerly() or any(map(_followed, arrays))

    @staticmethod
    def constant(table: Any, dtype: str, like: Any) -> Any:
        """A NumPy table as a tensor."""
        return tf.constant(table, dtype)

    @staticmethod
    def numpy(x: Any) -> Any:
        """The values, bfloat16 as float32."""
        if not hasattr(x, "numpy"):
            raise TypeError(f"{x} has no values yet")
        x = x.numpy()
        return x.astype(np.float32) if x.dtype.name == "bfloat16" else x

    @staticmethod
    def stack(x: Any, axis: int = 0) -> Any:
        """As NumPy's."""
        return tf.stack(x, axis)

    @staticmethod
    def moveaxis(x: Any, source: int, target: int) -> Any:
        """As NumPy's."""
        axes = list(range(len(x.shape)))
        axis = axes.pop(source)
        axes.insert(target % len(x.shape), axis)
        return tf.transpose(x, axes)

    @staticmethod
    def einsum(subscripts: str, a: Any, b: Any) -> Any:
        """As NumPy's."""
        return tf.einsum(subscripts, a, b)

    def shape(self, x: Any) -> tuple[Any, ...]:
        """Sizes of the axes: ints, and tensors where a traced function does not know them."""
        static = tuple(x.shape)
        if None not in static:
            return static
        dynamic = tf.shape(x)
        return tuple(dynamic[i] if n is None else n for i, n in enumerate(static))

    def device(self, x: Any) -> None:
        """TensorFlow copies between devices by itself."""

    @staticmethod
    def dtype(x: Any) -> str:
        """Name of the element type."""
        return x.dtype.name

    @staticmethod
    def astype(x: Any, dtype: str) -> Any:
        """Convert, without a copy where there is nothing to do."""
        return tf.cast(x, dtype)

    @staticmethod
    def array(x: Any, dtype: str | None = None) -> Any:
        """From anything array-like; of a Variable its value."""
        x = tf.convert_to_tensor(x, dtype)
        if x.shape.rank is None:
            raise ValueError("its number of axes is unknown while tracing: give it a shape, e.g. by set_shape")
        return x

    @staticmethod
    def as_real(x: Any) -> Any:
        """Complex (...) -> real (..., 2)."""
        return tf.stack([tf.math.real(x), tf.math.imag(x)], -1)

    @staticmethod
    def as_complex(x: Any) -> Any:
        """Real (..., 2) -> complex (...)."""
        return tf.complex(x[..., 0], x[..., 1])

    @staticmethod
    def round_to(x: Any, dtype: str) -> Any:
        """Floats to the nearest integers of a type, saturated; NaN is 0."""
        target = tf.as_dtype(dtype)
        x = tf.round(tf.where(tf.math.is_nan(x), tf.zeros_like(x), x))
        low, high = x <= float(target.min), x >= float(target.max)
        y = tf.cast(tf.where(low | high, tf.zeros_like(x), x), target)
        lowest, highest = tf.constant(target.min, target), tf.constant(target.max, target)
        return tf.where(low, lowest, tf.where(high, highest, y))


FACE = TensorFlow()
