"""Derivatives of an optimum in what it depends on: data, sigma, fixed parameters.

At the optimum the gradient g(p; data) of the cost in the parameters is zero, so dp = -H^-1 dg, H the Hessian with its
second-order term (implicit function theorem). That is the derivative of one step of Newton's method from the optimum,
and two steps, whose own derivatives are followed, have those of the optimum to third order: the error of each step is
the square of that before. So derivatives of any order up to that, forward or reverse, are the framework's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from ..equation import Equation, parse
from .least_squares import CONVERGED, Scale
from .parameters import Parameters

Array = np.ndarray[Any, Any]

RHO = {
    "huber": "where(z <= 1, z, 2*sqrt(max(z, 1)) - 1)",
    "soft_l1": "2*(sqrt(1 + z) - 1)",
    "cauchy": "log(1 + z)",
}


def tensors(*given: Any) -> list[Any]:
    """All arrays of a framework among arguments that may be dictionaries or lists."""
    out = []
    for x in given:
        if isinstance(x, dict):
            out += tensors(*x.values())
        elif isinstance(x, (list, tuple)):
            out += tensors(*x) if any(hasattr(v, "shape") for v in x) else []
        elif dispatch.frameworks((type(x),))[0] not in ("", "numpy"):
            out.append(x)
    return out


def read(given: Any) -> Any:
    """The same with the values of variables of TensorFlow in their place, whose reading a tape sees."""
    if isinstance(given, dict):
        return {k: read(v) for k, v in given.items()}
    if isinstance(given, (list, tuple)) and any(hasattr(v, "shape") for v in given):
        return type(given)(map(read, given)) if type(given) in (list, tuple) else given
    framework = dispatch.frameworks((type(given),))[0]
    return dispatch.of(framework).array(given) if framework == "tensorflow" else given


def traced(*given: Any) -> bool:
    """Whether the numbers of some array are not known now."""
    return any(dispatch.of(dispatch.frameworks((type(x),))[0]).concrete(x) is None for x in tensors(*given))


def unknown(*given: Any) -> bool:
    """Whether numbers are not even known without their derivatives."""
    faces = ((dispatch.of(dispatch.frameworks((type(x),))[0]), x) for x in tensors(*given))
    return any(F.concrete(F.fixed(x)) is None for F, x in faces)


def gradient(F: Any, f: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The gradient of a sum, as a function that can be followed and differentiated again."""
    if F.name == "jax":
        import jax

        return jax.grad(f)
    if F.name == "torch":
        import torch

        return torch.func.grad(f)
    import tensorflow as tf

    def of(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)

    return of


def taken(F: Any, x: Any, index: Array) -> Any:
    """Elements by their number in C order."""
    flat = F.reshape(x, (prod(F.shape(x)),))
    if F.name == "tensorflow":
        import tensorflow as tf

        return tf.gather(flat, index)
    return flat[index] if F.name == "jax" else flat[F.array(np.array(index))]


class Objective:
    """The cost of fits in a framework, of parameters (fits, p) and what else is followed."""

    def __init__(
        self, F: Any, parts: Sequence[Any], parameters: Parameters, loss: tuple[str, float], dtype: str, like: Any,
        scale: Scale | None = None,
    ) -> None:  # fmt: skip
        for part in parts:
            function = getattr(part.model, "function", None)
            # what takes tensors is not always what can be followed: np.exp does
            if function is not None and (
                function.framework != F.name or (function.jac == "auto" and function.way != "autodiff")
            ):
                raise TypeError(
                    f"gf.curve_fit: derivatives of the optimum cannot be followed through f in {F.name}: write it in "
                    f"{F.name} alone or as an equation, or give data without derivatives"
                )
        self.F, self.parts, self.parameters, self.loss, self.dtype, self.like = F, parts, parameters, loss, dtype, like
        self.scale = scale

    def constant(self, x: Array) -> Any:
        """A NumPy array here."""
        return self.F.constant(np.ascontiguousarray(x), self.dtype, self.like)

    def rows(self, x: Any, index: Array) -> Any:
        """(fits, n) of an array as the user gave it."""
        return taken(self.F, self.F.astype(x, self.dtype), index)

    def cost(self, theta: Any, ys: Sequence[Any], sigmas: Sequence[Any]) -> Any:
        """The sum over all fits."""
        F, total = self.F, None
        for part, y, sigma in zip(self.parts, ys, sigmas, strict=True):
            data, theta_ = part.data, theta
            shape, n = data.shape, prod(data.shape)
            if self.scale is not None:
                theta_ = theta * self.constant(self.scale.params)
            own = F.stack([theta_[:, int(k)] for k in part.places], 1)
            f = part.model.evaluate(F, own, [self.constant(c) for c in data.coords], shape)
            f = F.reshape(f, (data.fits, n))
            there = F.fixed(y) == F.fixed(y)
            zero, one = self.constant(np.zeros(())), self.constant(np.ones(()))
            r = F.where(there, f, zero) - F.where(there, y, zero)
            if sigma is not None:
                good = there & (F.fixed(sigma) > 0)
                r = F.where(good, r, zero) / F.where(good, sigma, one)
            if data.whitening is not None:
                r = F.matmul(r, self.constant(data.whitening.matrix.T))
            if self.scale is not None:
                r = r * self.constant(self.scale.data[:, None])
            name, scale = self.loss
            square = r * r
            if name != "linear":
                bend = np.full((1, 1), scale)
                if self.scale is not None:  # of residuals in units of their own, as in scaling.py
                    bend = np.minimum(scale * self.scale.data[:, None], 1e100)
                by = self.constant(bend)
                z = (r / by) ** 2
                square = by * by * _rho(name).evaluate(F, {"z": z})
            total = F.sum(square) / 2 if total is None else total + F.sum(square) / 2
        return total

    def refined(self, popt: Any, held: Any, values: Any, ys: Sequence[Any], sigmas: Sequence[Any]) -> Any:
        """popt (fits, p), with derivatives. held (fits, p): 1 where it does not move but for `values`, else 0."""
        F = self.F
        p = self.parameters.size
        start = F.fixed(popt)
        one = self.constant(np.ones((1, p)) if self.scale is None else self.scale.params)
        bad = start != start
        base = F.where(bad, self.constant(np.ones(())), start)
        fixed = held > 0.5
        x = F.where(fixed, values, base) / one
        identity = self.constant(np.eye(p))

        def cost(x: Any) -> Any:
            return self.cost(x, ys, sigmas)

        slope = gradient(F, cost)
        for _ in range(2):
            g = slope(x)
            H = F.stack([gradient(F, lambda x, k=k: F.sum(slope(x)[:, k]))(x) for k in range(p)], 1)
            row, column = F.reshape(held, (-1, p, 1)), F.reshape(held, (-1, 1, p))
            free = (1 - row) * (1 - column)
            H = F.where(free > 0.5, H, row * identity)
            g = F.where(fixed, self.constant(np.zeros(())), g)
            x = x - F.reshape(F.matmul(F.inv(H), F.reshape(g, (-1, p, 1))), (-1, p))
        moved = (x - F.fixed(x)) * one  # the numbers stay those of the fit
        return F.where(bad, start, start + moved)


def _rho(name: str) -> Equation:
    return parse(RHO[name], ("z",))


def fixed_values(
    F: Any, kept: dict[str, Any], parameters: Parameters, batch: Any, fits: int, rows: Any, dtype: str
) -> Any:
    """(fits, p): the values of fixed parameters, followed; elsewhere those of `rows`."""
    columns = []
    for name, shape, at in parameters.spans():
        value = kept.get(name)
        size = prod(shape)
        if value is None or not tensors(value):
            columns += [rows[:, at + k] for k in range(size)]
            continue
        v = F.astype(value, dtype)
        given = F.shape(v)
        if batch and given[: len(batch)] == tuple(batch):
            v = F.reshape(v, (*batch, *given[len(batch) :], *(1,) * (len(batch) + len(shape) - len(given))))
        v = F.reshape(F.broadcast_to(v, (*batch, *shape)), (fits, size))
        columns += [v[:, k] for k in range(size)]
    return F.stack(columns, 1)


def attached(result: Any, inputs: dict[str, Any]) -> None:
    """Give the parameters of a result their derivatives, where somebody follows what they come from."""
    F, parts = result._F, result._parts
    followed = tensors(inputs["y"], inputs["sigma"], inputs["fixed"])
    if F.name == "numpy" or not any(F.followed(t) for t in followed):
        return
    like = followed[0]
    dtype = F.widest("float64")
    many = parts[0].key is not None
    objective = Objective(F, parts, result._parameters, result._loss, dtype, like, result._done.scale)
    ys, sigmas = [], []
    for part in parts:
        y = inputs["y"][part.key] if many else inputs["y"]
        sigma = inputs["sigma"]
        if many and isinstance(sigma, type(inputs["y"])):
            sigma = sigma[part.key]
        if part.data.whitening is not None and any(F.followed(t) for t in tensors(sigma)):
            raise TypeError(
                "gf.curve_fit: derivatives in sigma that is a covariance are not known: give it as a NumPy array, or "
                "without derivatives"
            )
        y, sigma = rows_of(objective, part.data, y, sigma)
        ys.append(y)
        sigmas.append(sigma)
    done = result._done
    state = objective.constant(done.params)
    held = result._fixed | (np.isfinite(done.params) & ((done.params <= result._low) | (done.params >= result._high)))
    held |= (done.status != CONVERGED)[:, None]  # no optimum, and perhaps no Hessian that can be inverted
    values = fixed_values(F, result._kept, result._parameters, result._batch, len(done.params), state, dtype)
    popt = objective.refined(state, objective.constant(held.astype(float)), values, ys, sigmas)
    result._popt = F.reshape(popt, (*result._batch, result._parameters.size))


def rows_of(objective: Objective, data: Any, y: Any, sigma: Any) -> tuple[Any, Any]:
    """Data, NaN where they are left out, and sigma, in rows."""
    F = objective.F
    if tensors(y):
        rows = objective.rows(y, data.place(F.shape(y), "y"))
        if data.left_out.any():
            nan = objective.constant(np.full((), np.nan))
            rows = F.where(_bools(F, data.left_out), nan, rows)
    else:
        rows = objective.constant(data.y)
    if sigma is None or data.whitening is not None:
        return rows, None
    if tensors(sigma):
        return rows, objective.rows(sigma, data.place(F.shape(sigma), "sigma"))
    with np.errstate(divide="ignore"):
        return rows, objective.constant(np.where(data.weight > 0, 1 / data.weight, 0.0))


def _bools(F: Any, x: Array) -> Any:
    """A mask here."""
    return F.array(np.array(x))
