"""One call with labelled arrays: dims in the order of its rule, the function on bare arrays, labels on the result."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .. import coordinate, lazy
from ..grid import Grid


def _xarray() -> Any:
    """The module, if it is loaded."""
    return sys.modules.get("xarray")


def labelled(x: Any) -> bool:
    """Whether it is a DataArray, a Variable or a Dataset."""
    xr = _xarray()
    return xr is not None and isinstance(x, (xr.DataArray, xr.Dataset, xr.Variable))


def _nested(x: Any, test: Callable[[Any], bool]) -> bool:
    if isinstance(x, (tuple, list, Mapping)) and not labelled(x):
        return any(_nested(i, test) for i in (x.values() if isinstance(x, Mapping) else x))
    return test(x)


def bare(x: Any) -> Any:
    """Without labels, all through."""
    if labelled(x):
        if not hasattr(x, "data"):
            raise TypeError("a Dataset is several arrays: choose one of its variables, or map over them")
        return x.data
    if isinstance(x, (tuple, list)):
        return type(x)(map(bare, x)) if type(x) in (tuple, list) else x
    return {k: bare(v) for k, v in x.items()} if type(x) is dict else x


_known = functools.lru_cache(maxsize=256)(inspect.signature)


def _signature(f: Callable[..., Any]) -> inspect.Signature:
    # of a closure it is worked out anew: a cache would keep what that holds
    return inspect.signature(f) if getattr(f, "__closure__", None) else _known(f)


def run(name: str, rule: Any, f: Callable[..., Any], args: Any, kwargs: dict[str, Any], tuples: bool) -> Any:
    """The function on labelled or lazy arrays."""
    signature, where = _signature(f), f"gf.{name}"
    named = dict(kwargs)
    dim = named.pop("dim", None) if "dim" not in signature.parameters else None
    try:
        given = dict(signature.bind(*args, **named).arguments)
    except TypeError as error:
        raise TypeError(f"{where}: {error}") from None
    if not any(_nested(v, labelled) for v in given.values()):
        if dim is not None:
            raise TypeError(f"{where}: dim={dim!r} names dims, but no argument is labelled: give axis")
        return lazy.call(name, f, given)
    for key, value in given.items():
        if _xarray() is not None and isinstance(value, _xarray().Variable):
            given[key] = _xarray().DataArray(value)
    if rule is None:
        if dim is not None:
            raise TypeError(f"{where}: it takes no dim")
        dims = {k: tuple(v.dims) for k, v in given.items() if hasattr(v, "dims") and hasattr(v, "data")}
        return _like(given, _compute(name, f, {k: bare(v) for k, v in given.items()}, dims))
    return Call(name, rule, f, given, dim, tuples).run()


def _compute(name: str, f: Callable[..., Any], given: dict[str, Any], dims: dict[str, Any]) -> Any:
    """On bare arrays; an error that names an axis of a lazy one gets the name of its dim."""
    if not any(_nested(v, lazy.is_lazy) for v in given.values()):
        return f(**given)
    try:
        return lazy.call(name, f, given)
    except lazy.InChunks as error:
        known = dims.get(error.argument)
        if known is None or max(error.axes) >= len(known):
            raise
        raise ValueError(error.text([repr(known[a]) for a in error.axes], ".chunk")) from None


def _like(given: dict[str, Any], out: Any) -> Any:
    """Of functions without a rule: gradients (deform_gradient) have the labels of what they are in."""
    named = {"images": 0, "displacement": 1}
    if not isinstance(out, tuple) or not set(named) <= set(given):
        return out
    done = list(out)
    for key, i in named.items():
        x = given[key]
        if isinstance(x, _xarray().DataArray) and getattr(done[i], "shape", None) == x.shape:
            done[i] = x.copy(data=done[i])
    return tuple(done)


def own(name: str, f: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """A function that reads labels itself (of y): dims by name become numbers of axes, coordinates by name arrays."""
    where, named = f"gf.{name}", dict(kwargs)
    dim = named.pop("dim", None)
    given = dict(_signature(f).bind(*args, **named).arguments)
    y: Any = given.get("y")
    coords: Any = given.get("coords")
    if hasattr(y, "dims"):
        if isinstance(coords, str) and coords in y.coords:
            given["coords"] = y.coords[coords]
        for d in [] if dim is None else list(dim) if isinstance(dim, (list, tuple)) else [dim]:
            if d not in y.dims:
                raise ValueError(f"{where}: y has dims {tuple(y.dims)}, but not {d!r}")
            given["axis"] = (*given.get("axis", ()), y.dims.index(d))
    elif dim is not None:
        raise TypeError(f"{where}: dim={dim!r} names dims, but y is not labelled: give axis")
    if not any(_nested(v, _is_lazy) for v in given.values()):
        return f(**given)
    try:
        return lazy.call(name, f, given)
    except lazy.InChunks as error:
        if not hasattr(y, "dims"):
            raise
        raise ValueError(error.text([repr(y.dims[a]) for a in error.axes], ".chunk")) from None


def _is_lazy(x: Any) -> bool:
    """Whether it is of dask, with labels or without."""
    if labelled(x) and not hasattr(x, "data"):
        return any(lazy.is_lazy(v.data) for v in x.variables.values())
    return lazy.is_lazy(x.data if labelled(x) else x)


BATCHED = ("nufft1", "nufft2", "nufft3", "convolve_points", "cdist", "pairwise")  # points (*batch, N, ndim)


class Call:
    """A call as its rule has it."""

    def __init__(self, name: str, rule: Any, f: Callable[..., Any], given: dict[str, Any], dim: Any, tuples: bool):
        self.name, self.rule, self.f, self.given, self.tuples = name, rule, f, given, tuples
        self.where, self.xr = f"gf.{name}", _xarray()
        self.dim = None if dim is None else list(dim) if isinstance(dim, (list, tuple)) else [dim]
        self.dims: dict[str, list[Any]] = {"*": [], "grid": [], "pts": [], "axis": []}
        self.names: list[Any] | None = None  # of the axes, as the points have them
        self.arranged: dict[str, tuple[Any, ...]] = {}  # dims of bare arrays
        self.coords: list[Any] = []  # of labelled arguments, and whether of points
        self.fresh: dict[Any, Any] = {}  # coordinates that the result has anew
        self.falls: list[Any] = []  # dims of the grid whose coordinate decreases
        self.units: list[Any] = []  # attributes of the coordinates of points
        self.lengths: set[Any] = set()  # units of the coordinates of points
        for key, words in rule.arrays.items():
            if isinstance(given.get(key), self.xr.Dataset) and not words.endswith("axis"):
                raise TypeError(f"{self.where}: {key} is a Dataset: choose one of its variables, or use Dataset.map")
        of = given.get(rule.of) if rule.of else None
        self.main: Any = of if isinstance(of, self.xr.DataArray) else None
        self.cast: Any = None

    # ---- the order of things
    def run(self) -> Any:
        """The result, labelled."""
        words = self.rule.arrays
        if self.name == "deform":
            return self._deform()
        if self.name in ("displacement_field", "jacobian_determinant", "invert_displacement"):
            return self._displacement()
        self._align()
        for key, word in words.items():
            if word == "pts axis" and key in self.given:
                self._points(key, "pts")
            elif word == "at axis" and isinstance(self.given.get(key), (self.xr.DataArray, self.xr.Dataset, dict)):
                self._points(key, "at")
        if any("grid" in w.split() for w in words.values()):
            self._grid_dims()
        elif self.rule.result.split()[-1] in ("grid", "bins"):
            self.dims["grid"] = self._axis_names()
        for key, word in words.items():
            if isinstance(self.given.get(key), self.xr.DataArray):
                self._arrange(key, word)
        self._one_per_axis()
        self._axes()
        self._precision()
        out = _compute(self.name, self.f, {k: bare(v) for k, v in self.given.items()}, self.arranged)
        return self._labels(out)

    def _align(self) -> None:
        """What shares a dim has the same coordinate there."""
        arrays = {k: v for k, v in self.given.items() if isinstance(v, self.xr.DataArray)}
        if len(arrays) < 2:
            return
        words = self.rule.arrays
        produced = {"mask", "labels"} | ({"values"} if words.get("values") == "* grid" else set())
        produced |= {k for k, w in words.items() if w == "at axis"}
        together = [v for k, v in arrays.items() if k not in produced]
        try:
            self.xr.align(*together, join="exact", copy=False)
        except ValueError as error:
            raise ValueError(
                f"{self.where}: {', '.join(k for k in arrays if k not in produced)} have different coordinates along a "
                f"dim that they share ({str(error).splitlines()[0]}); align them first, e.g. with xarray.align"
            ) from None

    def _array(self, x: Any, name: Any = None, own: bool = False) -> Any:
        """Coordinates of points as a DataArray of numbers; a bare array gets dims."""
        if not isinstance(x, self.xr.DataArray):
            x = x if lazy.is_lazy(x) else np.asarray(x)
            line = [name] if own else ["points"]
            x = self.xr.DataArray(x, dims=line if x.ndim == 1 else [f"points_{i}" for i in range(x.ndim)])
            if own and x.ndim == 1:
                x = x.assign_coords({name: x})
        return x

    def _numbers(self, x: Any) -> Any:
        data = coordinate.numbers(x.data, self.where, x.name if x.name is not None else "points")
        return x if data is x.data else x.copy(data=data)

    def _points(self, key: str, word: str) -> None:
        """Points, in whatever form, as bare arrays; their dims, and which dim of the grid each coordinate is along."""
        p, names = self.given[key], None
        if isinstance(p, self.xr.Dataset):
            p = {k: p[k] for k in (p.data_vars or p.coords)}
        if isinstance(p, (list, tuple)) and p and all(isinstance(i, str) for i in p):
            if self.main is None or any(i not in self.main.coords for i in p):
                raise ValueError(f"{self.where}: {key} names coordinates {tuple(p)} that {self.rule.of} does not have")
            p = {i: self.main.coords[i] for i in p}
        if isinstance(p, Mapping):
            names = list(p)
            p = tuple(self._array(x, n, own=True) for n, x in p.items())
        if isinstance(p, tuple):
            items = [self._array(x) for x in p]
            if names is None and len({x.name for x in items} - {None}) == len(items):
                names = [x.name for x in items]
            try:
                self.xr.align(*items, join="exact", copy=False)
            except ValueError as error:
                raise ValueError(f"{self.where}: {key}: {error}") from None
            items = list(self.xr.broadcast(*items))
            dims = self._order(items[0].dims)
            items = [x.transpose(*dims) for x in items]
            if word == "at" and self.name == "cdist":
                items = [self._beside(x, dims) for x in items]
                dims = list(items[0].dims)
            self.lengths |= {x.attrs.get("units") for x in items}
            self.units = [dict(x.attrs) for x in items]
            self.coords += [(x.coords, True) for x in items]
            if names and self.rule.result.split()[0] == "pts":  # where each point is
                self.fresh |= {n: (dims, x.data, x.attrs) for n, x in zip(names, items, strict=True)}
            bare_items = [self._numbers(x).data for x in items]
            if self.tuples:
                self.given[key] = tuple(bare_items)
            else:
                self.given[key] = lazy.stack(bare_items)
                self.dims["axis"] = ["axis"]
            self.arranged[key] = tuple(dims)
            self.dims[word] = list(dims)
        else:
            x = self._array(p)
            if word == "at" and self.name == "cdist":
                x = self._beside(x, x.dims[-2:-1])
            self.lengths.add(x.attrs.get("units"))
            if x.ndim < 1:
                raise ValueError(f"{self.where}: {key} is a single number; coordinates are along the last dim")
            if isinstance(p, self.xr.DataArray):
                self.coords.append((x.coords, True))
                if x.dims[-1] in x.coords and x.coords[x.dims[-1]].dtype.kind in "UOT":
                    names = [str(i) for i in x.coords[x.dims[-1]].values]
            elif x.ndim == 2:  # points of NumPy
                x = x.rename(dict(zip(x.dims, ("points", "axis"), strict=True)))
            self.given[key] = self._numbers(x).data
            if not isinstance(p, self.xr.DataArray) and word == "pts":
                x = self._named_as_values(x)
            self.arranged[key] = tuple(x.dims)
            self.dims[word], self.dims["axis"] = list(x.dims[:-1]), [x.dims[-1]]
            if self.name in BATCHED:
                self.dims["*"], self.dims[word] = list(x.dims[:-2]), [x.dims[-2]] if x.ndim > 1 else []
        if word == "pts":
            self.names = names

    def _beside(self, x: Any, dims: Any) -> Any:
        """Other points: of the same dim as x, or another."""
        return x.rename({d: f"{d}_2" for d in dims if d in self.dims["pts"]})

    def _named_as_values(self, x: Any) -> Any:
        """Bare points with the dims of labelled values, where these begin, or end, with those of the points."""
        words, n, main = self.rule.arrays.get(self.rule.of or "", ""), x.ndim - 1, self.main
        if main is None or main.ndim < n or "pts" not in words:
            return x
        dims = main.dims[:n] if words.startswith("pts") else main.dims[main.ndim - n :]
        if self.name in BATCHED and n > 1:  # the axes of a batch come first, any others after them
            dims = (*main.dims[: n - 1], main.dims[-1])
        return x.rename(dict(zip(x.dims[:-1], dims, strict=True)))

    def _order(self, dims: Any) -> list[Any]:
        """Dims of points in the order that the values have them."""
        if self.main is None or not self.rule.arrays[self.rule.of].startswith("pts"):
            return list(dims)
        first = [d for d in self.main.dims if d in dims]
        return first + [d for d in dims if d not in first]

    def _axis_names(self) -> list[Any]:
        """Of the axes of a grid that only points and a Grid speak of."""
        if self.names:
            return list(self.names)
        p = self.given["points"]
        n = len(p) if isinstance(p, tuple) else p.shape[-1]
        return [f"x{i}" for i in range(n)]

    def _grid_dims(self) -> None:
        """The dims of a labelled field that are its grid."""
        key = next(k for k, w in self.rule.arrays.items() if "grid" in w.split())
        a: Any = self.given.get(key)
        if not isinstance(a, self.xr.DataArray):
            self.dims["grid"] = self._axis_names() if "points" in self.given else []
            return
        chosen = self.names or self.dim
        if self.names and self.dim and list(self.names) != self.dim:
            raise ValueError(f"{self.where}: dim is {tuple(self.dim)} but the points have {tuple(self.names)}")
        if chosen:
            for d in chosen:
                if d not in a.dims:
                    raise ValueError(f"{self.where}: {key} has dims {tuple(a.dims)}, but not {d!r}")
        else:
            chosen = list(a.dims[a.ndim - self._ndim(a.ndim) :])
        grid, p = self.given.get("grid"), self.given.get("points")
        if isinstance(grid, Grid) and grid.ndim != len(chosen):
            raise ValueError(f"{self.where}: grid has {grid.ndim} axes but dim has {len(chosen)}: {tuple(chosen)}")
        n = len(chosen) if p is None or isinstance(p, tuple) or np.ndim(p) == 0 else p.shape[-1]
        if n != len(chosen):
            raise ValueError(f"{self.where}: points has {n} coordinates per point but {len(chosen)} dims {chosen}")
        self.dims["grid"] = list(chosen)

    def _ndim(self, most: int) -> int:
        """How many of the last dims."""
        given = self.given
        if isinstance(given.get("grid"), Grid):
            n = given["grid"].ndim
        elif "points" in given:
            p = given["points"]
            n = len(p) if isinstance(p, tuple) else p.shape[-1]
        elif given.get("ndim") is not None:
            n = given["ndim"]
        elif isinstance(given.get("margins"), Mapping):
            return most
        elif isinstance(given.get("margins"), (tuple, list)):
            n = len(given["margins"])
        elif self.name == "smooth" and not isinstance(given.get("kernel", "ball"), str):
            n = np.ndim(given["kernel"])
        else:
            return most
        return min(int(n), most)

    def _arrange(self, key: str, word: str) -> None:
        """One labelled array, its dims in the order of the rule."""
        a, words = self.given[key], word.split()
        if word == "pts axis" or word == "at axis":
            return
        self.coords.append((a.coords, False))
        taken = [d for w in words if w != "*" for d in self.dims.get(w, [])]
        if word.startswith("like"):
            other = self.main
            if other is None:
                return
            if not set(a.dims) <= set(other.dims):
                raise ValueError(f"{self.where}: {key} has dims {tuple(a.dims)} but a has {tuple(other.dims)}")
            a = a.broadcast_like(other).transpose(*other.dims) if set(a.dims) != set(other.dims) else a
            order = list(other.dims)
        elif word == "series":
            self._series(key, a)
            return
        elif word == "*":
            order = self.dims["*"] = list(a.dims)
        else:
            if "modes" in words:  # the last of them
                p = self.given["points"]
                self.dims["modes"] = list(a.dims[a.ndim - p.shape[-1] :])
                taken = self.dims["modes"]
            missing = [d for d in taken if d not in a.dims]
            if "pts" in words:
                for d, n in self._sizes("pts").items():
                    if a.sizes.get(d, n) != n:
                        raise ValueError(f"{self.where}: {key} has {a.sizes[d]} along {d!r} but points {n}")
            if missing and word == "pts":
                a = a.expand_dims({d: n for d, n in self._sizes("pts").items() if d in missing})
            elif missing:
                raise ValueError(
                    f"{self.where}: {key} has dims {tuple(a.dims)} but must have {', '.join(map(repr, missing))}, too"
                )
            rest = [d for d in a.dims if d not in taken]
            if "*" not in words and rest:
                raise ValueError(f"{self.where}: {key} has dims {tuple(a.dims)} but must have {tuple(taken)} only")
            if "*" in words:
                self.dims["*"] = [d for d in self.dims["*"] if d in rest] + [d for d in rest if d not in self.dims["*"]]
                if twice := [d for d in rest if d in self.dims["pts"] and "pts" not in words]:
                    raise ValueError(
                        f"{self.where}: both {key} and points have the dim {twice[0]!r}, and every point is taken with "
                        "every item: rename it in one of them"
                    )
            order = [d for w in words for d in (self.dims[w] if w != "modes" else taken)]
        self.given[key] = a.transpose(*order)
        self.arranged[key] = tuple(order)

    def _series(self, key: str, a: Any) -> None:
        """A series as it is; several, which go along with those of the main array, with its dims."""
        y = self.main
        if y is None:
            return
        if unknown := [d for d in a.dims if d not in y.dims]:
            raise ValueError(f"{self.where}: {key} has the dim {unknown[0]!r}, but {self.rule.of} has {tuple(y.dims)}")
        for d in a.dims:
            if a.sizes[d] != y.sizes[d]:
                raise ValueError(f"{self.where}: {key} has {a.sizes[d]} along {d!r} but {self.rule.of} {y.sizes[d]}")
        if a.ndim == 1 and self.dim is None and "axis" not in self.given:
            self.dim = [a.dims[0]]
        if self.dim is not None and self.dim[0] not in a.dims:
            raise ValueError(f"{self.where}: {key} has dims {tuple(a.dims)}, but not {self.dim[0]!r}")
        if a.ndim > 1:
            a = a.expand_dims([d for d in y.dims if d not in a.dims]).transpose(*y.dims)
        self.given[key] = a

    def _sizes(self, word: str) -> dict[Any, int]:
        p = self.given["points"]
        shape = p[0].shape if isinstance(p, tuple) else p.shape[:-1]
        dims = self.dims[word]
        return coordinate.sizes(dims, shape[len(shape) - len(dims) :])  # before them are the axes of a batch

    def _one_per_axis(self) -> None:
        """{dim: value} -> a value for each axis."""
        axes, defaults = self.dims["grid"] or self.names or [], _signature(self.f).parameters
        for key in self.rule.per_axis:
            value = self.given.get(key)
            if not isinstance(value, Mapping):
                continue
            if unknown := [d for d in value if d not in axes]:
                raise ValueError(f"{self.where}: {key} has {unknown[0]!r}, but the axes are {tuple(axes)}")
            default = (0, 0) if key == "margins" else 0 if key == "derivative" else defaults[key].default
            if len(value) < len(axes) and default in (None, inspect.Parameter.empty):
                lacking = [d for d in axes if d not in value]
                raise ValueError(f"{self.where}: {key} has no value for {lacking[0]!r}")
            self.given[key] = tuple(value.get(d, default) for d in axes)

    def _axes(self) -> None:
        """The Grid, from coordinates; axes that decrease turned round; numbers of axes for names of dims."""
        parameters, given, axes = _signature(self.f).parameters, self.given, self.dims["grid"]
        key = next((k for k, w in self.rule.arrays.items() if "grid" in w.split()), "")
        a: Any = given.get(key)
        if isinstance(a, self.xr.DataArray) and "grid" in parameters:
            grid = given.get("grid")
            if grid is None:
                try:
                    grid = Grid.from_xarray(a, axes)
                except (ValueError, TypeError) as error:
                    raise type(error)(str(error).replace("gf.Grid.from_xarray", self.where)) from None
                if self.name == "prefilter" or a.size:
                    given["grid"] = grid
                given.pop("ndim", None)
            if isinstance(grid, Grid):
                for d, low, step in zip(axes, grid.origin, grid.spacing, strict=True):
                    if d in a.coords and coordinate.matches(a.coords[d].values, low, step, self.where, str(d)):
                        self.falls.append(d)
                given[key] = a.isel({d: slice(None, None, -1) for d in self.falls})
        elif isinstance(a, self.xr.DataArray) and "margins" in parameters:
            m = given["margins"]
            given["margins"] = ((m, m),) * len(axes) if isinstance(m, int) else tuple(m)
        if "axis" in parameters and self.dim is not None:
            if self.main is None or "axis" in given:
                raise TypeError(f"{self.where}: give either dim or axis, and dim with a labelled {self.rule.of}")
            for d in self.dim:
                if d not in self.main.dims:
                    raise ValueError(f"{self.where}: {self.rule.of} has dims {tuple(self.main.dims)}, but not {d!r}")
            numbers = [self.main.dims.index(d) for d in self.dim]
            given["axis"] = tuple(numbers) if len(numbers) > 1 or self.name == "histogram" else numbers[0]
        elif self.dim is not None and not axes:
            raise TypeError(f"{self.where}: it takes no dim here")

    def _precision(self) -> None:
        """Coordinates are often float64 where values are float32: the wider for both, and the result as the values."""
        if self.name not in ("sample", "splat", "nufft1", "nufft2", "nufft3", "convolve_points"):
            return
        keys = [k for k in self.rule.arrays if hasattr(self.given.get(k), "dtype")]
        main = self.given.get(self.rule.of)
        kinds = {k: np.dtype(self.given[k].dtype) for k in keys if self.given[k].dtype.kind in "fc"}
        real = {k: np.finfo(t).dtype for k, t in kinds.items()}
        if len(set(real.values())) < 2:
            return
        for k, t in kinds.items():
            wide = np.complex128 if t.kind == "c" else np.float64
            self.given[k] = self.given[k].astype(wide)
        if main is not None and self.rule.of in real and real[self.rule.of] != np.float64:
            self.cast = real[self.rule.of]

    # ---- labels
    def _labels(self, out: Any) -> Any:
        from .results import labels

        return labels(self, out)

    def _deform(self) -> Any:
        from .results import deform

        return deform(self, _compute, bare)

    def _displacement(self) -> Any:
        from .results import displacement

        return displacement(self, _compute, bare)
