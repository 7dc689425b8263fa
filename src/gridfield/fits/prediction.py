"""A fitted model at other coordinates, and how sure it is of its values there."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import scipy.special

from ..grid import Grid
from .data import Data, arrange


def elsewhere(part: Any, coords: Any) -> Data:
    """Coordinates alone, of one fit."""
    name, fit = "FitResult.predict", part.data
    if isinstance(coords, Grid):
        shape = coords.shape
    elif isinstance(coords, dict):
        shape = np.broadcast_shapes(*(np.shape(c) for c in coords.values()))
    elif hasattr(coords, "sizes"):
        shape = tuple(coords.sizes.values())
    elif fit.kind == "stack":
        shape = np.shape(coords)[1:]
        coords = coords if shape else np.asarray(coords, float)[:, None]
    elif (
        isinstance(coords, (tuple, list)) and fit.kind in ("tuple", "grid", "named", "labelled") and len(fit.coords) > 1
    ):
        shape = np.broadcast_shapes(*(np.shape(c) for c in coords))
        coords = tuple(np.asarray(c, float).reshape(np.shape(c) or (1,)) for c in coords)
    else:
        shape = np.shape(coords)
    point = shape == ()
    shape = (1,) if point else shape
    if fit.names is not None and not isinstance(coords, dict) and not hasattr(coords, "sizes"):
        given = coords if isinstance(coords, (tuple, list)) and len(fit.names) > 1 else (coords,)
        if isinstance(coords, Grid):
            given = np.meshgrid(*coords.axes(), indexing="ij", sparse=True)
        first = fit.names if fit.inner is None else fit.names[: fit.inner]
        coords = dict(zip(first, given, strict=True))
    data = arrange(coords, np.zeros(shape), None, None, None, "omit", name)
    if fit.names is not None and data.names is not None and data.names != fit.names:
        places = getattr(part.model, "places", range(len(fit.names) if fit.inner is None else fit.inner))
        used = [fit.names[k] for k in places]
        missing = [n for n in fit.names if n not in data.names and n in used]
        if missing:
            raise ValueError(f"{name}: coords has no {', '.join(missing)}")
        nothing = np.zeros((1,) * (1 + len(data.shape)))
        data.coords = [data.coords[data.names.index(n)] if n in data.names else nothing for n in fit.names]
    if len(data.coords) != len(fit.coords):
        raise ValueError(f"{name}: coords has {len(data.coords)} coordinates, the fit {len(fit.coords)}")
    data.build, data.framework = fit.build, fit.framework
    if point:
        data.dims = ("point",)
    return data


def band(result: Any, part: Any, coords: Any, level: float) -> tuple[Any, Any]:
    """Lower and upper bounds of one model."""
    data = part.data if coords is None else elsewhere(part, coords)
    params, n = part.own(result._done.params), prod(data.shape)
    low, high = np.full((2, len(params), n), np.nan)
    for i, theta in enumerate(params):
        if not np.isfinite(theta).all():
            continue
        here = data if coords is not None or not result._batch else _of_one(data, i)
        f, J = part.model.slopes(theta, here)
        cov = result._relative[i][np.ix_(part.places, part.places)]
        J = J * result._unit[i, part.places]
        largest = 1.0 if result._done.scale is None else float(np.abs(J).max(initial=0.0)) or 1.0
        with np.errstate(invalid="ignore"):
            width = np.sqrt(np.einsum("np,pq,nq->n", J / largest, cov, J / largest)) * largest
        half = scipy.special.ndtri(0.5 + level / 2)
        if not result._absolute:
            half = scipy.special.stdtrit(result._dof[i], 0.5 + level / 2) if result._dof[i] > 0 else np.inf
        low[i], high[i] = f - half * width, f + half * width
    if data.blank is not None:
        for side in (low, high):
            side[np.broadcast_to(data.blank, side.shape)] = np.nan
    if coords is None:
        return result._framed(result._whole(part, low)), result._framed(result._whole(part, high))
    shape = () if data.dims == ("point",) else data.shape
    low, high = (result._framed(side.reshape((*result._batch, *shape))) for side in (low, high))
    return low, high


def _of_one(data: Data, i: int) -> Data:
    """The data of one of many fits."""
    one = Data(**data.__dict__)
    one.coords = [c if len(c) == 1 else c[i : i + 1] for c in data.coords]
    one.y, one.batch = data.y[i : i + 1], ()
    one.weight = None if data.weight is None else data.weight[i : i + 1]
    return one
