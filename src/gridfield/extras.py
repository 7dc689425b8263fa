"""Optional frameworks: what to install where one is missing; a progress bar where that is there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


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


@contextlib.contextmanager
def bar(progress: bool, name: str) -> Iterator[Callable[[float], Any]]:
    """A progress bar of iterations; what it yields is called with the residual."""
    if not progress:
        yield lambda residual: None
        return
    with needs("progress"):
        from tqdm.auto import tqdm
    with tqdm(desc=name, unit=" iterations") as shown:

        def tick(residual: float) -> None:
            shown.set_postfix_str(f"residual {residual:.1e}", refresh=False)
            shown.update()

        yield tick
