"""A result of curve_fit as a labelled dataset of xarray."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from .. import dispatch
from ..extras import needs


def dataset(result: Any) -> Any:
    """Parameters, standard errors and what became of each fit."""
    with needs("xarray"):
        import xarray
    data = result._parts[0].data
    rest = [a for a in range(len(data.batch) + len(data.shape)) if a not in data.axes]
    dims = tuple(data.dims[a] for a in rest) if data.dims else tuple(f"axis_{a}" for a in rest)
    coords = {
        name: c for name, c in data.labels.items() if hasattr(c, "dims") and c.dims and set(c.dims) <= set(dims)
    } if data.dims else {}  # fmt: skip
    names, units, p = result.names, result.units, len(result.names)
    popt = result.popt
    framework = dispatch.frameworks((type(popt),))[0]
    popt = popt if framework in ("", "numpy") else dispatch.of(framework).numpy(popt)
    variables: dict[str, Any] = {}
    columns = ((np.asarray(popt), ""), (result._errors.reshape((*result._batch, p)), "_stderr"))
    for _, shape, at in result._parameters.spans():
        leaf = names[at].partition("[")[0]
        for values, suffix in columns:
            block = values[..., at : at + prod(shape)].reshape((*result._batch, *shape))
            inner = tuple(f"{leaf}_{k}" for k in range(len(shape)))
            attrs = {"units": units[leaf]} if leaf in units else {}
            variables[leaf + suffix] = ((*dims, *inner), np.array(block), attrs)
    cov = result._cov.reshape((*result._batch, p, p))
    variables["cov"] = ((*dims, "parameter", "parameter_"), np.array(cov))
    for name in ("status", "n_iter", "chi2", "dof"):
        variables[name] = (dims, np.asarray(getattr(result, name)))
    labels = {"parameter": list(names), "parameter_": list(names)}
    what = ", ".join(part.model.describes for part in result._parts)
    return xarray.Dataset(variables, {**coords, **labels}, {"model": what, "message": result.message})
