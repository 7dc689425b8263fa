"""How each framework differentiates, maps and compiles: the columns of the table in test_frameworks.py.

An adapter turns a function of arrays into another one. What a framework cannot do is in `cannot`, with the error and
the reason; the test of such a cell checks that it fails so, and a mark has to go on the day it does not. Without an
error the framework has no such thing, or the reason says where it is tested.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import functools
import operator
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
import torch._dynamo.exc

from gridfield import dispatch


def summed(terms):
    return functools.reduce(operator.add, terms)


class Framework:
    """What all columns have in common."""

    title = ""
    face = "numpy"
    integers = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool")
    cannot: ClassVar[dict] = {}  # {transformation, or (transformation, function): (error, reason)}

    @property
    def F(self):
        return dispatch.of(self.face)

    def scalar(self, f, shape):
        """sum(weights * sin(f)), f of that shape: a number that no derivative of is constant."""
        w = self.asarray(np.cos(np.arange(np.prod(shape))).reshape(shape))
        return lambda *arrays: self.sum(w * self.sin(f(*arrays)))

    def once(self, f):
        """f for one call, as fast as that gets."""
        return f

    def along(self, f, directions, derivative=None):
        """The derivative of a scalar function, by reverse mode, along fixed directions."""
        gradient = (derivative or self.grad)(f)
        return lambda *arrays: summed(self.sum(g * d) for g, d in zip(gradient(*arrays), directions, strict=True))


class NumPy(Framework):
    title = "NumPy"

    def asarray(self, x, dtype=None):
        return np.asarray(x, dtype)

    numpy = staticmethod(np.asarray)
    sum, sin = staticmethod(np.sum), staticmethod(np.sin)
    half = (np.float16,)
    kind = np.ndarray


class Torch(Framework):
    title, face = "torch (autograd)", "torch"
    kind = torch.Tensor
    half = (torch.float16, torch.bfloat16)
    integers = ("int8", "uint8", "int16", "int32", "int64", "bool")  # the others it has are not for computing
    sum, sin = staticmethod(torch.sum), staticmethod(torch.sin)
    cannot: ClassVar[dict] = {
        "vmap": (None, "autograd has none: see `torch.func`"),
        "vmap of the gradient": (None, "autograd has none: see `torch.func`"),
        "forward over forward": (RuntimeError, "torch has one level of forward mode outside of `torch.func`"),
    }

    def asarray(self, x, dtype=None):
        return torch.as_tensor(x, dtype=dtype)

    def numpy(self, x):
        return x.detach().float().numpy() if x.dtype == torch.bfloat16 else x.detach().numpy()

    def grad(self, f):
        def gradient(*arrays):
            leaves = [a if a.requires_grad else a.detach().requires_grad_() for a in arrays]
            return torch.autograd.grad(f(*leaves), leaves, create_graph=True)

        return gradient

    def jvp(self, f, primals, tangents):
        import torch.autograd.forward_ad as forward

        with forward.dual_level():
            moving = [p if p.requires_grad else p.detach().requires_grad_() for p in primals]
            return forward.unpack_dual(f(*map(forward.make_dual, moving, tangents))).tangent

    def compile(self, f):
        # the back end does not matter for what the graph holds, and Inductor takes seconds a function
        torch.compiler.reset()
        return torch.compile(f, fullgraph=True, backend="aot_eager")


class TorchFunc(Torch):
    title = "torch.func"
    cannot: ClassVar[dict] = {
        "forward over forward": (
            NotImplementedError,
            "torch gives zero silently in a custom function, so gridfield raises; use `torch.func.hessian`",
        ),
        ("forward over forward", "SplineField.on_grid"): (None, None),  # no custom function: matrix products
        "compiled gradient": (
            torch._dynamo.exc.TorchRuntimeError,
            "torch.compile of a `torch.func.grad` through a custom op fails inside torch",
        ),
        ("compiled gradient", "SplineField.on_grid"): (None, None),
    }

    def grad(self, f):
        return lambda *arrays: torch.func.grad(f, argnums=tuple(range(len(arrays))))(*arrays)

    def jvp(self, f, primals, tangents):
        return torch.func.jvp(f, primals, tangents)[1]

    def vmap(self, f, of):
        return torch.func.vmap(f, in_dims=tuple(0 if o else None for o in of))


class Jax(Framework):
    title, face = "JAX", "jax"
    kind = jax.Array
    half = (jnp.float16, jnp.bfloat16)
    sum, sin = staticmethod(jnp.sum), staticmethod(jnp.sin)

    def asarray(self, x, dtype=None):
        return jnp.asarray(x, dtype)

    def numpy(self, x):
        return np.asarray(x, np.float32) if x.dtype == jnp.bfloat16 else np.asarray(x)

    def grad(self, f):
        return lambda *arrays: jax.grad(f, argnums=tuple(range(len(arrays))))(*arrays)

    def jvp(self, f, primals, tangents):
        return jax.jvp(f, primals, tangents)[1]

    def vmap(self, f, of):
        return jax.vmap(f, in_axes=tuple(0 if o else None for o in of))

    compile = once = staticmethod(jax.jit)  # traced and compiled as one, 4 times faster than operation by operation

    def loop(self, f, scales):
        return jax.lax.scan(lambda carry, s: (carry, f(s)), 0, scales)[1]


class TensorFlow(Framework):
    title, face = "TensorFlow (eager)", "tensorflow"
    kind = tf.Tensor
    half = (tf.float16, tf.bfloat16)
    sum, sin = staticmethod(tf.reduce_sum), staticmethod(tf.sin)
    cannot: ClassVar[dict] = {
        "save and reload": (None, "eager code has nothing to save"),
        "compiled": (None, "see `tf.function`"),
        "compiled gradient": (None, "see `tf.function`"),
        "unknown sizes": (None, "see `tf.function`"),
    }

    def asarray(self, x, dtype=None):
        return tf.cast(tf.convert_to_tensor(x), dtype) if dtype is not None else tf.convert_to_tensor(x)

    def numpy(self, x):
        return x.numpy().astype(np.float32) if x.dtype == tf.bfloat16 else x.numpy()

    def grad(self, f):
        def gradient(*arrays):
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                y = f(*arrays)
            return tape.gradient(y, arrays)

        return gradient

    def jvp(self, f, primals, tangents):
        with tf.autodiff.ForwardAccumulator(primals, tangents) as accumulator:
            y = f(*primals)
        return accumulator.jvp(y)

    def vmap(self, f, of):
        def mapped(*arrays):
            def one(given):
                rest = iter(given)
                return f(*(next(rest) if o else a for a, o in zip(arrays, of, strict=True)))

            return tf.vectorized_map(one, [a for a, o in zip(arrays, of, strict=True) if o])

        return mapped


class TensorFlowFunction(TensorFlow):
    title = "TensorFlow (tf.function)"
    cannot: ClassVar[dict] = {
        "save and reload": (
            None,
            "a SavedModel cannot hold Python code (a test of its own); save Keras models as `.keras`",
        ),
    }

    def grad(self, f):
        """The outermost derivative is in one function, with all that is inside."""
        return lambda *arrays: self.once(super(TensorFlowFunction, self).grad(f))(*arrays)

    def jvp(self, f, primals, tangents):
        return self.once(lambda p, t: super(TensorFlowFunction, self).jvp(f, p, t))(primals, tangents)

    @staticmethod
    def once(f):
        return tf.function(f) if tf.executing_eagerly() else f

    def vmap(self, f, of):
        return tf.function(TensorFlow.vmap(self, f, of))

    compile = once

    def loop(self, f, scales):
        return tf.map_fn(f, scales)


FRAMEWORKS = {f.title: f for f in (NumPy(), Torch(), TorchFunc(), Jax(), TensorFlow(), TensorFlowFunction())}
