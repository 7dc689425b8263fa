"""The accessor `.gf` of xarray.DataArray: gridfield's functions as methods, with dims by name.

``import gridfield.xarray`` registers it. Every method is the function of that name: of `gridfield`, which take labelled
arrays as they are.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from . import vocabulary
from .extras import needs
from .grid import Grid
from .hook import hook

with needs("xarray"):
    import xarray

__all__ = ["Accessor"]


@xarray.register_dataarray_accessor("gf")
class Accessor:
    """gridfield's functions on a DataArray: ``array.gf.smooth("gaussian", sigma=2.0, dim=["lat", "lon"])``.

    Dims, coordinates, attributes and units are kept, arrays of dask stay lazy. `dim` names the dims that a function is
    about; the rest goes along. Grids are those of the coordinates (see `Grid.from_xarray`), in their units.

    Parameters
    ----------
    array : xarray.DataArray
        What the methods are of.

    Examples
    --------
    >>> import gridfield.xarray, numpy as np, xarray as xr
    >>> t = xr.DataArray(np.eye(5), {"y": np.arange(5) * 0.5, "x": np.arange(5) * 0.5}, ["y", "x"])
    >>> t.attrs["units"] = "K"
    >>> smooth = t.gf.smooth("ball", 0.6)  # radius in the units of x and y
    >>> smooth.dims, smooth.attrs, float(smooth[2, 2].round(3))
    (('y', 'x'), {'units': 'K'}, 0.317)
    """

    def __init__(self, array: xarray.DataArray) -> None:
        self._array = array

    def grid(self, dim: Any = None, *, periodic: Any = False) -> Grid:
        """The Grid of the coordinates: `Grid.from_xarray`.

        Parameters
        ----------
        dim : str or sequence of str, optional
            The axes of the grid. Default: all.
        periodic : bool, or str or sequence of str, default False
            Whether the axes close on themselves, or those that do.

        Returns
        -------
        Grid

        Examples
        --------
        >>> import gridfield.xarray, numpy as np, xarray as xr
        >>> xr.DataArray(np.zeros(4), {"x": [0.0, 0.5, 1.0, 1.5]}, ["x"]).gf.grid(periodic=True)
        Grid((4,), (0.0, 2.0), periodic=True)
        """
        return Grid.from_xarray(self._array, dim, periodic=periodic)

    def refine(self, factor: Any, dim: Any = None, *, kernel: Any = "cubic", boundary: Any = "mirror") -> Any:
        """The spline through the samples, on a grid `factor` times finer.

        Parameters
        ----------
        factor : int, or {dim: int}
            n samples become ``(n - 1) * factor + 1``.
        dim : str or sequence of str, optional
            What is refined. Default: all dims, or those of the dict.
        kernel, boundary
            As for `gridfield.sample`.

        Returns
        -------
        xarray.DataArray
            In its coordinates, too, finer.

        Raises
        ------
        ValueError
            If a coordinate is not evenly spaced, or is of dask and in several chunks.

        Examples
        --------
        >>> import gridfield.xarray, numpy as np, xarray as xr
        >>> y = xr.DataArray([0.0, 2.0, 4.0], {"x": [10.0, 20.0, 30.0]}, ["x"]).gf.refine(2, kernel="linear")
        >>> y.values, y.x.values
        (array([0., 1., 2., 3., 4.]), array([10., 15., 20., 25., 30.]))
        """
        out, where = self._array, "gf.refine"
        factors: Any = dict(factor) if isinstance(factor, dict) else None
        if dim is None:
            dim = list(factors) if factors else list(out.dims)
        for d in [dim] if isinstance(dim, str) else list(dim):
            if d not in out.dims:
                raise ValueError(f"{where}: dim has {d!r}, but the array has {tuple(out.dims)}")
            times: Any = factors[d] if factors else factor
            fine = Grid.from_xarray(out, d).refine(times).axes()[0]
            if d in out.coords:
                x = out.coords[d]
                if x.size > 1 and x[0] > x[-1]:
                    fine = fine[::-1]
                places = xarray.DataArray(_as_coordinate(fine, x), dims=d, attrs=x.attrs)
            else:
                places = xarray.DataArray(fine, dims=d)
            order = out.dims
            made = hook("sample", vocabulary.sample)(
                out, {d: places.assign_coords({d: places})}, kernel=kernel, boundary=boundary
            )
            out = made.transpose(*order)
            out = out if d in self._array.coords else out.drop_vars(d)
        return out


def _as_coordinate(x: Any, like: Any) -> Any:
    """Days as dates or durations where the coordinate has those."""
    if like.dtype.kind not in "mM":
        return x
    days = (x * 86400e9).round().astype("timedelta64[ns]")
    return days if like.dtype.kind == "m" else np.datetime64("1970-01-01", "ns") + days


def _method(name: str, place: int) -> Any:
    """The function with the array in that place among its arguments."""
    f = getattr(vocabulary, name)
    own, call = list(inspect.signature(f).parameters.values()), hook(name, f)
    array = own[place].name

    def method(self: Accessor, *args: Any, **kwargs: Any) -> Any:
        if len(args) < place:  # the others by name
            return call(*args, **kwargs, **{array: self._array})
        return call(*args[:place], self._array, *args[place:], **kwargs)

    method.__name__, method.__qualname__ = name, f"Accessor.{name}"
    rest = [p for p in own if p.name != array]
    me, dim = (
        inspect.Parameter(n, kind)
        for n, kind in (("self", rest[0].POSITIONAL_OR_KEYWORD), ("dim", rest[0].KEYWORD_ONLY))
    )
    method.__signature__ = inspect.Signature([me, *rest, dim.replace(default=None)])  # type: ignore[attr-defined]
    said = f"dim : str or sequence of str, optional\n        The dims that it is about; {array} is the DataArray.\n    "
    method.__doc__ = (f.__doc__ or "").replace(
        "Parameters\n    ----------\n    ", "Parameters\n    ----------\n    " + said, 1
    )
    return method


FIRST = ("sample", "splat", "prefilter", "pad", "fold", "smooth", "fill_empty", "histogram", "deform", "detrend",
         "rolling_mean", "corr_matrix", "cdist", "pairwise")  # fmt: skip
SECOND = ("binned_statistic", "grid_and_smooth", "to_grid", "fit_field", "corr", "select", "lookup", "nufft1",
          "nufft2", "convolve_points")  # fmt: skip
THIRD = ("curve_fit",)
for _place, _names in enumerate((FIRST, SECOND, THIRD)):
    for _name in filter(vocabulary.__dict__.__contains__, _names):
        setattr(Accessor, _name, _method(_name, _place))
