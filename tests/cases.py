"""The table of cases: kernels, boundaries, dimensions and sets of derivatives; and an oracle that shares no code.

A new kernel or boundary is one more word in KERNELS or in gf.BOUNDARIES; every property in the test files then holds
for it or fails. Grids have dyadic origins and spacings, so that coordinates at samples and half-way between them are
exact: what happens at a tie is part of what is compared.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import pytest

import gridfield as gf
from gridfield.scheme import scheme

# user-made tables: one without symmetry, continuity or unit sum; one without unit sum that can be filtered
SKEW = gf.Kernel([[0.25, -0.5, 0.25], [0.5, 0.75, -1.0], [-0.125, 0.5, 0.375]], name="skew")
TWICE = gf.Kernel(2 * gf.bspline(3).coefficients, name="twice cubic")

KERNELS = {
    "nearest": "nearest",
    "linear": "linear",
    "quadratic": "quadratic",
    "cubic": "cubic",
    "quartic": "quartic",
    "quintic": "quintic",
    "catmull_rom": "catmull_rom",
    "skew": SKEW,
    "twice": TWICE,
}
HIGH = {6: ("mirror", "grid-constant"), 7: ("wrap", "natural")}  # dear to compile: two boundaries each

SCIPY_MODE = {b: b for b in ("nearest", "reflect", "mirror", "constant", "grid-constant")} | {"wrap": "grid-wrap"}
NUMPY_PAD = {
    "natural": {"mode": "reflect", "reflect_type": "odd"},
    "nearest": {"mode": "edge"},
    "reflect": {"mode": "symmetric"},
    "mirror": {"mode": "reflect"},
    "wrap": {"mode": "wrap"},
    "constant": {"mode": "reflect"},
    "grid-constant": {"mode": "constant"},
}


def as_kernel(kernel):
    """A word or a degree -> gf.Kernel."""
    words = ("nearest", "linear", "quadratic", "cubic", "quartic", "quintic")
    if kernel == "catmull_rom":
        return gf.catmull_rom
    return kernel if isinstance(kernel, gf.Kernel) else gf.bspline(words.index(kernel) if kernel in words else kernel)


def gradient(ndim):
    """The value and all first derivatives."""
    return ((0,) * ndim, *(tuple(int(i == a) for i in range(ndim)) for a in range(ndim)))


def second(ndim):
    """All second derivatives."""
    pairs = itertools.combinations_with_replacement(range(ndim), 2)
    return tuple(tuple((i == a) + (i == b) for i in range(ndim)) for a, b in pairs)


@dataclass(frozen=True)
class Case:
    shape: tuple
    kernels: tuple  # one per axis
    boundaries: tuple
    orders: tuple

    def __str__(self):
        kernels = "+".join(dict.fromkeys(as_kernel(k).name.replace(" ", "_") for k in self.kernels))
        orders = ",".join("".join(map(str, o)) for o in self.orders)
        return f"{self.ndim}d-{kernels}-{'+'.join(dict.fromkeys(self.boundaries))}-{orders}"

    @property
    def ndim(self):
        return len(self.shape)

    @functools.cached_property
    def grid(self):
        origin = [(-3.0, 0.5, 16.0, 0.0, -0.25)[a] for a in range(self.ndim)]
        spacing = [(0.5, 2.0, 1.0, 0.25, 4.0)[a] for a in range(self.ndim)]
        return gf.Grid.from_spacing(self.shape, origin, spacing)

    def scheme(self, cval=0.0, orders=None):
        return scheme(self.grid, tuple(map(as_kernel, self.kernels)), self.boundaries, orders or self.orders, cval)

    @property
    def how(self):
        """What sample and splat take alike."""
        return {"grid": self.grid, "kernel": self.kernels, "boundary": self.boundaries, "derivative": list(self.orders)}

    def sample(self, values, points, **more):
        return gf.sample(values, points, **self.how, prefilter=False, **more)

    def splat(self, values, points, **more):
        return gf.splat(values, points, **self.how, **more)

    def index_points(self, rng, n, ties):
        """Coordinates in samples: most inside, some far out; with ties, a third of them at samples or half-way."""
        columns = []
        for length in self.shape:
            u = rng.uniform(-0.5, length - 0.5, n)
            if ties:
                u = np.where(rng.random(n) < 0.3, np.round(2 * u) / 2, u)
            else:  # off the breaks of every kernel
                u = np.floor(2 * u) / 2 + rng.uniform(0.05, 0.45, n)
            columns.append(np.where(rng.random(n) < 0.2, u + length * rng.integers(-3, 4, n), u))
        return np.stack(columns, -1)

    def points(self, rng, n=50, ties=True):
        return self.grid.to_physical(self.index_points(rng, n, ties))

    def values(self, rng, *lead):
        return rng.normal(size=(*lead, *self.shape))


def one_axis():
    derivatives = ((0,), (1,), (2,))
    for kernel, boundary in itertools.product(KERNELS.values(), gf.BOUNDARIES):
        yield Case((9,), (kernel,), (boundary,), derivatives)
    for degree, boundaries in HIGH.items():
        for boundary in boundaries:
            yield Case((9,), (degree,), (boundary,), derivatives)


def more_axes():
    same = [  # shape, kernel, boundary, derivatives
        ((7, 8), "cubic", "mirror", ((0, 0),)),
        ((7, 8), "cubic", "natural", gradient(2)),
        ((7, 8), "quintic", "reflect", second(2)),
        ((7, 8), "linear", "grid-constant", gradient(2)),
        ((7, 8), "nearest", "constant", gradient(2)),
        ((7, 8), SKEW, "wrap", ((0, 0), (2, 1), (0, 3))),
        ((5, 4, 6), "cubic", "mirror", ((0, 0, 0),)),
        ((5, 4, 6), "cubic", "natural", gradient(3)),
        ((5, 4, 6), "linear", "reflect", ((0, 0, 0),)),
        ((5, 4, 6), "catmull_rom", "wrap", second(3)),
        ((5, 4, 6), TWICE, "grid-constant", ((1, 1, 1), (0, 2, 0))),
        ((6, 7, 6), "quintic", "constant", ((0, 0, 0),)),
        ((3, 4, 3, 5), "linear", "mirror", gradient(4)),
        ((4, 4, 5, 4), "cubic", "wrap", ((0, 0, 0, 0),)),
        ((3, 4, 3, 3), "quadratic", "constant", ((0, 1, 0, 1), (1, 0, 0, 0))),
        ((3, 2, 3, 2, 4), "linear", "natural", ((0, 0, 0, 0, 0),)),
        ((4, 4, 5, 4, 4), "cubic", "mirror", ((0, 0, 0, 0, 0), (0, 1, 0, 0, 1))),
        ((3, 4, 3, 4, 3), "quadratic", "reflect", gradient(5)),
    ]
    for shape, kernel, boundary, orders in same:
        yield Case(shape, (kernel,) * len(shape), (boundary,) * len(shape), orders)
    yield Case((7, 8), ("cubic", "linear"), ("mirror", "grid-constant"), gradient(2))
    yield Case((7, 8), ("nearest", "quartic"), ("natural", "wrap"), ((0, 0), (0, 1)))
    yield Case((7, 8), (SKEW, 6), ("constant", "reflect"), ((1, 0), (0, 2)))
    yield Case((5, 4, 6), ("quadratic", "cubic", "linear"), ("wrap", "constant", "nearest"), gradient(3))
    yield Case(
        (5, 6, 4), ("linear", "quintic", "nearest"), ("grid-constant", "natural", "mirror"), ((0, 0, 0), (1, 2, 0))
    )
    yield Case(
        (2, 4, 3, 4), ("linear", "cubic", SKEW, "catmull_rom"), ("natural", "wrap", "mirror", "reflect"), gradient(4)
    )
    yield Case(
        (4, 2, 3, 1, 4), ("cubic", "linear", "quadratic", "cubic", "catmull_rom"),
        ("reflect", "wrap", "nearest", "mirror", "constant"), ((0,) * 5, (0, 0, 1, 0, 1)),
    )  # fmt: skip


ONE_AXIS = list(one_axis())
MORE_AXES = list(more_axes())
CASES = ONE_AXIS + MORE_AXES


def often(case, path=None):
    """Whether it is tried in every run: on one axis every kernel with a boundary, every boundary with the cubic kernel,
    read in place with every second of those; on more axes one of the two paths, in turn, and few of those on more than
    three. The others are marked slow: each is four kernels to compile, half a second each, of many derivatives on many
    axes seconds."""
    if case.ndim > 1:
        at = MORE_AXES.index(case)
        turn = path is None or not roomy(case) or path == ("padded", "direct")[at % 2]
        return turn and (case.ndim < 4 or len(set(case.kernels)) > 1 or case.kernels[0] == "linear")
    kernel, boundary = case.kernels[0], list(gf.BOUNDARIES).index(case.boundaries[0])
    if kernel == "cubic":
        return path != "direct" or boundary % 2 == 0
    if kernel in HIGH:
        return case.boundaries[0] == ("mirror", "wrap")[kernel % 2]
    return (list(KERNELS.values()).index(kernel) + boundary) % len(gf.BOUNDARIES) == 0


def marked(*arguments):
    """Arguments of a test, the first of them a case, the second, if any, a path."""
    return pytest.param(*arguments, marks=() if often(*arguments) else pytest.mark.slow)


def in_turn(first, second, keep):
    """All pairs of two lists: those whose places add up to a number in `keep`, modulo the length of the second, are in
    every run, the others are marked slow."""
    return [
        pytest.param(a, b, marks=() if (i + j) % len(second) in keep else pytest.mark.slow)
        for (i, a), (j, b) in itertools.product(enumerate(first), enumerate(second))
    ]


def roomy(case):
    """Whether the grid may be read in place (a stencil fits on it); a grid of one sample has a stencil of one."""
    return all(n == 1 or n >= as_kernel(k).width for n, k in zip(case.shape, case.kernels, strict=True))


def read_in_place(case):
    """Whether to try that path too: every kernel and every boundary once, not all pairs (compiling takes time)."""
    if case.ndim > 1:
        return roomy(case)
    return case.kernels[0] in ("linear", "cubic") or case.boundaries[0] in ("natural", "constant")


_PATHS = [(case, path) for case in CASES for path in ("padded", "direct") if path == "padded" or read_in_place(case)]
PATHS = [marked(*pair) for pair in _PATHS]
PATH_IDS = [f"{case}-{path}" for case, path in _PATHS]


def force(monkeypatch, path):
    """Make sample and splat take one of their two code paths, whatever the number of points."""
    from gridfield.cpu.plan import Plan

    monkeypatch.setattr(Plan, "direct", lambda self, *args, **kwargs: path == "direct")


# ---- an oracle from the definitions, one dense matrix per axis -------------------------------------------------------
def fold(u, boundary, n, width):
    """(coordinate where the field is evaluated, sign of the slope there, whether inside), by the documentation."""
    u = np.asarray(u, float)
    one, everywhere = np.ones_like(u), np.ones(u.shape, bool)
    if boundary == "constant":
        return np.clip(u, 0, n - 1), one, (u >= 0) & (u <= n - 1)
    if boundary in ("natural", "nearest", "grid-constant"):
        # held at the edge, or where a stencil sees nothing but the edge's sample, or cval
        beyond = 0 if boundary == "natural" else width // 2 + 1
        low, high = -beyond, n - 1 + beyond
        return np.clip(u, low, high), np.where((u < low) | (u > high), 0.0, 1.0), everywhere
    if boundary == "wrap":
        return u - n * np.floor(u / n), one, everywhere
    low, period = (-0.5, 2 * n) if boundary == "reflect" else (0.0, 2 * (n - 1))
    if period == 0:  # an axis of one sample is constant along it
        return 0 * u, 0 * u, everywhere
    z = (u - low) % period
    back = z > period / 2
    return np.where(back, period - z, z) + low, np.where(back, -1.0, 1.0), everywhere


def continued(n, boundary, margin):
    """Matrix that makes samples -margin ... n + margin - 1 of samples 0 ... n - 1."""
    return np.stack([np.pad(column, margin, **NUMPY_PAD[boundary]) for column in np.eye(n)], -1)


def axis_matrix(u, n, kernel, boundary, order, spacing):
    """(matrix (points, n), whether points are inside): the sum over samples along one axis, by Kernel.__call__."""
    kernel = as_kernel(kernel)
    margin = kernel.width + 2
    y, sign, inside = fold(u, boundary, n, kernel.width)
    if n == 1 and boundary != "grid-constant" and kernel.partition_of_unity:  # constant along the axis
        return np.full((len(u), 1), float(order == 0)), inside
    weights = kernel.derivative(order)(y[:, None] - np.arange(-margin, n + margin))
    return weights * ((sign / spacing) ** order)[:, None] @ continued(n, boundary, margin), inside


def oracle(case, values, points, order, cval=0.0):
    """sample(values, points, derivative=order), values of shape grid.shape, points not at breaks of the kernel.

    A cval other than 0 is for kernels that are a partition of unity.
    """
    u = (points - np.array(case.grid.origin)) / np.array(case.grid.spacing)
    out, inside = np.broadcast_to(values - cval, (len(points), *case.shape)), np.ones(len(points), bool)
    for a in reversed(range(case.ndim)):  # contract the last axis first
        matrix, on = axis_matrix(
            u[:, a], case.shape[a], case.kernels[a], case.boundaries[a], order[a], case.grid.spacing[a]
        )
        out, inside = np.einsum("p...i,pi->p...", out, matrix), inside & on
    beyond = 0.0 if any(order) else cval
    return np.where(inside, out + beyond, beyond)
