"""FitResult: what a fit says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from ..cached import cached_property
from .least_squares import CONVERGED, REASONS, Solution
from .parameters import Parameters
from .prediction import band, elsewhere
from .scaling import power
from .text import table
from .units import units_of

Array = np.ndarray[Any, Any]


class FitResult:
    """The result of `curve_fit`: parameters with their uncertainties, residuals, and how good the fit is.

    Of many fits everything has their axes: numbers become maps. ``popt, pcov = result`` and ``result[0]`` work as with
    SciPy's ``curve_fit``, and ``result["name"]`` is a parameter. Not made by users.

    Attributes
    ----------
    popt : array, shape (*fits, p)
        All parameters in one axis, of the framework of the data. NaN where a fit of many failed.
    cov : array, shape (*fits, p, p)
        Their covariance; rows of fixed parameters are 0. inf where the data do not determine it.
    params : dict
        Parameters by name, as they were given; maps over the fits.
    stderr : dict
        Their standard errors.
    units : dict
        Units of parameters, where they are known.
    names : tuple of str
        A name for each number of `popt`.
    status : int or int array
        1: converged; what else there is stands in `reason`.
    success : bool or bool array
        Whether it converged.
    n_iter : int or int array
        Steps.
    dof : int or int array
        Points less free parameters.

    Parameters
    ----------
    parts, parameters, done, low, high, points, dof, absolute, loss, kept
        What `curve_fit` worked out.

    Examples
    --------
    >>> import gridfield as gf, numpy as np
    >>> x = np.linspace(0, 1, 6)
    >>> result = gf.curve_fit("a*x + b", x, [1.0, 1.6, 2.4, 3.0, 3.6, 4.5])
    >>> result.params["a"].round(3), result.stderr["a"].round(3), result.success
    (np.float64(3.443), np.float64(0.105), True)
    >>> result.corr[0, 1].round(2), round(result.chi2, 4), round(result.reduced_chi2, 4), round(result.r2, 4)
    (np.float64(-0.83), 0.031, 0.0078, 0.9963)
    >>> round(result.aic, 1), round(result.bic, 1), result.residual.shape, result.n_iter < 9
    (-27.6, -28.0, (6,), True)
    >>> result.predict([2.0]).round(2), [side.round(1) for side in result.confidence_band([2.0])]
    (array([7.85]), [array([7.4]), array([8.3])])
    >>> result.reason, result.popt.shape, result.summary().splitlines()[0], result.message
    ('converged', (2,), "least squares: 'a*x + b'", 'converged')
    >>> sorted(result.to_xarray().data_vars)[:3]
    ['a', 'a_stderr', 'b']
    >>> axes = result.plot()
    """

    def __init__(
        self, parts: list[Any], parameters: Parameters, done: Solution, low: Array, high: Array, points: Array,
        dof: Array, absolute: bool, loss: tuple[str, float], kept: dict[str, Any],
    ) -> None:  # fmt: skip
        fixed = low == high
        some_fixed = bool(fixed.any())
        self._parts, self._parameters, self._done, self._fixed = parts, parameters, done, fixed
        self._low, self._high = low, high
        self._points, self._dof, self._absolute, self._loss, self._kept = points, dof, absolute, loss, kept
        self._batch = parts[0].data.batch
        self._F = dispatch.of(parts[0].data.framework)
        failed: Any = np.flatnonzero(done.status != CONVERGED) if self._batch else []
        # a fit of many that failed says so by NaN
        done.params[failed], done.cov[failed], done.cost[failed] = np.nan, np.nan, np.nan
        scale = np.ones(len(dof))
        if not absolute:
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = np.where(dof > 0, 2 * done.cost / np.maximum(dof, 1), np.inf)
        unit = np.ones_like(done.params) if done.scale is None else done.scale.params
        if absolute and done.scale is not None:
            unit = unit * done.scale.data[:, None]
        with np.errstate(invalid="ignore", over="ignore"):
            cov = done.cov * scale[:, None, None]
        cov[np.isinf(scale)] = np.inf
        if some_fixed:
            known: Any = np.isfinite(done.params).all(1)
            cov[(fixed[:, :, None] | fixed[:, None, :]) & known[:, None, None]] = 0.0
        cov[failed] = np.nan
        self._relative, self._unit = cov, unit  # of which the squares may be no numbers
        with np.errstate(invalid="ignore", over="ignore"):
            self._cov = cov if done.scale is None else cov * unit[:, :, None] * unit[:, None, :]
        self._popt = self._array(done.params, parameters.size)

    def _array(self, rows: Array, *tail: int) -> Any:
        """(fits, ...) numbers as users get them."""
        shaped = np.array(rows.reshape((*self._batch, *tail)))
        if self._F.name == "numpy":
            return shaped
        return self._F.constant(shaped, self._F.widest("float64"), self._beside())

    def _beside(self) -> Any:
        """An array of the framework where results go: to the device of the data."""
        beside = self._parts[0].data.beside
        return self._F.array(np.zeros(())) if beside is None else beside

    def _each(self, values: Array) -> Any:
        return values.reshape(self._batch) if self._batch else values[0].item()

    # ---- parameters
    @property
    def popt(self) -> Any:
        """All parameters in one axis."""
        return self._popt

    @cached_property
    def cov(self) -> Any:
        """Covariance of the parameters."""
        p = self._parameters.size
        return self._array(self._cov, p, p)

    @property
    def pcov(self) -> Any:
        """As `cov`: SciPy's name of it."""
        return self.cov

    def __iter__(self) -> Iterator[Any]:
        return iter((self.popt, self.cov))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, key: Any) -> Any:
        return self.params[key] if isinstance(key, str) else (self.popt, self.cov)[key]

    @property
    def names(self) -> tuple[str, ...]:
        """A name for each number of `popt`."""
        return self._parameters.flat

    def _named(self, values: Any) -> dict[str, Any]:
        """(*fits, p) numbers by name."""
        leaves = []
        for _, shape, at in self._parameters.spans():
            if not shape:
                leaves.append(values[..., at])
            else:
                leaves.append(self._F.reshape(values[..., at : at + prod(shape)], (*self._batch, *shape)))
        return self._parameters.tree(leaves)

    @cached_property
    def params(self) -> dict[str, Any]:
        """Parameters by name."""
        return self._named(self.popt)

    @cached_property
    def stderr(self) -> dict[str, Any]:
        """Standard errors of the parameters by name."""
        return self._named(self._array(self._errors, self._parameters.size))

    @cached_property
    def _errors(self) -> Array:
        with np.errstate(invalid="ignore"):
            return np.sqrt(np.einsum("fii->fi", self._relative)) * self._unit

    @property
    def _correlations(self) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.sqrt(np.einsum("fii->fi", self._relative))
            corr = self._relative / (error[:, :, None] * error[:, None, :])
        corr[self._relative == 0] = 0.0
        return corr

    @cached_property
    def corr(self) -> Any:
        """Correlation of the parameters; 0 for fixed ones."""
        corr = self._correlations
        p = self._parameters.size
        diagonal = np.einsum("fii->fi", corr)
        diagonal[...] = np.where(np.isfinite(diagonal) & ~self._fixed, 1.0, diagonal)
        return self._array(corr, p, p)

    @cached_property
    def units(self) -> dict[str, str]:
        """Units of the parameters that have some."""
        return units_of(self._parts)

    # ---- how it went
    @property
    def status(self) -> Any:
        """What became of each fit, as a number."""
        return self._each(self._done.status)

    @property
    def success(self) -> Any:
        """Whether it converged."""
        return self._each(self._done.status == CONVERGED)

    @property
    def reason(self) -> Any:
        """`status` in words, an array of str for many fits."""
        words = np.array([REASONS[int(s)] for s in self._done.status], dtype=object)
        return words.reshape(self._batch) if self._batch else str(words[0])

    @property
    def message(self) -> str:
        """What there is to say of the fit, or of all of them."""
        codes, counts = np.unique(self._done.status, return_counts=True)
        if not self._batch:
            return REASONS[int(codes[0])]
        said = [
            f"{count} of {len(self._done.status)}: {REASONS[int(code)]}"
            for code, count in zip(codes, counts, strict=True)
        ]
        return "; ".join(said) if said else "no fits"

    @property
    def n_iter(self) -> Any:
        """Steps of each fit."""
        return self._each(self._done.iterations)

    @property
    def dof(self) -> Any:
        """Points less free parameters."""
        return self._each(self._dof)

    # ---- how good it is
    def _values(self, part: Any) -> Array:
        """(fits, n) of the model."""
        data = part.data
        out = np.full(data.y.shape, np.nan)
        there = np.flatnonzero(np.isfinite(self._done.params).all(1))
        if len(there):
            out[there] = part.model.values(part.own(self._done.params)[there], data.coords, data.shape, there)
        if data.blank is not None:
            out[np.broadcast_to(data.blank, out.shape)] = np.nan
        return out

    def _whole(self, part: Any, rows: Array) -> Any:
        """(fits, n) as the data were given."""
        data = part.data
        rest = tuple(a for a in range(len(data.batch) + len(data.shape)) if a not in data.axes)
        order = np.argsort((*rest, *data.axes))
        return rows.reshape((*data.batch, *data.shape)).transpose(order)

    def _in_parts(self, of: Any) -> Any:
        """One, or a dictionary or list of them."""
        keys = [part.key for part in self._parts]
        found = [of(part) for part in self._parts]
        if keys == [None]:
            return found[0]
        return found if keys == list(range(len(keys))) else dict(zip(keys, found, strict=True))

    @cached_property
    def residual(self) -> Any:
        """Data less model, in the shape of the data; NaN where there was nothing to fit."""
        return self._in_parts(lambda part: self._framed(self._whole(part, part.data.y - self._values(part))))

    def _framed(self, values: Array) -> Any:
        values = np.asarray(values, order="C")
        if self._F.name == "numpy":
            return values
        return self._F.constant(values, self._F.widest("float64"), self._beside())

    @cached_property
    def _sums(self) -> tuple[Array, Array]:
        """chi2 and the weighted sum of squares about the mean, of each fit, in units of its own."""
        chi2, total, mass, mean = (np.zeros(len(self._dof)) for _ in range(4))
        pieces: list[tuple[Array, Array]] = []  # roots of the weights, and data by them
        for part in self._parts:
            y, r = part.data.y, part.data.y - self._values(part)
            w = np.ones_like(y) if part.data.weight is None else part.data.weight
            if self._done.scale is not None:
                unit = power(w.max(1, initial=0.0))[:, None]
                y, r = (a * (self._done.scale.data[:, None] / unit) for a in (y, r))
                w = w * unit
            if part.data.whitening is not None:
                ones, y, r = (part.data.whitening(np.nan_to_num(a[0]))[None] for a in (np.ones_like(y), y, r))
                chi2, mass, mean = chi2 + r[0] @ r[0], mass + ones[0] @ ones[0], mean + ones[0] @ y[0]
                pieces.append((ones, y))
                continue
            there = ~np.isnan(y) & (w > 0)
            w, y = np.where(there, w, 0.0), np.where(there, y, 0.0)
            chi2 += ((w * np.where(there, r, 0.0)) ** 2).sum(1)
            mass += (w * w).sum(1)
            mean += (w * w * y).sum(1)
            pieces.append((w, w * y))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = mean / mass
            for w, y in pieces:
                total += ((y - w * mean[:, None]) ** 2).sum(1)
        chi2[~np.isfinite(self._done.params).all(1)] = np.nan  # also where no point is left
        return chi2, total

    @cached_property
    def chi2(self) -> Any:
        """Sum of squares of residuals, by sigma."""
        return self._each(self._in_square(self._sums[0]))

    def _in_square(self, x: Array) -> Array:
        """In units of the data squared, from those of `_sums`."""
        scale = self._done.scale
        if scale is None:
            return x
        with np.errstate(over="ignore"):
            return x / scale.data / scale.data

    @cached_property
    def reduced_chi2(self) -> Any:
        """chi2 / dof."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._each(self._in_square(self._sums[0] / self._dof))

    @cached_property
    def r2(self) -> Any:
        """1 - chi2 / the same about the mean of the data."""
        chi2, total = self._sums
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._each(1 - chi2 / total)

    def _criterion(self, price: Any) -> Any:
        k = (~self._fixed).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.log(self._sums[0] / self._points)
            size = size if self._done.scale is None else size - 2 * np.log(self._done.scale.data)
            return self._each(self._points * size + price * k)

    @cached_property
    def aic(self) -> Any:
        """Akaike's criterion, ``n log(chi2 / n) + 2 k`` with k free parameters."""
        return self._criterion(2.0)

    @cached_property
    def bic(self) -> Any:
        """The Bayesian criterion, ``n log(chi2 / n) + k log(n)``."""
        with np.errstate(divide="ignore"):
            return self._criterion(np.log(self._points))

    # ---- elsewhere
    def predict(self, coords: Any = None) -> Any:
        """The model at other coordinates.

        Parameters
        ----------
        coords : as in the fit, optional
            Coordinates of one fit, of any shape. Default: those of the data.

        Returns
        -------
        array, shape (*fits, *shape), or a dict or list of those for several models
            In the framework of the data; at the data, in their own order of axes.

        Raises
        ------
        ValueError
            If coordinates are missing or do not broadcast.
        """

        def at(part: Any) -> Any:
            if coords is None:
                return self._framed(self._whole(part, self._values(part)))
            data = elsewhere(part, coords)
            params = part.own(self._done.params)
            values = part.model.values(params, data.coords, data.shape, np.zeros(len(params), np.int64))
            if data.blank is not None:
                values = np.where(data.blank, np.nan, values)
            shape = () if data.dims == ("point",) else data.shape
            return self._framed(values.reshape((*self._batch, *shape)))

        return self._in_parts(at)

    def confidence_band(self, coords: Any = None, level: float = 0.95) -> Any:
        """Bounds between which the model is, with that probability, at each place by itself.

        ``f -+ t sqrt(j cov j)``, with the gradient j of the model in its parameters and Student's t for `dof` degrees
        of freedom (the normal one with ``absolute_sigma=True``).

        Parameters
        ----------
        coords : as in the fit, optional
            Coordinates of one fit. Default: those of the data.
        level : float, default 0.95
            The probability, between 0 and 1.

        Returns
        -------
        tuple of two arrays, shape (*fits, *shape), or a dict or list of those for several models
            Lower and upper bounds.

        Raises
        ------
        ValueError
            If `level` is not between 0 and 1, or coordinates do not fit.
        """
        if not 0 < level < 1:
            raise ValueError(f"FitResult.confidence_band: level must be between 0 and 1, got {level!r}")

        return self._in_parts(lambda part: band(self, part, coords, level))

    # ---- for reading
    def summary(self) -> str:
        """The fit as a table of text, which is what printing shows.

        Returns
        -------
        str
        """
        return table(self)

    def __repr__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        import html

        return f"<pre>{html.escape(self.summary())}</pre>"

    def plot(self, ax: Any = None) -> Any:
        """Draw data, model and residual; of many fits, maps of each parameter and its standard error.

        Parameters
        ----------
        ax : matplotlib figure or axes, optional
            Where to; as many axes as there are panels. Default: a new figure.

        Returns
        -------
        array of matplotlib Axes
        """
        from .picture import draw

        return draw(self, ax)

    def to_xarray(self) -> Any:
        """Parameters, standard errors and what became of each fit as a labelled dataset.

        Returns
        -------
        xarray.Dataset
            Along the axes of the fits; `name` and `name_stderr` of each parameter, `cov`, and numbers about the fit.
            Labels of the data are kept, units are attributes.
        """
        from .labelled import dataset

        return dataset(self)
