"""Units of parameters, from those of data and coordinates: of ready models by their rule, of equations by dimensions.

Each name has exponents of the units that are known; what is added has the same, what a function such as exp takes has
none. Those are linear equations in the exponents of the parameters (E. Buckingham, "On physically similar systems",
Phys. Rev. 4 (1914), 345-376). A parameter has a unit if they determine it; if they contradict each other none has one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..expression import Node, ordered

Array = np.ndarray[Any, Any]

NONE = {"1", "dimensionless", "rad", "radian", "radians"}
SAME = {"add", "sub", "min", "max", "lt", "le", "atan2", "faddeeva_re", "faddeeva_im"}  # two of one kind
PURE = {"lt", "le", "atan2", "sign", "heaviside"}  # give a number, whatever they take
KEPT = {"neg", "abs"}


class _Dimensions:
    """Equations over parameters and, behind them, other unknowns; exponents of the known units on the right."""

    def __init__(self) -> None:
        self.unknown: dict[Any, int] = {}
        self.rows: list[dict[Any, float]] = []

    def fresh(self, key: Any = None) -> dict[Any, float]:
        """An unknown."""
        key = ("", len(self.unknown)) if key is None else key
        self.unknown.setdefault(key, len(self.unknown))
        return {key: 1.0}

    def of_unit(self, unit: str | None) -> dict[Any, float]:
        """Of data or a coordinate."""
        return self.fresh() if unit is None else {} if unit in NONE else {("unit", unit): 1.0}

    def same(self, a: dict[Any, float] | None, b: dict[Any, float] | None) -> dict[Any, float] | None:
        """Of what is added; None is a number, which has the unit that it needs."""
        if a is None or b is None:
            return b if a is None else a
        row = _sum(a, b, -1.0)
        if row:
            self.rows.append(row)
        return a

    def of(self, root: Node, names: dict[str, dict[Any, float]]) -> dict[Any, float] | None:
        """Of an expression."""
        found: dict[int, dict[Any, float] | None] = {}
        for n in ordered([root]):
            found[id(n)] = self._of(n, [found[id(a)] for a in n.args], names)
        return found[id(root)]

    def _of(self, n: Node, args: list[Any], names: dict[str, dict[Any, float]]) -> dict[Any, float] | None:
        op = n.op
        if op == "number":
            return None
        if op == "symbol":
            return names[str(n.data)]
        if op in ("mul", "div"):
            return _sum(args[0] or {}, args[1] or {}, 1.0 if op == "mul" else -1.0)
        if op == "power" or (op == "pow" and n.args[1].number is not None):
            power = float(n.data if op == "power" else n.args[1].number)  # type: ignore[arg-type]
            return _sum({}, args[0] or {}, power)
        if op == "sqrt":
            return _sum({}, args[0] or {}, 0.5)
        if op == "pow":  # to the power of a parameter, which is a number; of what, who knows
            self.same(args[1], {})
            return {} if args[0] in (None, {}) else self.fresh()
        if op == "where":
            return self.same(args[1], args[2])
        if op in SAME:
            both = self.same(args[0], args[1])
            if op.startswith("faddeeva"):
                self.same(both, {})
                return {}
            return {} if op in PURE else both
        if op in KEPT:
            return args[0]
        if op not in PURE:  # exp, log, sin, ...: of a number
            self.same(args[0], {})
        return {}

    def solved(self) -> dict[Any, dict[str, float]]:
        """Exponents of the unknowns that are determined; nothing if there is a contradiction."""
        known = sorted({k for row in self.rows for k in row if k[0] == "unit"})
        M, right = np.zeros((len(self.rows), len(self.unknown))), np.zeros((len(self.rows), len(known)))
        for i, row in enumerate(self.rows):
            for key, factor in row.items():
                if key[0] == "unit":
                    right[i, known.index(key)] = -factor
                else:
                    M[i, self.unknown[key]] = factor
        if not M.size:
            return {}
        _, s, V = np.linalg.svd(M)
        rank = int((s > 1e-9 * s[0]).sum()) if len(s) else 0
        x = np.linalg.lstsq(M, right, rcond=None)[0]
        if (np.abs(M @ x - right) > 1e-9).any():
            return {}
        free = np.asarray((np.abs(V[rank:]) > 1e-9).any(0))
        return {
            key: {unit: round(float(e), 9) for (_, unit), e in zip(known, x[at], strict=True) if abs(e) > 1e-9}
            for key, at in self.unknown.items()
            if not free[at]
        }


def _sum(a: dict[Any, float], b: dict[Any, float], factor: float) -> dict[Any, float]:
    """a + factor b."""
    out = dict(a)
    for key, value in b.items():
        out[key] = out.get(key, 0.0) + factor * value
    return {k: v for k, v in out.items() if v}


def units_of(parts: Any) -> dict[str, str]:
    """Units of the parameters that have some."""
    out: dict[str, str] = {}
    dimensions, derived = _Dimensions(), False
    for part in parts:
        model, data = part.model, part.data
        own: dict[str, str | None] = {
            name: data.units.get(data.names[k] if data.names else f"#{k}")
            for name, k in zip(getattr(model, "variables", ()), getattr(model, "places", ()), strict=True)
        }
        if model.ready is not None:
            x = set(own.values())
            unit = x.pop() if len(x) == 1 else None  # of all coordinates
            for name, rule in model.ready.units.items():
                out[name] = _by_rule(rule, data.units.get(""), unit)
        elif hasattr(model, "equation") and data.units:
            derived = True
            names: dict[str, dict[Any, float]] = {name: dimensions.of_unit(unit) for name, unit in own.items()}
            names |= {name: dimensions.fresh(("parameter", name)) for name in model.parameters.names}
            dimensions.same(dimensions.of(model.equation.root, names), dimensions.of_unit(data.units.get("")))
    if derived:
        for key, exponents in dimensions.solved().items():
            if key[0] == "parameter":
                out.setdefault(key[1], _text(exponents))
    return {name: unit for name, unit in out.items() if unit}


def _by_rule(rule: str, y: str | None, x: str | None) -> str:
    """A unit such as "1/x" or "y/x**2" in those of data and coordinates; nothing where one of them is unknown."""
    if rule in ("rad", "1"):
        return rule if rule == "rad" else ""
    over, _, under = rule.partition("/")
    exponents: dict[str, float] = {}
    for text, sign in ((over, 1.0), (under, -1.0)):
        for factor in filter(None, text.replace("**", "^").split("*")):
            letter, _, power = factor.partition("^")
            if letter == "1":
                continue
            unit = {"y": y, "x": x}[letter]
            if not unit:
                return ""
            if unit not in NONE:
                exponents[unit] = exponents.get(unit, 0.0) + sign * float(power or 1)
    return _text({u: e for u, e in exponents.items() if e})


def _text(exponents: dict[str, float]) -> str:
    """As it is written: mV/s**2; a unit that is a fraction itself in brackets."""

    alone = list(exponents.values()) == [1.0]

    def factor(unit: str, e: float) -> str:
        unit = unit if alone or not any(c in unit for c in " /*·^") else f"({unit})"
        return unit if e == 1 else f"{unit}**{e:g}" if e == int(e) else f"{unit}**({e:g})"

    over = "*".join(factor(u, e) for u, e in exponents.items() if e > 0)
    under = [factor(u, -e) for u, e in exponents.items() if e < 0]
    return over if not under else f"{over or 1}/" + (under[0] if len(under) == 1 else f"({'*'.join(under)})")
