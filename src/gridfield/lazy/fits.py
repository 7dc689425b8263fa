"""curve_fit of data of dask: every block of fits by itself, and a result whose numbers are arrays of dask."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from ..fits.data import _axes, _fits, _is_variable
from ..grid import Grid
from .blocks import array, each, is_lazy, known, whole, words
from .lazy_fit import NUMBERS, LazyFit
from .sums import _others

Given = dict[str, Any]
WHERE = "gf.curve_fit"
MAPS = ("p0", "bounds", "fixed")
BESIDE = ("sigma", "where")


@dataclass(frozen=True)
class Hole:
    """The place of an argument that comes block by block: which of the arrays, and how it is put there."""

    number: int
    kind: str  # "outer": axes as y, "inner": those of one fit, "stack": one before those of y, "map": of the fits
    labels: Any = None  # dims, name and attributes


@dataclass(frozen=True)
class Frame:
    """What a block needs to know; it travels to where that is computed, without any data."""

    pad: int
    labelled: bool
    dims: tuple[str, ...]
    name: Any
    attrs: dict[str, Any]

    def filled(self, tree: Any, blocks: Any) -> Any:
        """With the arrays of a block in their places."""
        if isinstance(tree, Mapping) and not hasattr(tree, "dims"):
            return {k: self.filled(v, blocks) for k, v in tree.items()}
        if isinstance(tree, (tuple, list)):
            return type(tree)(self.filled(v, blocks) for v in tree)
        if not isinstance(tree, Hole):
            return tree
        x, ones = np.asarray(blocks[tree.number]), (1,) * self.pad
        if tree.kind == "labelled":
            dims, name, attrs = tree.labels
            return sys.modules["xarray"].DataArray(x, dims=dims, name=name, attrs=attrs)
        if tree.kind == "stack":
            return x.reshape((x.shape[0], *ones, *x.shape[1:]))
        return x if tree.kind == "inner" else x.reshape((*ones, *x.shape))

    def block(self, y: Any, coords: Any = None) -> Any:
        """The data of a block, with labels; coords: those that it has of y."""
        y = y.reshape((1,) * self.pad + y.shape)
        if not self.labelled:
            return y
        import xarray

        dims = (*(f"gridfield_{i}" for i in range(self.pad)), *self.dims)
        return xarray.DataArray(y, coords, dims, name=self.name, attrs=self.attrs)


class Layout:
    """y, its axes in words, and the arrays that go along with it."""

    def __init__(self, y: Any, axis: Any) -> None:
        labelled = hasattr(y, "dims")
        self.dims = tuple(map(str, y.dims)) if labelled else ()
        self.data = array(y.data if labelled else y)
        known(self.data, WHERE, "y")
        self.axes = _axes(axis, self.data.ndim, self.dims, WHERE)
        self.rest = tuple(a for a in range(self.data.ndim) if a not in self.axes)
        whole(self.data, self.axes, WHERE, "y", ", as one fit takes all of its points")
        self.index = words("a", self.data.ndim)
        self.batch = tuple(self.data.shape[a] for a in self.rest)
        self.shape = tuple(self.data.shape[a] for a in self.axes)
        self.fits = tuple(self.index[a] for a in self.rest)
        # one axis more than constants may have: else a vector could pass for a map of the fits of a block
        pad = 4 if self.batch else 0
        self.arrays: list[Any] = []
        self.coords = {str(k): c for k, c in y.coords.items()} if labelled else {}
        name, attrs = (y.name, dict(y.attrs)) if labelled else (None, {})
        self.frame = Frame(pad, labelled, self.dims, name, attrs)

    def _add(self, x: Any, index: tuple[Any, ...], kind: str, labels: Any = None) -> Hole:
        """An array with these words, whole along all but those of the fits."""
        if is_lazy(x):
            of_y = dict(zip(self.index, self.data.chunks, strict=True)) if is_lazy(self.data) else {}
            along = {i: of_y.get(w, -1) if w in self.fits else -1 for i, w in enumerate(index)}
            x = x.rechunk({i: c for i, c in along.items() if x.shape[i] != 1})
        self.arrays += [x, index]
        return Hole(len(self.arrays) // 2 - 1, kind, labels)

    def beside(self, x: Any, name: str) -> Any:
        """What broadcasts against the data, or against those of one fit."""
        if x is None or isinstance(x, (str, Grid)):
            return x
        if hasattr(x, "dims") and hasattr(x, "data") and not isinstance(x, np.ndarray):
            outer = any(str(d) in self.dims and self.dims.index(str(d)) in self.rest for d in x.dims)
            if not self.frame.labelled or not (outer or is_lazy(x.data)):
                return x
            if any(str(d) not in self.dims for d in x.dims):
                return x  # an error
            index = tuple(self.index[self.dims.index(str(d))] for d in x.dims)
            return self._add(x.data, index, "labelled", (x.dims, x.name, dict(x.attrs)))
        if isinstance(x, (int, float)):
            return x
        a, inner = array(x), len(self.axes)
        if a.ndim == 0 and not is_lazy(a):
            return x
        if a.ndim <= inner and (a.ndim == inner or not self.batch):
            if _fits((1,) * (inner - a.ndim) + a.shape, self.shape):
                own = tuple(self.index[i] for i in self.axes)
                return self._add(a, own[inner - a.ndim :], "inner") if is_lazy(a) else x
        elif a.ndim <= self.data.ndim:
            full = a.reshape((1,) * (self.data.ndim - a.ndim) + a.shape)
            if _fits(full.shape, self.data.shape):
                return self._add(full, self.index, "outer")
        raise ValueError(
            f"{WHERE}: {name} has shape {a.shape}, which does not broadcast to that of y, {self.data.shape}, of one "
            f"fit {self.shape}"
        )

    def map(self, x: Any) -> Any:
        """What may be a map of the fits."""
        if isinstance(x, Mapping):
            return {k: self.map(v) for k, v in x.items()}
        if isinstance(x, (list, tuple)):
            return type(x)(self.map(v) for v in x)
        if x is None or isinstance(x, (str, int, float)):
            return x
        if hasattr(x, "lb"):
            return self.map((x.lb, x.ub))
        a = x.data if hasattr(x, "dims") else x
        a, n = array(a) if is_lazy(a) or isinstance(a, np.ndarray) else a, len(self.batch)
        if is_lazy(a) and (not n or tuple(a.shape[:n]) != self.batch):
            raise ValueError(f"{WHERE}: a map of shape {a.shape} of dask does not begin with the axes of the fits")
        if n and tuple(np.shape(a)[:n]) == self.batch:
            more = words(f"more{len(self.arrays)}_", np.ndim(a) - n)
            return self._add(a, (*self.fits, *more), "map")
        return x

    def coordinates(self, coords: Any) -> Any:
        """Each of them, in the form that is given."""
        array_like: Any = coords
        full, inner = self.data.shape, len(self.axes)
        if isinstance(coords, Grid) and coords.shape == full != self.shape:
            pick: list[Any] = [tuple(t[a] for a in self.axes) for t in (coords.shape, coords.origin, coords.spacing)]
            return Grid.from_spacing(*pick)
        if hasattr(coords, "data_vars"):
            found = {str(k): c for k, c in (*array_like.items(), *array_like.coords.items())}
            return {k: self.beside(c, f"coords[{k!r}]") for k, c in found.items()}
        if isinstance(coords, Mapping):
            return {k: self.beside(c, f"coords[{k!r}]") for k, c in coords.items()}
        if isinstance(coords, (tuple, list)) and any(np.ndim(c) for c in coords):
            return tuple(self.beside(c, f"coords[{k}]") for k, c in enumerate(coords))
        if hasattr(coords, "dims"):
            out = self.beside(coords, "coords")
            if isinstance(out, Hole) and not _is_variable(coords):
                raise TypeError(f"{WHERE}: coords is a field with coordinates of its own: give these, as a dictionary")
            return out
        if isinstance(coords, np.ndarray) or is_lazy(coords):
            own = tuple(self.index[a] for a in self.axes)
            if array_like.ndim == inner + 1 != len(full) and _fits(array_like.shape[1:], self.shape):
                return self._add(coords, ("stack", *own), "inner") if is_lazy(coords) else coords
            if array_like.ndim == len(full) + 1 and _fits(array_like.shape[1:], full):
                return self._add(coords, ("stack", *self.index), "stack")
        return self.beside(coords, "coords")


def curve_fit(fit: Callable[..., Any], given: Given) -> LazyFit:
    """Fits of blocks, packed; their axes are whole in each."""
    if isinstance(given["f"], (dict, list)) or (isinstance(given["f"], tuple) and not callable(given["f"])):
        raise TypeError(f"{WHERE}: several models of data of dask: call y.compute() first")
    lay = Layout(given["y"], given.get("axis"))
    options = _others(given, "f", "y", "axis", "coords", "progress", *MAPS, *BESIDE)
    frame, model, rest = lay.frame, given["f"], lay.rest  # what goes with each block, and nothing else
    options["axis"] = tuple(a + frame.pad for a in lay.axes)
    of_y = {k: lay.beside(c, k) for k, c in lay.coords.items()}
    tree = {"coords": lay.coordinates(given.get("coords"))}
    tree |= {k: lay.beside(given.get(k), k) for k in BESIDE}
    aside = len(lay.arrays)
    tree |= {k: lay.map(given.get(k)) for k in MAPS}

    def run(y: Any, blocks: Any, tree: Any, **more: Any) -> Any:
        data = frame.block(y, frame.filled(of_y, blocks))
        return fit(model, y=data, **frame.filled(tree, blocks), **options, **more)

    probe = _probe(lay, tree, run)
    parameters, p = probe._parameters, probe._parameters.size

    def packed(y: Any, *blocks: Any) -> Any:
        r = run(y, blocks, tree)
        more = [np.asarray(getattr(r, name), np.float64).reshape(-1, 1) for name in NUMBERS]
        batch = tuple(y.shape[a] for a in rest)
        popt, cov = (np.asarray(a, np.float64).reshape(prod(batch), k) for a, k in ((r.popt, p), (r.cov, p * p)))
        return np.concatenate([popt, cov, *more], 1).reshape(*batch, size)

    size = p + p * p + len(NUMBERS)
    rows = each(packed, (*lay.fits, "field"), lay.data, lay.index, *lay.arrays, dtype=np.float64, new={"field": size},
                name="curve_fit")  # fmt: skip

    def again(popt: Any, of: Callable[[Any], Any], tail: tuple[int, ...] | None, name: str) -> Any:
        """Something of the fits, from their parameters, which are not looked for once more."""
        held = tree | {"bounds": None, "fixed": list(parameters.names)}

        def block(popt: Any, y: Any, *blocks: Any) -> Any:
            ones, batch = (1,) * frame.pad, popt.shape[:-1]
            leaves = [popt[..., at : at + prod(s)].reshape(ones + batch + s) for _, s, at in parameters.spans()]
            start = leaves if parameters.style in ("args", "vector") else parameters.tree(leaves)
            out = np.asarray(of(run(y, blocks, held | {"p0": start}, maxiter=1)), np.float64)
            return out.reshape(out.shape[frame.pad :])

        made = lay.index if tail is None else (*lay.fits, *words("at", len(tail)))
        new = {} if tail is None else dict(zip(words("at", len(tail)), tail, strict=True))
        return each(block, made, popt, (*lay.fits, "p"), lay.data, lay.index, *lay.arrays[:aside], dtype=np.float64,
                    new=new, name=name)  # fmt: skip

    names = tuple(lay.dims[a] for a in lay.rest) if frame.labelled else tuple(f"axis_{a}" for a in lay.rest)
    labels = {k: c for k, c in lay.coords.items() if c.dims and set(map(str, c.dims)) <= set(names)}
    return LazyFit(rows, probe, again, names, labels, lay.batch)


def _probe(lay: Layout, tree: Any, run: Callable[..., Any]) -> Any:
    """A fit of some numbers with all that is there but the data: parameters, their units, and errors."""

    def like(i: int) -> Any:
        x, index = lay.arrays[2 * i : 2 * i + 2]
        shape = tuple(1 if w in lay.fits else n for w, n in zip(index, x.shape, strict=True))
        kinds = {h.number: h.kind for h in _holes(tree)}
        if x.dtype.kind == "b" or kinds.get(i) == "map":
            return np.ones(shape, x.dtype)
        return np.linspace(0.5, 1.0, prod(shape)).reshape(shape)

    blocks = [like(i) for i in range(len(lay.arrays) // 2)]
    own = tree | {"bounds": None} if any(True for _ in _holes(tree["bounds"])) else tree
    shape = tuple(1 if a in lay.rest else n for a, n in enumerate(lay.data.shape))
    y = np.linspace(0.5, 1.0, prod(shape)).reshape(shape)
    with np.errstate(all="ignore"):
        return run(y.astype(lay.data.dtype) if lay.data.dtype.kind not in "fiub" else y, blocks, own, maxiter=1)


def _holes(tree: Any) -> Any:
    if isinstance(tree, Hole):
        yield tree
    for x in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ():
        yield from _holes(x)


TABLE: dict[str, Callable[..., Any]] = {"curve_fit": curve_fit}
