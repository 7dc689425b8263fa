"""The text that a fit shows when it is printed."""

from __future__ import annotations

from typing import Any

import numpy as np

from .least_squares import CONVERGED, REASONS

Array = np.ndarray[Any, Any]

WIDEST = 100  # characters of a model
LOUD = 0.1  # correlations from here on are told
MOST = 6  # of them


def table(result: Any) -> str:
    """The fit as a table."""
    what = ", ".join(_short(part.model.describes) for part in result._parts)
    title = f"least squares: {what}"
    if result._loss[0] != "linear":
        title += f" (loss {result._loss[0]}, scale {result._loss[1]:g})"
    return "\n".join([title, *(_many(result) if result._batch else _one(result))])


def _short(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 4]} ..."


def _one(result: Any) -> list[str]:
    """Of a single fit."""
    free = int((~result._fixed).sum())
    points, steps = int(result._points[0]), int(result.n_iter)
    said = "converged" if result.success else f"FAILED: {result.message}"
    lines = [f"{said}; {_count(steps, 'step')}, {_count(points, 'point')}, {_count(free, 'free parameter')}"]
    if np.isfinite(result._sums[0][0]):
        lines.append(_goodness(result))
    rows = [["", "value", "stderr", "relative", "unit"]]
    units = result.units
    for k, name in enumerate(result.names):
        x, error = result._done.params[0, k], result._errors[0, k]
        rows.append([name, f"{x:.8g}", _error(result, k, error), _relative(result, k, x, error), _unit(name, units)])
    lines += ["", *_columns(rows)]
    pairs = _correlations(result)
    return [*lines, "", pairs] if pairs else lines


def _goodness(result: Any) -> str:
    """chi2 and what is made of it."""
    chi2, scale = result._sums[0][0], result._done.scale
    dof = int(result.dof)
    said = [f"chi2 {_in_square(chi2, scale)}"]
    if dof > 0:
        said.append(f"reduced {_in_square(chi2 / dof, scale)}")
    said += [f"{name} {value:.6g}" for name, value in (("R2", result.r2), ("AIC", result.aic), ("BIC", result.bic))
             if np.isfinite(value)]  # fmt: skip
    if dof <= 0 and not result._absolute:
        said.append("no points are left over to tell standard errors from")
    return ", ".join(said)


def _in_square(x: float, scale: Any) -> str:
    """A number in units of the data squared, also where it is too small or large for one."""
    if scale is None or not x:
        return f"{x:.6g}"
    exponent = np.log10(x) - 2 * np.log10(scale.data[0])
    whole = int(np.floor(exponent))
    return f"{10 ** (exponent - whole):.6g}e{whole:+03d}"


def _error(result: Any, k: int, error: float) -> str:
    return "" if result._fixed[0, k] or np.isnan(error) else f"{error:.3g}"


def _relative(result: Any, k: int, x: float, error: float) -> str:
    """In per cent, or why there is none."""
    if result._fixed[0, k]:
        return "fixed"
    if x in (result._low[0, k], result._high[0, k]):
        return "on its bound"
    if not x or not np.isfinite(error):
        return ""
    percent = 100 * error / abs(x)
    return f"{percent:.2g} %" if percent < 100 else f"{percent:.0f} %" if percent < 1e5 else "> 100000 %"


def _correlations(result: Any) -> str:
    """The largest ones."""
    corr, names = result._correlations[0], result.names
    pairs = sorted(
        (
            (corr[j, i], names[j], names[i])
            for i in range(len(corr))
            for j in range(i)
            if LOUD < abs(corr[j, i]) < np.inf
        ),
        key=lambda pair: -abs(pair[0]),
    )
    text = "; ".join(f"{a}, {b} {c:+.3f}" for c, a, b in pairs[:MOST])
    more = f"; and {len(pairs) - MOST} more beyond {LOUD:g}" if len(pairs) > MOST else ""
    return f"correlations: {text}{more}" if pairs else ""


def _many(result: Any) -> list[str]:
    """Of many fits."""
    good = result._done.status == CONVERGED
    shape = " x ".join(map(str, result._batch))
    lines = [f"{_count(len(good), 'fit')} ({shape}), {int(good.sum())} converged"]
    units = result.units
    if good.any():
        rows = [["", "median", "from 16 %", "to 84 %", "median stderr", "unit"]]
        for k, name in enumerate(result.names):
            x, e = result._done.params[good, k], result._errors[good, k]
            fixed = result._fixed[good, k].all()
            numbers = [f"{v:.6g}" for v in np.quantile(x, (0.5, 0.16, 0.84))]
            rows.append([name, *numbers, "fixed" if fixed else f"{np.median(e):.3g}", _unit(name, units)])
        lines += ["", *_columns(rows)]
    codes, counts = np.unique(result._done.status[~good], return_counts=True)
    failed = [f"{n} of {len(good)} failed: {REASONS[int(c)]}" for c, n in zip(codes, counts, strict=True)]
    return [*lines, "", *failed] if failed else lines


def _unit(name: str, units: dict[str, str]) -> str:
    """Of a number: an array has one for all."""
    return units.get(name, units.get(name.partition("[")[0], ""))


def _count(n: int, what: str) -> str:
    return f"{n} {what}" + "s" * (n != 1)


def _columns(rows: list[list[str]]) -> list[str]:
    """Text in columns, without those that hold nothing; all but the first and last to the right."""
    columns = [c for k, c in enumerate(zip(*rows, strict=True)) if k == 0 or any(c[1:])]
    unit = columns[-1][0] == "unit"
    widths = [max(map(len, c)) for c in columns]
    return [
        "  ".join(
            text.ljust(w) if k == 0 or (unit and k == len(columns) - 1) else text.rjust(w)
            for k, (text, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in zip(*columns, strict=True)
    ]
