"""corr and corr_matrix: correlations of series, in one pass over the data; for any framework."""

from __future__ import annotations

from .projection import Projection, Windows, combine, finish, partial, project, reference

__all__ = ["Projection", "Windows", "combine", "finish", "partial", "project", "reference"]
