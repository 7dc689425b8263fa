"""Functions of the distance r between two points, and all their derivatives in q = r**2.

Each is one of three forms, and so is its derivative of any order:

    power        c (o + q)^(h/2)                    d/dq: c h/2 (o + q)^((h - 2)/2)
    gauss        c exp(b q)                         d/dq: c b exp(b q)
    exponential  exp(-a r) sum_k c_k r^k            d/dq = d/dr / 2r: exp(-a r) sum_k c_k (k/2 r^(k-2) - a/2 r^(k-1))

so that a sum over pairs, differentiated in a point, is such a sum again (ops.interact). Where one grows without bound
as r goes to 0 (a kink of the function, or its pole), it is 0 at r = 0: a point has no direction to itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any

from .cached import cached_property
from .scheme import Static, intern, parsed

Form = tuple[Any, ...]

# r in lengths: the points are divided by it
FUNCTIONS: dict[str, Form] = {
    "distance": ("power", 0.0, 1, 1.0),
    "squared": ("power", 0.0, 2, 1.0),
    "inverse": ("power", 0.0, -1, 1.0),
    "multiquadric": ("power", 1.0, 1, 1.0),
    "inverse_multiquadric": ("power", 1.0, -1, 1.0),
    "cauchy": ("power", 1.0, -2, 1.0),
    "gaussian": ("gauss", -0.5, 1.0),
    "exponential": ("exponential", 1.0, ((0, 1.0),)),
    "matern32": ("exponential", sqrt(3), ((0, 1.0), (1, sqrt(3)))),
    "matern52": ("exponential", sqrt(5), ((0, 1.0), (1, sqrt(5)), (2, 5 / 3))),
}
# of which logsumexp is made
EXPONENTIALS: dict[str, Form] = {
    "exp(-squared)": ("gauss", -1.0, 1.0),
    "exp(-distance)": ("exponential", 1.0, ((0, 1.0),)),
}
TINY = 1e-12  # terms that cancel leave such a part of the others


def _derivative(form: Form) -> Form:
    kind, *rest = form
    if kind == "power":
        o, h, c = rest
        return kind, o, h - 2, c * h / 2
    if kind == "gauss":
        b, c = rest
        return kind, b, c * b
    a, terms = rest
    sums: dict[int, float] = {}
    for k, c in terms:
        sums[k - 2] = sums.get(k - 2, 0.0) + c * k / 2
        sums[k - 1] = sums.get(k - 1, 0.0) - c * a / 2
    least = TINY * max(map(abs, sums.values()), default=0.0)
    return kind, a, tuple((k, c) for k, c in sorted(sums.items()) if abs(c) > least)


@dataclass(frozen=True)
class Radial(Static):
    """A function of the distance: its name, and how often it is differentiated in q.

    side: whether something is taken from the exponent that each of the "rows", or of the "columns", has of its own.
    """

    name: str
    order: int = 0
    side: str = ""

    @cached_property
    def form(self) -> Form:
        """The numbers of the formula."""
        form = {**FUNCTIONS, **EXPONENTIALS}[self.name]
        for _ in range(self.order):
            form = _derivative(form)
        return form

    @cached_property
    def up(self) -> str:
        """The text of the derivative."""
        return intern(Radial(self.name, self.order + 1, self.side))

    @cached_property
    def flipped(self) -> str:
        """The text with rows and columns exchanged."""
        return intern(Radial(self.name, self.order, {"rows": "columns", "columns": "rows"}.get(self.side, "")))

    @staticmethod
    def parse(name: str, order: int, side: str) -> Radial:
        """From JSON."""
        return Radial(name, order, side)


parsed(Radial)


def radial(name: str, side: str = "") -> str:
    """The text of a function."""
    return intern(Radial(name, 0, side))


radial._dynamo_marked_constant = True  # type: ignore[attr-defined]  # as ops.static, which is above this floor

SQUARED = radial("squared")
