"""curve_fit where something traces: the numbers are fitted outside, derivatives are those of the optimum."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from .data import arrange
from .implicit import Objective, fixed_values, rows_of, tensors
from .joint import Part
from .least_squares import CONVERGED
from .model import FunctionModel, model_of
from .parameters import fill, held, limits, with_fixed
from .result import FitResult
from .whitening import is_covariance

Array = np.ndarray[Any, Any]

NAME = "gf.curve_fit"
UNKNOWN = "is not known while something traces; popt, params, cov and stderr are"


class TracedResult(FitResult):
    """Parameters and their covariance, as symbols."""

    def __init__(self, F: Any, parts: list[Any], parameters: Any, popt: Any, cov: Any, status: Any) -> None:
        self._F, self._parts, self._parameters, self._popt = F, parts, parameters, popt
        self._batch, self.__dict__["cov"], self._codes = parts[0].data.batch, cov, status
        self.__dict__["pcov"] = cov

    @property
    def status(self) -> Any:
        """What became of each fit, as a number."""
        return self._codes

    @property
    def success(self) -> Any:
        """Whether it converged."""
        return self._codes == CONVERGED

    @property
    def _errors(self) -> Any:  # type: ignore[override]
        p = self._parameters.size
        return self._F.stack([self.cov[..., k, k] ** 0.5 for k in range(p)], -1)

    def _array(self, rows: Any, *tail: int) -> Any:
        return rows

    def __repr__(self) -> str:
        return f"FitResult({', '.join(self.names)}: traced)"

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(f"FitResult: {name} {UNKNOWN}")


def _compiling(x: Any) -> bool:
    """Whether JAX makes a program, whose numbers come later: not if grad or vmap follow numbers that are there."""
    while type(x).__name__.endswith("Tracer"):
        if type(x).__name__ == "DynamicJaxprTracer":
            return True
        inner = getattr(x, "primal", None)
        inner = getattr(x, "val", None) if inner is None else inner
        if inner is None:
            return True
        x = inner
    return False


def fit(
    curve_fit: Any, f: Any, coords: Any, y: Any, sigma: Any, fixed: Any, p0: Any, bounds: Any, **options: Any
) -> FitResult:
    """As curve_fit, which is handed over."""
    F = dispatch.face(NAME, **{f"a{k}": t for k, t in enumerate(tensors(y, sigma, fixed))})
    followed = [("y", y)] if tensors(y) else []
    followed += [("sigma", sigma)] if tensors(sigma) else []
    names = list(fixed) if isinstance(fixed, dict) else []
    followed += [(name, fixed[name]) for name in names if tensors(fixed[name])]
    like = followed[0][1]
    dtype = F.widest("float64")
    dummy = np.ones(F.shape(y)) if tensors(y) else y
    known_sigma = np.ones(F.shape(sigma)) if tensors(sigma) else sigma
    if sigma is not None and is_covariance(np.shape(known_sigma), np.shape(dummy)):
        raise TypeError(
            f"{NAME}: sigma that is a covariance cannot be given within jax.jit, vmap, torch.func and the like, as the "
            "points that are left out are not known there: call it outside of those"
        )
    data = arrange(coords, dummy, known_sigma, options["where"], options["axis"], "omit", NAME)
    data.framework = F.name
    part = Part(None, model_of(f, data, with_fixed(p0, fixed), options["jac"], NAME), data, np.zeros(0, int))
    parameters = part.model.parameters
    part.places = np.arange(parameters.size)
    fits, p = data.fits, parameters.size
    kept = held(parameters, fixed, NAME)
    low, high = limits(parameters, bounds, data.batch, fits, NAME)
    start, _ = fill(parameters, p0, data.batch, fits, 1.0, "p0", NAME)
    still = np.zeros((fits, p), bool)
    for name, shape, at in parameters.spans():
        still[:, at : at + prod(shape)] = name in kept
    if isinstance(part.model, FunctionModel):
        if F.name == "jax" and any(_compiling(a) for _, a in followed):
            raise TypeError(
                f"{NAME}: a Python function cannot be fitted under jax.jit, where it would be called from within a "
                "callback, which JAX may wait for for ever; write an equation, or call curve_fit outside of jit"
            )
        part.model.begin(data, start, low, high)

    def run(*arrays: Array) -> tuple[Array, ...]:
        given = dict(zip([n for n, _ in followed], map(np.asarray, arrays), strict=True))
        here = {n: given.get(n, v) for n, v in kept.items()} if isinstance(fixed, dict) else fixed
        try:
            result = curve_fit(
                f, coords, given.get("y", y), p0, sigma=given.get("sigma", sigma), fixed=here, bounds=bounds, **options
            )
        except ValueError:  # of the only fit: nothing may be raised in here
            nothing = np.full((fits, p), np.nan)
            return nothing, np.full((fits, p, p), np.nan), np.zeros(fits), np.zeros((fits, p))
        done = result._done
        on = result._fixed | (done.params <= result._low) | (done.params >= result._high)
        on |= (done.status != CONVERGED)[:, None]
        return done.params, result._cov, done.status.astype(float), on.astype(float)

    shapes = [(fits, p), (fits, p, p), (fits,), (fits, p)]
    popt, cov, status, on = F.outside(run, shapes, dtype, *(a for _, a in followed))
    objective = Objective(F, [part], parameters, options["loss"], dtype, like)
    ys, sigmas = rows_of(objective, data, y, sigma)
    values = fixed_values(F, kept, parameters, data.batch, fits, F.fixed(popt), dtype)
    popt = objective.refined(popt, F.fixed(on), values, [ys], [sigmas])
    batch = data.batch
    return TracedResult(
        F, [part], parameters, F.reshape(popt, (*batch, p)), F.reshape(F.fixed(cov), (*batch, p, p)),
        F.reshape(F.fixed(status), batch),
    )  # fmt: skip
