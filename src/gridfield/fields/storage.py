"""Storage: fields in files and as labelled arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from .. import files, labelled
from .base import Base


class Storage(Base):
    """What becomes of a field when a program ends."""

    def save(self, path: Any) -> None:
        """Write the field to a file, which `load` reads in any framework.

        A safetensors file, without pickles: the coefficients in their own type as its one tensor, and as JSON in its
        metadata the grid, kernels and boundaries to the last bit. Whether gradients are wanted, the device, and the
        state of an optimiser are not in it.

        Parameters
        ----------
        path : str or os.PathLike
            The file, by convention ``*.safetensors``. One that is there is replaced, whole or not at all.

        Raises
        ------
        OSError
            If the file cannot be written.
        TypeError
            If the coefficients have no values yet: while a framework is tracing.
        ImportError
            If safetensors is missing: ``pip install "gridfield[files]"``.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> SplineField((4, 5), channels=2, bounds=[(0, 3), (0, 9)]).save("warp.safetensors")
        >>> SplineField.load("warp.safetensors")
        SplineField(Grid((4, 5), ((0.0, 3.0), (0.0, 9.0)), periodic=False), channels=2, kernel=cubic, boundary=natural)
        """
        files.save(self, path)

    @classmethod
    def load(cls, path: Any, **options: Any) -> Self:
        """The field in a file that `save` wrote, in this framework or another.

        Parameters
        ----------
        path : str or os.PathLike
            The file.
        **options
            What else the constructor takes: `dtype` (default: as in the file), `device` in torch, `name` and
            `trainable` in Keras.

        Returns
        -------
        SplineField
            Equal to the saved one to the last bit.

        Raises
        ------
        OSError
            If there is no such file, or it cannot be read.
        ValueError
            If it is cut short, not of a field, or written by a later version.
        ImportError
            If safetensors is missing: ``pip install "gridfield[files]"``.

        Examples
        --------
        >>> import torch
        >>> from gridfield.torch import SplineField
        >>> SplineField(6, dtype=torch.float64).save("line.safetensors")
        >>> SplineField.load("line.safetensors", device="cpu").coefficients.dtype
        torch.float64
        """
        return files.load(cls, path, options)

    def to_xarray(
        self,
        *,
        dims: str | Sequence[str] | None = None,
        units: str | Sequence[str | None] | None = None,
        name: str | None = "coefficients",
    ) -> Any:
        """The coefficients as a labelled array, from which `from_xarray` makes the field again.

        Parameters
        ----------
        dims : str or sequence of str, optional
            A name for each axis; default those of the array that the field came from, else ``x0``, ``x1``, ...
        units : str or one str or None per axis, optional
            Of the bounds; default those of the array that the field came from, else none. A str is for all axes.
        name : str, optional
            Of the array.

        Returns
        -------
        xarray.DataArray, dimensions ("channel", *dims)
            A copy, with the positions of the control points as coordinates (whose attribute `units` is theirs) and
            the attribute `gridfield`: kernels, boundaries and grid as JSON. float16 and bfloat16 become float32, as
            netCDF has no such types; `from_xarray` makes them what they were.

        Raises
        ------
        ValueError, TypeError
            If dims or units are not one word per axis, or the coefficients have no values yet.
        ImportError
            If xarray is missing: ``pip install "gridfield[xarray]"``.

        Notes
        -----
        ``array.to_netcdf(path)`` and ``xarray.open_dataarray(path)`` keep all of it; netCDF 3 through SciPy suffices.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> field = SplineField((4, 5), channels=2, bounds=[(0, 3), (0, 9)])
        >>> array = field.to_xarray(dims=("y", "x"), units="nm")
        >>> array.dims, array.y.values, array.y.units
        (('channel', 'y', 'x'), array([0., 1., 2., 3.]), 'nm')
        """
        return labelled.to_xarray(self, dims, units, name)

    @classmethod
    def from_xarray(cls, array: Any, **options: Any) -> Self:
        """The field of an array that `to_xarray` made, in this framework or another.

        Parameters
        ----------
        array : xarray.DataArray
            Its dimensions may have been renamed, reordered, and cut to a part: of consecutive control points, which
            then are all that the field has. Near its new ends it differs from the whole one.
        **options
            What else the constructor takes: `dtype` (default: that of the array, or what `to_xarray` widened), `device`
            in torch, `name` and `trainable` in Keras.

        Returns
        -------
        SplineField
            It remembers the names and units of its axes: `to_xarray`, `save`, and fields made from it have them, too.

        Raises
        ------
        ValueError
            If the array did not come from `to_xarray`, or its coordinates are not control points of the field any more:
            interpolated, moved, rescaled, or a part of a period. For data on a grid of its own there is `interpolate`.
        TypeError
            If it is no xarray.DataArray of floating-point numbers.
        ImportError
            If xarray is missing: ``pip install "gridfield[xarray]"``.

        Examples
        --------
        >>> from gridfield.torch import SplineField
        >>> array = SplineField((4, 5), bounds=[(0, 3), (0, 9)]).to_xarray(dims=("y", "x"), units="nm")
        >>> field = SplineField.from_xarray(array.transpose("x", ...).isel(y=slice(1, 4)))
        >>> field.grid
        Grid((3, 5), ((1.0, 3.0), (0.0, 9.0)), periodic=False)
        >>> field.to_xarray().x.units
        'nm'
        """
        return labelled.from_xarray(cls, array, options)
