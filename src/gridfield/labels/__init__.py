"""Labelled arrays: how the dims of arguments become the dims of results, said once for every public function.

A rule is words. Of an argument ``"* grid"``: leading dims, then those of the grid; ``"pts axis"``: points with their
coordinates along the last dim; ``"like a"``: aligned by name with argument `a`; ``"series"``: one dim, or those of the
main array. Of the result, the same words. `binding.Call` reads the rules: it puts dims in that order, makes the Grid
from coordinates, calls the function on bare arrays (of NumPy, or lazily of dask); `results` labels what comes back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Units = Callable[[str, dict[str, Any]], str | None]


def _kept(units: str, arguments: dict[str, Any]) -> str | None:
    return units


def _none(units: str, arguments: dict[str, Any]) -> str | None:
    """Of a count, a number of a cell, a ratio."""
    return None


def _of_statistic(units: str, arguments: dict[str, Any]) -> str | None:
    """A count has none, a variance their square; a list keeps them only where all have the same."""
    asked = arguments.get("statistic", "mean")
    words = list(asked) if isinstance(asked, (list, tuple)) else [asked]
    given = {None if s == "count" else f"({units})^2" if s == "var" else units for s in words}
    return given.pop() if len(given) == 1 else None


@dataclass(frozen=True)
class Rule:
    """How one function treats dims."""

    arrays: dict[str, str]  # argument: the dims it has
    result: str  # the dims of the result, of the first one where there are several
    of: str | None = None  # the argument that the result has its name, attributes and leading dims from
    per_axis: tuple[str, ...] = ()  # arguments that may be {dim: value}
    same: bool = False  # the result has the shape and the coordinates of that argument
    units: Units = _kept


PLACES = ("kernel", "boundary")
GEOMETRY = ("crop", "zoom", "spacing")
RULES = {
    "sample": Rule({"values": "* grid", "points": "pts axis"}, "pts *", "values", (*PLACES, "derivative")),
    "splat": Rule({"values": "pts *", "points": "pts axis"}, "* grid", "values", PLACES),
    "prefilter": Rule({"values": "* grid"}, "* grid", "values", PLACES, same=True),
    "pad": Rule({"values": "* grid"}, "* grid", "values", ("margins", "boundary")),
    "fold": Rule({"values": "* grid"}, "* grid", "values", ("margins", "boundary")),
    "smooth": Rule({"a": "* grid"}, "* grid", "a", ("radius", "sigma", "boundary"), same=True),
    "fill_empty": Rule({"a": "* grid"}, "* grid", "a", same=True),
    "histogram": Rule({"a": "*", "where": "like a", "weights": "like a"}, "rest bin", "a", units=_none),
    "histogramdd": Rule({"points": "pts axis", "where": "pts", "weights": "pts"}, "bins"),
    "binned_statistic": Rule(
        {"points": "pts axis", "values": "pts *", "weights": "pts", "where": "pts"},
        "statistic * grid",
        "values",
        ("kernel", "bounds"),
        units=_of_statistic,
    ),
    "bin_index": Rule({"points": "pts axis"}, "pts", None, ("bounds",)),
    "select": Rule({"points": "pts axis", "mask": "grid"}, "pts"),
    "lookup": Rule({"points": "pts axis", "labels": "grid"}, "pts", "labels"),
    "grid_and_smooth": Rule(
        {"points": "pts axis", "values": "pts *"}, "* grid", "values", ("radius", "sigma", "spacing")
    ),
    "to_grid": Rule({"points": "pts axis", "values": "pts *"}, "* grid", "values"),
    "fit_field": Rule({"points": "pts axis", "values": "pts *", "weights": "pts"}, "* grid", "values", PLACES),
    "nufft1": Rule({"points": "pts axis", "values": "* pts"}, "* modes", "values", ("shape", "period")),
    "nufft2": Rule({"points": "pts axis", "modes": "* modes"}, "* pts", "modes", ("period",)),
    "nufft3": Rule({"points": "pts axis", "values": "* pts", "frequencies": "at axis"}, "* at", "values"),
    "convolve_points": Rule(
        {"points": "pts axis", "values": "* pts", "at": "at axis"}, "* at", "values", ("period", "extent")
    ),
    "displacement_field": Rule({"displacement": "*"}, "component control", "displacement"),
    "jacobian_determinant": Rule({"displacement": "*"}, "control", "displacement", units=_none),
    "invert_displacement": Rule({"displacement": "*"}, "component control", "displacement"),
    "deform_points": Rule({"points": "pts axis"}, "pts axis", "points"),
    "deform": Rule({"images": "*"}, "*", "images", GEOMETRY),
    "cdist": Rule({"x": "pts axis", "y": "at axis"}, "* pts at"),
    "pairwise": Rule({"x": "pts axis", "y": "at axis"}, "* pts at"),
    "corr": Rule({"x": "series", "y": "*", "weights": "series"}, "lag rest", "y", units=_none),
    "corr_matrix": Rule({"a": "*"}, "pairs", "a", units=_none),
    "detrend": Rule({"y": "*"}, "*", "y", same=True),
    "rolling_mean": Rule({"y": "*"}, "*", "y", same=True),
}
OWN = ("curve_fit",)  # these read labels themselves
TUPLES = ("binned_statistic", "bin_index", "histogramdd", "select", "lookup", "grid_and_smooth", "to_grid")


def call(name: str, f: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """The public function or method f of that name, some of whose arguments are of xarray or dask."""
    from .binding import own, run

    if "." in name:
        from .methods import method

        return method(name, f, args, kwargs)
    if name == "pairwise":
        from .pairs import run as run_pairwise

        return run_pairwise(RULES[name], f, args, kwargs)
    if name in OWN:
        return own(name, f, args, kwargs)
    return run(name, RULES.get(name), f, args, kwargs, name in TUPLES)
