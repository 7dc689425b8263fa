"""Optional frameworks: what to install where one is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def needs(extra: str, what: str = "") -> Iterator[None]:
    """Imports that an optional dependency must be there for; otherwise the error names the extra to install.

    what: needs it; by default the module of that name.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] == "gridfield":
            raise
        raise ImportError(
            f"{what or f'gridfield.{extra}'} needs {error.name or extra}, which is not installed: "
            f'pip install "gridfield[{extra}]"',
            name=error.name,
        ) from error
