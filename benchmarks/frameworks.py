"""What a call costs in each framework: gf.sample at ten points, beside the cheapest custom op the framework has.

Run it by `make bench`. Options: --quick (short runs), --docs (write the table to docs/, too).
"""

import argparse
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before anything imports tensorflow

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch
from _bench import Report, interleave, machine, significant
from jax.experimental.buffer_callback import buffer_callback

import gridfield as gf

GRID = gf.Grid((10, 10, 10))
HOW: dict[str, Any] = {"grid": GRID, "boundary": "natural", "prefilter": False}
VALUES = np.random.default_rng(0).random(GRID.shape).astype(np.float32)
POINTS = np.random.default_rng(1).random((10, 3)).astype(np.float32)

Function = Callable[[], Any]
Row = tuple[str, Function, str, Function]  # how it is called, ours, the custom op, the same with that


def copied(x: np.ndarray) -> np.ndarray:
    """What every custom op here does: as little as can be."""
    return x[:, 0].copy()


def in_numpy() -> list[Row]:
    """No framework."""
    return [("NumPy", lambda: gf.sample(VALUES, POINTS, **HOW), "a copy", lambda: copied(POINTS))]


def in_torch() -> list[Row]:
    """Eager, with and without gradients."""
    values, points = torch.from_numpy(VALUES), torch.from_numpy(POINTS)
    v, x, ct = values.clone().requires_grad_(), points.clone().requires_grad_(), torch.ones(10)

    @torch.library.custom_op("bench::copied", mutates_args=())
    def op(x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(copied(x.numpy(force=True)))

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, v: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return torch.from_numpy(copied(x.numpy(force=True)))

        @staticmethod
        def backward(ctx: Any, ct: torch.Tensor) -> Any:
            return torch.zeros_like(v), torch.zeros_like(x)

    def backward(f: Callable[..., torch.Tensor]) -> Any:
        return torch.autograd.grad(f(v, x), (v, x), ct)

    return [
        ("torch", lambda: gf.sample(values, points, **HOW), "torch.library.custom_op", lambda: op(points)),
        ("torch, forward + backward", lambda: backward(lambda v, x: gf.sample(v, x, **HOW)),
         "torch.autograd.Function", lambda: backward(Function.apply)),
    ]  # fmt: skip


def in_jax() -> list[Row]:
    """Eager and compiled."""
    values, points = jnp.asarray(VALUES), jnp.asarray(POINTS)

    def fill(ctx: Any, out: Any, x: Any) -> None:
        np.asarray(out)[...] = copied(np.asarray(x))

    op = buffer_callback(fill, jax.ShapeDtypeStruct((10,), np.float32))
    compiled, its = jax.jit(lambda v, x: gf.sample(v, x, **HOW)), jax.jit(op)
    gradient = jax.jit(jax.grad(lambda v, x: gf.sample(v, x, **HOW).sum(), argnums=(0, 1)))
    return [
        ("JAX", lambda: gf.sample(values, points, **HOW).block_until_ready(), "jit of a buffer_callback",
         lambda: its(points).block_until_ready()),
        ("JAX, jit", lambda: compiled(values, points).block_until_ready(), "jit of a buffer_callback",
         lambda: its(points).block_until_ready()),
        ("JAX, jit, gradient", lambda: jax.block_until_ready(gradient(values, points)), "jit of a buffer_callback",
         lambda: its(points).block_until_ready()),
    ]  # fmt: skip


def in_tensorflow() -> list[Row]:
    """Eager and in a tf.function."""
    values, points = tf.constant(VALUES), tf.constant(POINTS)
    v, x = tf.Variable(values), tf.Variable(points)

    def op(x: Any) -> Any:
        return tf.numpy_function(copied, [x], tf.float32, stateful=False)

    def gradient(f: Callable[..., Any]) -> Any:
        with tf.GradientTape() as tape:
            y = f(v, x)
        return tape.gradient(y, [v, x])

    @tf.custom_gradient
    def custom(v: Any, x: Any) -> Any:
        return op(x), lambda ct: (tf.zeros_like(v), tf.zeros_like(x))

    compiled, its = tf.function(lambda v, x: gf.sample(v, x, **HOW)), tf.function(op)
    return [
        ("TensorFlow", lambda: gf.sample(values, points, **HOW), "tf.numpy_function", lambda: op(points)),
        ("TensorFlow, tf.function", lambda: compiled(values, points), "tf.function of a tf.numpy_function",
         lambda: its(points)),
        ("TensorFlow, forward + backward", lambda: gradient(lambda v, x: gf.sample(v, x, **HOW)), "tf.custom_gradient",
         lambda: gradient(custom)),
    ]  # fmt: skip


def main() -> None:
    """Measure everything, and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs: for development only")
    parser.add_argument("--docs", action="store_true", help="write the table to docs/overhead.md, too")
    arguments = parser.parse_args()
    report = Report(
        "frameworks-quick" if arguments.quick else "frameworks",
        "What a call costs in each framework",
        "Microseconds of gf.sample at ten points of a 10³ grid, 3-D cubic, float32, beside the cheapest custom op that "
        "the framework offers, which copies ten numbers. Medians of interleaved calls, all compiled and warm.",
        machine(["numpy", "numba", "torch", "jax", "tensorflow-cpu"]),
    )
    table = [["call", "gf.sample, µs", "cheapest custom op, µs", "which"]]
    for rows in (in_numpy(), in_torch(), in_jax(), in_tensorflow()):
        for call, ours, which, theirs in rows:
            for f in (ours, theirs):
                for _ in range(10):
                    f()
            times = interleave({"ours": ours, "theirs": theirs}, 0.5 if arguments.quick else 4.0)
            micro = [significant(1e6 * statistics.median(times[name])) for name in ("ours", "theirs")]
            table.append([call, *micro, which])
            print("  ".join(table[-1]), flush=True)
    report.tables["Ten points"] = table
    report.write(Path(__file__).parent.parent / "docs" / "overhead" if arguments.docs else None)


if __name__ == "__main__":
    main()
