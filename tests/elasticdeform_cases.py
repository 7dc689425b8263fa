"""Calls of elasticdeform, and what the original answered.

`python tests/elasticdeform_cases.py` in an environment with the original (built from source, as its wheels do not run
with NumPy 2: `pip install --no-binary elasticdeform elasticdeform==0.5.1`) writes data/elasticdeform.npz anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

RECORD = Path(__file__).parent / "data" / "elasticdeform.npz"
MODES = ("nearest", "wrap", "reflect", "mirror", "constant")
AFFINE = np.array([[1.1, 0.2, 1.5], [-0.1, 0.9, -1.0]])
# In every run, of order and whether mode is "constant", each of which is a kernel (and its transpose) to compile: the
# others are marked slow.
OFTEN = {(0, False), (1, False), (1, True), (2, True), (3, False), (3, True), (4, False), (5, True)}
POSES: list[dict[str, Any]] = [
    {},
    {"rotate": 30},
    {"zoom": 1.5},
    {"affine": AFFINE, "rotate": 20, "zoom": 1.2},
    {"affine": np.vstack([AFFINE, [0, 0, 1]])},
    {"crop": [slice(3, 9), slice(2, 15)]},
    {"crop": (slice(3, 9), slice(2, 15)), "rotate": 25, "affine": AFFINE},
    {"prefilter": False},
]


def numbers(seed: int, *shape: int) -> Any:
    """The same on every machine, whatever NumPy's generators become: sines of large angles."""
    return np.sin(1e4 * np.sin(np.arange(1.0, 1 + np.prod(shape)) * (seed + 1.37))).reshape(shape)


def often(order: int, mode: str) -> bool:
    """Whether it is in every run."""
    return (order, mode == "constant") in OFTEN


def calls() -> Iterator[tuple[str, str, tuple[Any, ...], dict[str, Any]]]:
    """Name, function, arguments."""
    x, u = numbers(0, 12, 15), numbers(1, 2, 3, 4) * 6
    for order in range(6):
        for mode in MODES:
            yield f"{mode} {order}", "deform_grid", (x, u, order, mode, 0.3), {}
            yield f"gradient {mode} {order}", "deform_grid_gradient", (x, u, order, mode), {}
    for k, pose in enumerate(POSES):
        yield f"pose {k}", "deform_grid", (x, u), pose
        ct = numbers(2, 6, 13) if "crop" in pose else numbers(2, 12, 15)
        yield f"gradient, pose {k}", "deform_grid_gradient", (ct, u), {**pose, "X_shape": x.shape}
    for dtype in ("float32", "uint8", "int16"):
        data = x.astype(dtype) if dtype == "float32" else ((x + 1) * 100).astype(dtype)
        yield f"{dtype} 1", "deform_grid", (data, u, 1, "mirror"), {}
        yield f"{dtype} 0", "deform_grid", (data, u, 0, "nearest"), {}
    yield "float32 3", "deform_grid", (x.astype("float32"), u.astype("float32"), 3, "mirror"), {}
    volume, v = numbers(3, 7, 8, 9), numbers(4, 3, 2, 3, 3) * 2
    for mode in MODES:
        yield f"volume {mode}", "deform_grid", (volume, v, 3, mode), {}
    yield "volume, crop", "deform_grid", (volume, v, 2, "mirror"), {"crop": [slice(1, 5), slice(0, 8), slice(3, 9)]}
    yield "line", "deform_grid", (numbers(5, 20), numbers(6, 1, 4) * 3, 3, "reflect"), {}
    yield "channels", "deform_grid", (numbers(7, 3, 12, 15), u, 3, "mirror"), {"axis": (1, 2)}
    yield (
        "two",
        "deform_grid",
        ([numbers(7, 3, 12, 15), x], u, [3, 0], ["mirror", "constant"]),
        {"axis": [(1, 2), (0, 1)]},
    )


SELDOM = {  # not in every run
    *(f"{mode} {order}" for mode in MODES for order in range(6) if not often(order, mode)),
    *(f"gradient {mode} {order}" for mode in MODES for order in range(6) if order != 3),
    *("float32 0", "uint8 0", "int16 0", "volume constant", "volume, crop", "line"),
}


def answers(package: Any, all_of_them: bool = True) -> dict[str, Any]:
    """What a package gives, by name; or only what is in every run."""
    out: dict[str, Any] = {}
    for name, function, args, how in calls():
        if name in SELDOM and not all_of_them:
            continue
        result = getattr(package, function)(*args, **how)
        parts = result if isinstance(result, (list, tuple)) else [result]
        out.update({f"{name} [{k}]": part for k, part in enumerate(parts)})
    return out


if __name__ == "__main__":
    import elasticdeform

    RECORD.parent.mkdir(exist_ok=True)
    np.savez_compressed(RECORD, **answers(elasticdeform))
    print(RECORD, RECORD.stat().st_size, "bytes")
