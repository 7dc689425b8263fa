"""All ops and composites by name. An op of a new subject stands in a file of its own, which is added here."""

from __future__ import annotations

from . import distances, filters, points, warps
from .op import Composites, Op

FILES = (points, warps, filters, distances)
OPS: dict[str, Op] = {op.name: op for file in FILES for op in file.OPS}
COMPOSITES: Composites = {name: pair for file in FILES for name, pair in file.COMPOSITES.items()}
