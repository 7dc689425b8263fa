"""LazyFit: the result of curve_fit on data of dask."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import numpy as np

from ..fits.least_squares import CONVERGED, REASONS
from .blocks import dask, is_lazy

NUMBERS = ("status", "n_iter", "dof", "chi2", "r2", "aic", "bic")


class LazyFit:
    """The result of `curve_fit` on data of dask: attributes of a `FitResult`, each an array of dask.

    All of them come of one array of numbers of each fit, so what is computed together is fitted once: `compute` and
    `persist` give the same result with that in memory, `to_xarray` a Dataset to be written. ``popt, pcov = result`` and
    ``result["name"]`` work. Not made by users.
    """

    def __init__(
        self,
        rows: Any,
        probe: Any,
        again: Callable[..., Any],
        dims: tuple[str, ...],
        labels: dict[str, Any],
        batch: Any,
    ) -> None:
        self._rows, self._probe, self._again = rows, probe, again
        self._dims, self._labels, self._batch = dims, labels, batch
        self._parameters = probe._parameters

    def __repr__(self) -> str:
        where = "of dask, not computed" if is_lazy(self._rows) else "computed"
        return f"<gf.FitResult of fits {self._batch}, parameters {', '.join(self.names)}, {where}>"

    def __getattr__(self, name: str) -> Any:
        if name in ("summary", "plot", "confidence_band"):
            raise AttributeError(f"FitResult.{name} is of fits in memory: fit y.compute(), or some of it")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def compute(self, **options: Any) -> LazyFit:
        """The same with its numbers in memory."""
        rows = self._rows.compute(**options) if is_lazy(self._rows) else self._rows
        return LazyFit(rows, self._probe, self._again, self._dims, self._labels, self._batch)

    def persist(self, **options: Any) -> LazyFit:
        """The same with its numbers kept where they are computed."""
        rows = self._rows.persist(**options) if is_lazy(self._rows) else self._rows
        return LazyFit(rows, self._probe, self._again, self._dims, self._labels, self._batch)

    # ---- parameters
    @property
    def names(self) -> tuple[str, ...]:
        """A name for each number of `popt`."""
        return self._parameters.flat

    @property
    def units(self) -> dict[str, str]:
        """Units of the parameters that have some."""
        return self._probe.units

    @property
    def popt(self) -> Any:
        """All parameters in one axis."""
        return self._rows[..., : self._parameters.size]

    @property
    def cov(self) -> Any:
        """Covariance of the parameters."""
        p = self._parameters.size
        return self._rows[..., p : p + p * p].reshape((*self._batch, p, p))

    @property
    def pcov(self) -> Any:
        """As `cov`."""
        return self.cov

    def __iter__(self) -> Iterator[Any]:
        return iter((self.popt, self.cov))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: Any) -> Any:
        return self.params[key] if isinstance(key, str) else (self.popt, self.cov)[key]

    def _named(self, values: Any) -> dict[str, Any]:
        spans = self._parameters.spans()
        leaves = [values[..., at : at + prod(s)].reshape((*self._batch, *s)) for _, s, at in spans]
        return self._parameters.tree(leaves)

    @property
    def params(self) -> dict[str, Any]:
        """Parameters by name."""
        return self._named(self.popt)

    @property
    def _errors(self) -> Any:
        p = self._parameters.size
        variance = self._rows[..., p : p + p * p : p + 1]
        if not is_lazy(variance):
            return _root(variance)
        return variance.map_blocks(_root, dtype=np.float64, meta=np.empty((0,) * variance.ndim))

    @property
    def stderr(self) -> dict[str, Any]:
        """Standard errors of the parameters by name."""
        return self._named(self._errors)

    @property
    def corr(self) -> Any:
        """Correlation of the parameters; 0 for fixed ones."""
        cov = self.cov
        return _correlation(cov) if not is_lazy(cov) else _core(cov, _correlation)

    # ---- how it went, and how good it is
    def _number(self, name: str) -> Any:
        return self._rows[..., self._rows.shape[-1] - len(NUMBERS) + NUMBERS.index(name)]

    @property
    def status(self) -> Any:
        """What became of each fit, as a number."""
        return self._number("status").astype(np.int64)

    @property
    def success(self) -> Any:
        """Whether it converged."""
        return self.status == CONVERGED

    @property
    def reason(self) -> Any:
        """`status` in words."""
        status = self.status
        if not is_lazy(status):
            return _words(status)
        return status.map_blocks(_words, dtype=object, meta=np.empty((0,) * status.ndim, object))

    @property
    def message(self) -> Any:
        """What there is to say of all fits; lazily an array of no axes that holds it."""
        status = self.status.reshape(-1)
        if not is_lazy(status):
            return _message(status, bool(self._batch)).item()
        several = bool(self._batch)
        whole = status.rechunk(-1)
        return dask().map_blocks(lambda s: _message(s, several), whole, drop_axis=0, dtype=object,
                                 meta=np.empty((), object))  # fmt: skip

    @property
    def n_iter(self) -> Any:
        """Steps of each fit."""
        return self._number("n_iter").astype(np.int64)

    @property
    def dof(self) -> Any:
        """Points less free parameters."""
        return self._number("dof").astype(np.int64)

    @property
    def chi2(self) -> Any:
        """Sum of squares of residuals, by sigma."""
        return self._number("chi2")

    @property
    def reduced_chi2(self) -> Any:
        """chi2 / dof."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._number("chi2") / self._number("dof")

    @property
    def r2(self) -> Any:
        """1 - chi2 / the same about the mean of the data."""
        return self._number("r2")

    @property
    def aic(self) -> Any:
        """Akaike's criterion."""
        return self._number("aic")

    @property
    def bic(self) -> Any:
        """The Bayesian criterion."""
        return self._number("bic")

    @property
    def residual(self) -> Any:
        """Data less model, in the shape of the data."""
        return self._again(self.popt, lambda r: r.residual, None, "residual")

    def predict(self, coords: Any = None) -> Any:
        """The model at other coordinates of one fit, or at the data."""
        if coords is None:
            return self._again(self.popt, lambda r: r.predict(), None, "predict")
        tail = np.shape(self._probe.predict(coords))
        tail = tail[len(tail) - (len(tail) - len(self._probe._batch)) :]
        return self._again(self.popt, lambda r: r.predict(coords), tail, "predict")

    def to_xarray(self) -> Any:
        """Parameters, standard errors and what became of each fit as a labelled dataset."""
        from ..extras import needs

        with needs("xarray"):
            import xarray
        variables: dict[str, Any] = {}
        units, errors = self.units, self._errors
        for _, shape, at in self._parameters.spans():
            leaf = self.names[at].partition("[")[0]
            for values, suffix in ((self.popt, ""), (errors, "_stderr")):
                block = values[..., at : at + prod(shape)].reshape((*self._batch, *shape))
                inner = tuple(f"{leaf}_{k}" for k in range(len(shape)))
                attrs = {"units": units[leaf]} if leaf in units else {}
                variables[leaf + suffix] = ((*self._dims, *inner), block, attrs)
        variables["cov"] = ((*self._dims, "parameter", "parameter_"), self.cov)
        for name in ("status", "n_iter", "chi2", "dof"):
            variables[name] = (self._dims, getattr(self, name))
        labels = {"parameter": list(self.names), "parameter_": list(self.names)}
        what = ", ".join(part.model.describes for part in self._probe._parts)
        return xarray.Dataset(variables, {**self._labels, **labels}, {"model": what})


def _core(x: Any, f: Callable[[Any], Any]) -> Any:
    """f on blocks that are whole along the last two axes."""
    x = x.rechunk({x.ndim - 2: -1, x.ndim - 1: -1})
    return x.map_blocks(f, dtype=np.float64, meta=np.empty((0,) * x.ndim))


def _root(variance: Any) -> Any:
    with np.errstate(invalid="ignore"):
        return np.sqrt(variance)


def _correlation(cov: Any) -> Any:
    error = _root(np.einsum("...ii->...i", cov))
    with np.errstate(divide="ignore", invalid="ignore"):
        corr = cov / (error[..., :, None] * error[..., None, :])
    corr[cov == 0] = 0.0
    diagonal = np.einsum("...ii->...i", corr)
    diagonal[...] = np.where(np.isfinite(diagonal) & (error > 0), 1.0, diagonal)
    return corr


def _words(status: Any) -> Any:
    out = np.empty(status.shape, object)
    for at in np.ndindex(status.shape):
        out[at] = REASONS[int(status[at])]
    return out


def _message(status: Any, several: bool) -> Any:
    codes, counts = np.unique(status, return_counts=True)
    said = [f"{n} of {len(status)}: {REASONS[int(c)]}" for c, n in zip(codes, counts, strict=True)]
    text = ("; ".join(said) if said else "no fits") if several else REASONS[int(codes[0])]
    out = np.empty((), object)
    out[()] = text
    return out
