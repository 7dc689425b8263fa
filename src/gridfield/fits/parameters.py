"""The parameters of a model: their names and shapes, as users give them, and as rows of numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from .. import dispatch

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Parameters:
    """Names and shapes of the leaves, and how a function takes them.

    style: "args" one by one, "names" by keyword, "tree" as nested dictionaries, "vector" as one array.
    """

    names: tuple[str, ...]
    shapes: tuple[Shape, ...]
    style: str = "args"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of each leaf."""
        return tuple(map(prod, self.shapes))

    @property
    def size(self) -> int:
        """Numbers in all."""
        return sum(self.sizes)

    @property
    def flat(self) -> tuple[str, ...]:
        """A name for each number: amplitude, centre[0], centre[1]."""
        return tuple(
            name + (f"[{', '.join(map(str, index))}]" if shape else "")
            for name, shape in zip(self.names, self.shapes, strict=True)
            for index in np.ndindex(shape)
        )

    def spans(self) -> list[tuple[str, Shape, int]]:
        """(name, shape, where it begins) of each leaf."""
        starts = np.cumsum((0, *self.sizes))
        return list(zip(self.names, self.shapes, map(int, starts), strict=False))

    def leaves(self, theta: Any, batch: Shape | None = None) -> list[Any]:
        """Of (p,) numbers of any framework; of (m, p) each (*its shape, *batch), which broadcasts against data."""
        out = []
        for _, shape, at in self.spans():
            end = at + prod(shape)
            if batch is None:
                out.append(theta[at] if not shape else theta[at:end].reshape(shape))
            elif isinstance(theta, np.ndarray):
                out.append(theta[:, at:end].T.reshape((*shape, *batch)))
            else:
                F = dispatch.face("gf.curve_fit", params=theta)
                out.append(F.reshape(F.moveaxis(theta[:, at:end], 1, 0), (*shape, *batch)))
        return out

    def tree(self, leaves: Sequence[Any]) -> dict[str, Any]:
        """Nested dictionaries: "peak.height" is tree["peak"]["height"]."""
        out: dict[str, Any] = {}
        for name, leaf in zip(self.names, leaves, strict=True):
            *path, last = name.split(".") if self.style == "tree" else (name,)
            place = out
            for key in path:
                place = place.setdefault(key, {})
            place[last] = leaf
        return out

    def call(self, f: Callable[..., Any], coords: Any, theta: Any, batch: Shape | None = None) -> Any:
        """f(coords, parameters)."""
        if self.style == "vector":
            if batch is None:
                return f(coords, theta)
            moved = theta.T if isinstance(theta, np.ndarray) else self._moved(theta)
            return f(coords, moved.reshape((self.size, *batch)) if isinstance(moved, np.ndarray) else moved)
        leaves = self.leaves(theta, batch)
        if self.style == "args":
            return f(coords, *leaves)
        if self.style == "names":
            return f(coords, **dict(zip(self.names, leaves, strict=True)))
        return f(coords, self.tree(leaves))

    @staticmethod
    def _moved(theta: Any) -> Any:
        raise TypeError("a vector of parameters of many fits at once")


def of_function(f: Callable[..., Any], p0: Any, batch: Shape, where: str) -> Parameters:
    """From the signature of f(coords, ...) and the start values."""
    try:
        listed = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        listed = None
    positional = [p.name for p in listed or () if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][1:]
    keywords = [p.name for p in listed or () if p.kind == p.KEYWORD_ONLY and p.default is p.empty]
    several = any(p.kind == p.VAR_POSITIONAL for p in listed or ())
    if isinstance(p0, Mapping):
        names, values = _leaves(p0)
        shapes = tuple(leaf_shape(v, batch) for v in values)
        if set(names) <= {*positional, *keywords} and (len(positional) != 1 or names == tuple(positional)):
            missing = [p for p in positional if p not in names and listed and _required(listed, p)]
            if missing:
                raise ValueError(f"{where}: p0 has no start value for {', '.join(missing)}")
            return Parameters(names, shapes, "names")
        if len(positional) == 1:
            return Parameters(names, shapes, "tree")
        unknown = [n for n in names if n not in positional]
        raise ValueError(f"{where}: p0 has {', '.join(unknown)}, but the parameters of f are {', '.join(positional)}")
    if p0 is None:
        names = tuple(p for p in positional if listed is None or _required(listed, p))
        if several or not names:
            raise ValueError(f"{where}: p0 must be given, as the parameters of f cannot be told from its signature")
        return Parameters(names, ((),) * len(names))
    values = split(p0, batch)
    if listed is not None and not several and len(positional) == 1 and len(values) > 1:
        return Parameters(tuple(f"p{k}" for k in range(len(values))), ((),) * len(values), "vector")
    if listed is not None and not several and len(values) > len(positional):
        raise ValueError(
            f"{where}: p0 has {len(values)} values, but f has {len(positional)} parameters: {', '.join(positional)}"
        )
    if listed is not None and not several and any(_required(listed, p) for p in positional[len(values) :]):
        raise ValueError(
            f"{where}: p0 has {len(values)} values, but f has {len(positional)} parameters: {', '.join(positional)}"
        )
    names = (*positional[: len(values)], *(f"p{k}" for k in range(len(positional), len(values))))
    return Parameters(names, tuple(leaf_shape(v, batch) for v in values))


def _required(listed: list[inspect.Parameter], name: str) -> bool:
    return next(p for p in listed if p.name == name).default is inspect.Parameter.empty


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> tuple[tuple[str, ...], list[Any]]:
    names: list[str] = []
    values: list[Any] = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            more, of = _leaves(value, f"{prefix}{key}.")
            names, values = [*names, *more], [*values, *of]
        else:
            names, values = [*names, f"{prefix}{key}"], [*values, value]
    return tuple(names), values


def with_fixed(p0: Any, fixed: Any) -> Any:
    """Start values by name, and behind them those of fixed parameters that have none."""
    if not (isinstance(p0, Mapping) and isinstance(fixed, Mapping)):
        return p0
    return {**p0, **{k: v for k, v in fixed.items() if k not in p0}}


def numbers(x: Any) -> Array:
    """Any array's or number's values in float64."""
    framework = dispatch.frameworks((type(x),))[0]
    if framework not in ("", "numpy"):
        F = dispatch.of(framework)
        x = F.numpy(F.fixed(x) if hasattr(F, "fixed") else x)
    return np.asarray(getattr(x, "magnitude", x), np.float64)


def split(values: Any, batch: Shape) -> list[Any]:
    """Start values as a list: of a sequence its items; of an array (p,), or (*batch, p), numbers or maps."""
    if isinstance(values, (list, tuple)):
        return list(values)
    values = numbers(values)
    return list(np.moveaxis(values, -1, 0)) if values.ndim else [values]


def leaf_shape(value: Any, batch: Shape) -> Shape:
    """Of a value that may be a map over fits."""
    shape = np.shape(value) if not hasattr(value, "shape") else tuple(value.shape)
    return shape[len(batch) :] if batch and shape[: len(batch)] == batch else shape


def fill(
    parameters: Parameters, given: Any, batch: Shape, fits: int, default: float, what: str, where: str
) -> tuple[Array, set[str]]:
    """(fits, p) numbers, and the names that are given; by name, in order, or one for all."""
    out = np.full((fits, parameters.size), default)
    names = parameters.names
    if given is None:
        return out, set()
    if isinstance(given, Mapping):
        keys, values = _leaves(given)
        unknown = [k for k in keys if k not in names]
        if unknown:
            raise ValueError(f"{where}: {what} has {', '.join(unknown)}, but the parameters are {', '.join(names)}")
        pairs = dict(zip(keys, values, strict=True))
    elif (
        not isinstance(given, (list, tuple))
        and np.shape(given if not hasattr(given, "shape") else np.empty(given.shape)) == ()
    ):
        pairs = dict.fromkeys(names, given)
    else:
        values = split(given, batch)
        if len(values) == parameters.size != len(names):
            try:
                return np.broadcast_to(np.array([numbers(v) for v in values]), out.shape).copy(), set(names)
            except ValueError:
                pass
        if len(values) != len(names):
            raise ValueError(
                f"{where}: {what} has {len(values)} values, but there are {len(names)} parameters: {', '.join(names)}"
            )
        pairs = dict(zip(names, values, strict=True))
    for name, shape, at in parameters.spans():
        if name not in pairs:
            continue
        try:
            value = numbers(pairs[name])
        except (TypeError, ValueError):
            raise TypeError(f"{where}: {what} of {name} must be a number or an array, got {pairs[name]!r}") from None
        full = (*batch, *shape)
        try:
            if batch and value.shape[: len(batch)] == batch:
                value = value.reshape((*batch, *value.shape[len(batch) :], *(1,) * (len(full) - value.ndim)))
            out[:, at : at + prod(shape)] = np.broadcast_to(value, full).reshape(fits, prod(shape))
        except ValueError:
            raise ValueError(
                f"{where}: {what} of {name} has shape {value.shape}, expected {shape}"
                + (f" or a map of the fits, {full}" if batch else "")
            ) from None
    return out, set(pairs)


def limits(parameters: Parameters, bounds: Any, batch: Shape, fits: int, where: str) -> tuple[Array, Array]:
    """(fits, p) lower and upper bounds, from (lower, upper), scipy.optimize.Bounds or {name: (lower, upper)}."""
    if hasattr(bounds, "lb"):
        bounds = (bounds.lb, bounds.ub)
    if isinstance(bounds, Mapping):
        keys, values = _leaves(bounds)
        try:
            pairs = [(-np.inf if v is None else v[0], np.inf if v is None else v[1]) for v in values]
        except (TypeError, IndexError):
            raise TypeError(f"{where}: bounds must give (lower, upper) of each name, got {bounds!r}") from None
        lower = {k: -np.inf if lo is None else lo for k, (lo, _) in zip(keys, pairs, strict=True)}
        upper = {k: np.inf if hi is None else hi for k, (_, hi) in zip(keys, pairs, strict=True)}
    elif bounds is None:
        lower, upper = None, None
    else:
        try:
            lower, upper = bounds
        except (TypeError, ValueError):
            raise TypeError(
                f"{where}: bounds must be (lower, upper) or {{name: (lower, upper)}}, got {bounds!r}"
            ) from None
    low, _ = fill(parameters, lower, batch, fits, -np.inf, "the lower bound", where)
    high, _ = fill(parameters, upper, batch, fits, np.inf, "the upper bound", where)
    if np.isnan(low).any() or np.isnan(high).any() or (low > high).any():
        at = int(np.flatnonzero((~(low <= high)).any(0))[0])
        raise ValueError(f"{where}: the lower bound of {parameters.flat[at]} is above its upper one, or NaN")
    return low, high


def held(parameters: Parameters, fixed: Any, where: str) -> dict[str, Any]:
    """Fixed parameters with their values; None: the start value."""
    if fixed is None:
        return {}
    if isinstance(fixed, str):
        fixed = [fixed]
    if isinstance(fixed, Mapping):
        keys, values = _leaves(fixed)
        given = dict(zip(keys, values, strict=True))
    elif isinstance(fixed, Iterable) and all(isinstance(name, str) for name in fixed):
        given = dict.fromkeys(fixed)
    else:
        raise TypeError(f"{where}: fixed must be a dictionary {{name: value}} or names, got {fixed!r}")
    unknown = [name for name in given if name not in parameters.names]
    if unknown:
        raise ValueError(
            f"{where}: fixed has {', '.join(unknown)}, but the parameters are {', '.join(parameters.names)}"
        )
    return given


def feasible(low: Array, high: Array) -> Array:
    """Start values where there are none: 1, or what SciPy takes within bounds."""
    with np.errstate(invalid="ignore"):
        both = np.where(np.isfinite(low) & np.isfinite(high), 0.5 * (low + high), 1.0)
        start = np.where(np.isfinite(low) & ~np.isfinite(high), low + 1, both)
        start = np.where(~np.isfinite(low) & np.isfinite(high), high - 1, start)
    return start
