"""The public functions on arrays of dask: graphs of calls on blocks, nothing computed early.

What adds up over blocks is a partial result of each and a tree of sums (`sums`, `series`); what looks around itself is
blocks with overlap, or pieces, as far as the kernel reaches (`stencils`, `pieces`); what goes item by item is a call a
block (`blocks`).
dask is looked for in `sys.modules`, and imported only where an array of it came in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .blocks import InChunks as InChunks
from .blocks import is_lazy as is_lazy
from .blocks import stack as stack
from .operators import items as items


def beside(matrix: Any) -> Any:
    """A matrix of distances of NumPy, for a product with an array of dask."""
    from . import pairs

    return pairs.beside(matrix)


def call(name: str, f: Callable[..., Any], given: dict[str, Any]) -> Any:
    """The public function of that name on dask arrays; f is that on NumPy's."""
    if hasattr(f, "lazily"):  # it says itself how
        return f.lazily(given)
    from . import correlations, displacements, fits, gathered, gradients, pairs, pieces, series, stencils, sums

    for module in (sums, stencils, pieces, series, correlations, pairs, fits, gathered, displacements, gradients):
        if name in module.TABLE:
            return module.TABLE[name](f, given)
    lazily = [k for k, v in given.items() if is_lazy(v) or (isinstance(v, (tuple, list)) and any(map(is_lazy, v)))]
    raise TypeError(
        f"gf.{name}: {', '.join(lazily)} of dask, but this function needs all numbers at once: call .compute() first"
    )
