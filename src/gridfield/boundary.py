"""How a grid continues beyond its ends: where a coordinate folds to, and which samples a missing one is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# What happens to a coordinate: "hold" at the ends, "mirror" about the samples, "reflect" about the cell edges,
# "wrap", or "inside": beyond the samples there is no spline, only cval.
FOLD = {
    "natural": "hold",
    "nearest": "hold",
    "mirror": "mirror",
    "reflect": "reflect",
    "wrap": "wrap",
    "constant": "inside",
    "grid-constant": "hold",
}
BOUNDARIES = tuple(FOLD)

# With a prefilter, these two continue the *data*: SciPy enlarges them by 12 samples and then filters with the
# boundary named here (scipy.ndimage._interpolation._prepad_for_spline_filter, ni_splines.c).
ENLARGED = {"nearest": "reflect", "grid-constant": "mirror"}
ENLARGE = 12


class Extension(NamedTuple):
    """Samples beyond a grid made of those on it: c[k] = sum_t weight[k, t] c[index[k, t]] + rest[k] cval."""

    index: NDArray[np.int64]  # (m, terms)
    weight: NDArray[np.float64]  # (m, terms)
    rest: NDArray[np.float64]  # (m,)


def extension(boundary: str, n: int, k: NDArray[np.int64]) -> Extension:
    """What the samples at index k (anywhere) are made of, for a grid axis of n samples."""
    k = np.asarray(k, np.int64)
    rest = np.zeros(len(k))
    if boundary == "natural" and n > 1:
        # point reflection about both ends: c[-k] = 2c[0] - c[k], c[p+k] = 2c[p] - c[p-k], p = n - 1; twice gives
        # c[k + 2p] = c[k] + 2(c[p] - c[0])
        p = n - 1
        q, r = np.divmod(k, p)
        odd = q % 2
        index = np.stack([np.where(odd, p - r, r), np.full_like(k, p), np.zeros_like(k)], axis=-1)
        weight = np.stack([np.where(odd, -1, 1), np.where(odd, q + 1, q), np.where(odd, 1 - q, -q)], axis=-1)
        return Extension(index, weight.astype(float), rest)
    weight = np.ones(len(k))
    if n == 1 or boundary == "nearest":
        index = np.clip(k, 0, n - 1)
    elif boundary == "wrap":
        index = k % n
    elif boundary == "reflect":
        index = np.minimum(k % (2 * n), 2 * n - 1 - k % (2 * n))
    else:
        index = np.minimum(k % (2 * n - 2), 2 * n - 2 - k % (2 * n - 2))
    if boundary == "grid-constant":
        outside = (k < 0) | (k >= n)
        weight, rest = np.where(outside, 0.0, 1.0), np.where(outside, 1.0, 0.0)
    return Extension(index[:, None], weight[:, None], rest)


def reach(boundary: str, n: int, width: int) -> tuple[float, float]:
    """The coordinates that are left after folding, in samples."""
    if boundary == "reflect":
        return -0.5, n - 0.5
    if boundary == "wrap":
        return 0.0, float(n)
    if boundary in ("nearest", "grid-constant"):  # so far out that the kernel sees nothing but the end value or cval
        return -(width // 2 + 1.0), n + float(width // 2)
    return 0.0, n - 1.0


def as_boundaries(boundary: str | Sequence[str], ndim: int, periodic: Sequence[bool], where: str) -> tuple[str, ...]:
    """One boundary per axis from one word or one per axis; a periodic axis of the grid always wraps."""
    words: tuple[Any, ...] = tuple(boundary) if isinstance(boundary, (list, tuple)) else (boundary,) * ndim
    if len(words) != ndim:
        raise ValueError(f"{where}: boundary names {len(words)} axes but the grid has {ndim}")
    for word in words:
        if not isinstance(word, str) or word not in FOLD:
            raise ValueError(f"{where}: boundary must be one of {', '.join(map(repr, FOLD))}, got {word!r}")
    return tuple("wrap" if p else word for word, p in zip(words, periodic, strict=True))
