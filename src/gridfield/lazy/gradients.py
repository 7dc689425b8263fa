"""deform_gradient of dask: the gradient in the images block by block, that in the displacement a sum over blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .blocks import InChunks, array, each, is_lazy, known, whole, words
from .pieces import LATE, axes_of
from .stencils import split
from .sums import _others

Given = dict[str, Any]
WHERE = "gf.deform_gradient"


def deform_gradient(f: Callable[..., Any], given: Given) -> tuple[Any, Any]:
    """Both gradients of one image, along whose deformed axes there is one chunk."""
    images, ct = given["images"], given["cotangent"]
    shape_only = isinstance(images, tuple) and all(isinstance(n, (int, np.integer)) for n in images)
    if isinstance(images, (list, dict)) or (isinstance(images, tuple) and not shape_only):
        raise TypeError(f"{WHERE}: several images, some of dask: call it for each of them")
    ct = array(ct)
    x: Any = None if shape_only else array(images)
    shape: Any = images if x is None else x.shape
    for name, a in (("cotangent", ct), ("images", x)):
        known(a, WHERE, name)
    late = {k: given[k] for k in LATE if is_lazy(given.get(k))}
    options = _others(given, "cotangent", "images", *late)
    axes, _, size = axes_of(given | {k: np.broadcast_to(0.0, p.shape) for k, p in late.items()}, shape, WHERE)
    patch = tuple(size[axes.index(a)] if a in axes else n for a, n in enumerate(shape))
    if ct.shape != patch:
        raise ValueError(f"{WHERE}: cotangent has shape {ct.shape} but gf.deform returns {patch}")
    batch = given.get("batch_axis")
    own = [*axes, *([] if batch is None else [batch % len(shape)])]
    for name, a in (("cotangent", ct), ("images", x)):
        if a is not None and (cut := split(a, own) if is_lazy(a) else []):
            raise InChunks(WHERE, name, cut, ", as a gradient may come from anywhere in it")
        whole(a, own, WHERE, name)
    index = words("a", len(shape))
    of_ct = tuple(f"{w}'" if a in axes else w for a, w in enumerate(index))
    pairs = [p for k, a in late.items() for p in (a.rechunk(-1), words(k, a.ndim))]
    options["axis"] = axes
    u: Any = given.get("displacement")
    follow = x is not None and u is not None and not hasattr(u, "spline")
    kinds = _types(f, ct, x, u, options, len(axes), follow)

    def of(*arrays: Any) -> Given:
        return options | dict(zip(late, arrays, strict=True))

    def in_image(c: Any, *arrays: Any) -> Any:
        full = tuple(shape[a] if a in axes else n for a, n in enumerate(c.shape))
        return f(c.astype(kinds[0], copy=False), full, **of(*arrays))[0]

    first = each(in_image, index, ct, of_ct, *pairs, dtype=kinds[0], new={index[a]: shape[a] for a in axes},
                 name="deform_gradient")  # fmt: skip
    if not follow or u is None:
        return first, None
    lead = tuple(w for a, w in enumerate(index) if a not in own)
    made = words("u", u.ndim)

    def in_displacement(c: Any, b: Any, *arrays: Any) -> Any:
        return f(c, b, **of(*arrays))[1][(None,) * len(lead)]

    parts = each(in_displacement, (*lead, *made), ct, of_ct, x, index, *pairs, dtype=kinds[1], ones=lead,
                 new=dict(zip(made, u.shape, strict=True)), name="deform_gradient")  # fmt: skip
    return first, parts.sum(axis=tuple(range(len(lead))), dtype=kinds[1]) if lead else parts


def _types(f: Callable[..., Any], ct: Any, x: Any, u: Any, options: Given, nd: int, follow: bool) -> list[np.dtype]:
    """Of the gradients: those of a small image."""
    small = np.zeros((2,) * nd, ct.dtype)
    none = np.zeros((nd, *small.shape), u.dtype if hasattr(u, "dtype") else np.float64)
    how = {k: options[k] for k in ("kernel", "boundary", "prefilter") if k in options}
    out = f(small, small.shape if x is None else small.astype(x.dtype), none, **how)
    return [a.dtype for a in out[: 1 + follow]]


TABLE: dict[str, Callable[..., Any]] = {"deform_gradient": deform_gradient}
