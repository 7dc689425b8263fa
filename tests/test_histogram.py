"""histogram and histogramdd against NumPy's, bit for bit, on data full of numbers that lie on edges."""

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow as tf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gridfield as gf
from gridfield.cpu import bins as kernels


def same(ours, theirs):
    """Equal numbers of one type."""
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b)


def both(a, *args, where=None, **kwargs):
    """Ours, and NumPy's of a copy of what is in the mask, with their edges; an error has to be one for both."""
    chosen = slice(None) if where is None else np.asarray(where) > 0
    weights = kwargs.get("weights")
    theirs = dict(kwargs) if weights is None else {**kwargs, "weights": weights[chosen]}
    try:
        expected = np.histogram(a[chosen], *args, **theirs)
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error), match=r"gf\.histogram"):
            gf.histogram(a, *args, where=where, **kwargs)
        return None
    ours = gf.histogram(a, *args, where=where, **kwargs)
    return ours, expected


SPECIAL = [0.0, -0.0, 5e-324, -5e-324, 1.0, 0.1, 0.3, 1 / 3, 1e15, 2.0**53, 2.0**53 + 2, 1e300, -1e300, np.nan, np.inf]


@st.composite
def on_edges(draw, dtype):
    """(data, bins, range): most of the data on the edges, or next to them."""
    n = draw(st.sampled_from([1, 2, 3, 7, 10, 49, 100, 1000]))
    lo = draw(st.sampled_from([0.0, -1.0, 0.1, 1e6, -1e9, 123456.789, 2.0**40, 5e-324, 1e-310]))
    width = draw(st.sampled_from([1.0, 0.7, 49.0, 1e-3, 1e5, 1e-300, 3.0]))
    ends = dtype(lo), dtype(lo + width)
    if draw(st.booleans()):
        ends = float(ends[0]), float(ends[1])
    try:
        with np.errstate(all="ignore"):
            edges = np.histogram_bin_edges(np.empty(0, dtype), n, ends)
    except ValueError:
        edges = np.array(ends)
    picks = draw(st.lists(st.integers(0, len(edges) - 1), max_size=40))
    steps = draw(st.lists(st.integers(-2, 2), min_size=len(picks), max_size=len(picks)))
    data = []
    for k, step in zip(picks, steps, strict=True):
        x = edges[k].astype(dtype)
        for _ in range(abs(step)):
            x = np.nextafter(x, dtype(np.inf if step > 0 else -np.inf))
        data.append(x)
    with np.errstate(over="ignore"):
        data += [dtype(x) for x in draw(st.lists(st.sampled_from(SPECIAL), max_size=4))]
    return np.array(data, dtype), n, draw(st.sampled_from([ends, None]))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
@settings(max_examples=200)
def test_floats_on_the_edges(dtype, data):
    a, bins, ends = data.draw(on_edges(dtype))
    where = None
    if data.draw(st.booleans()):
        kind = data.draw(st.sampled_from([bool, int, float]))
        where = np.array(data.draw(st.lists(st.integers(0, 1), min_size=len(a), max_size=len(a)))).astype(kind)
    with np.errstate(all="ignore"):
        if (found := both(a, bins, ends, where=where)) is not None:
            same(*found)


@pytest.mark.parametrize(
    "dtype",
    ["uint8", "int16", "uint64", "int64", "bool"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("int8", "uint16", "int32", "uint32")],
)
@given(data=st.data())
@settings(max_examples=60)
@pytest.mark.filterwarnings("ignore:Converting input from bool")
def test_integers(dtype, data):
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    near = st.sampled_from(
        [x for c in (0, 2**53, -(2**53), low, high) for x in range(c - 3, c + 4) if low <= x <= high]
    )
    a = np.array(data.draw(st.lists(near | st.integers(low, high), max_size=30)), dtype)
    bins = data.draw(st.sampled_from([1, 2, 10, 256]))
    ends = data.draw(st.sampled_from([None, (0, 10), (0.0, 2.5), (0, 256), (2**53 - 2, 2**53 + 30), (-3, 3)]))
    with np.errstate(all="ignore"):
        if (found := both(a, bins, ends)) is not None:
            same(*found)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16"])
@pytest.mark.parametrize("ends", [None, (-5, 200), (0.5, 17.25)])
def test_integers_of_few_bits_are_counted_by_value(rng, dtype, ends):
    info = np.iinfo(dtype)
    a = rng.integers(info.min, info.max, 100_000, dtype)
    where = rng.random(a.shape) < 0.3
    same(gf.histogram(a, 37, ends), np.histogram(a, 37, ends))
    same(gf.histogram(a, 37, ends, where=where), np.histogram(a[where], 37, ends))
    same(gf.histogram(a, [-4, 0, 0.5, 17], where=where), np.histogram(a[where], [-4, 0, 0.5, 17]))


@given(data=st.data())
@settings(max_examples=200)
def test_irregular_edges(data):
    number = st.sampled_from(
        [-np.inf, -1e300, -2.0, -1.0, 0.0, 5e-324, 0.1, 0.5, 1.0, 1.0, 2.0, 2.0**53, 1e300, np.inf]
    )
    edges = np.sort(data.draw(st.lists(number, min_size=2, max_size=9)))
    a = np.array(data.draw(st.lists(number | st.sampled_from([np.nan, 0.25, 1.5]), max_size=30)))
    for kind in (np.float64, np.float32):
        with np.errstate(over="ignore"):
            if (found := both(a.astype(kind), edges)) is not None:
                same(*found)
            if (found := both(a, edges.astype(kind))) is not None:
                same(*found)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
@pytest.mark.parametrize("bins", [1, 10, 100, 5000, [0, 0.5, 0.5, 3, 100], 2**21])
@pytest.mark.parametrize("ends", [None, (0.1, 0.7), (-3, 1000)])
def test_many_numbers(rng, dtype, bins, ends):
    a = (rng.normal(size=(70, 101, 30)) * 3).astype(dtype)
    where = (rng.random(a.shape) < 0.3).astype(float)
    where[:5] = 0
    for mask in (None, where, where.astype(bool)):
        if (found := both(a, bins, ends, where=mask)) is not None:
            same(*found)


def test_weights(rng):
    a, w = rng.random((2, 50_000))
    where = rng.random(a.shape) < 0.5
    for kind in ("float64", "float32", "int64", "uint8", "bool", "complex128"):
        ours, theirs = both(a, 20, (0, 0.9), weights=(w * 9).astype(kind), where=where)
        assert ours[0].dtype == theirs[0].dtype
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-5 if kind == "float32" else 1e-12)


def test_density(rng):
    a = rng.random(1000)
    for bins in (7, [0, 0.1, 0.5, 0.6]):
        same(gf.histogram(a, bins, density=True), np.histogram(a, bins, density=True))


def test_rules_and_rare_types(rng):
    a = rng.normal(size=999)
    for bins in ("auto", "fd", "sqrt"):
        same(*both(a, bins, where=a > 0))
    same(*both(a.astype(np.float16), 10))
    same(*both(a.astype(np.longdouble), 10))
    same(*both(a, np.array([0, 0.5, 1], np.longdouble)))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, (0, 1), (2, 0), (0, 1, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_slices(rng, axis, weighted):
    a = rng.normal(size=(4, 5, 1200)).astype(np.float32)
    where, w = rng.random(a.shape) < 0.6, rng.random(a.shape)
    ours, edges = gf.histogram(a, 8, axis=axis, where=where, weights=w if weighted else None)
    axes = [i % 3 for i in np.atleast_1d(axis)]
    rest = [i for i in range(3) if i not in axes]
    flat = [np.moveaxis(x, rest, range(len(rest))).reshape(*(a.shape[i] for i in rest), -1) for x in (a, where, w)]
    _, expected = np.histogram(a[where], 8)
    np.testing.assert_array_equal(edges, expected)
    for i in np.ndindex(*ours.shape[:-1]):
        x, m, v = (f[i] for f in flat)
        one, _ = np.histogram(x[m], expected, weights=v[m] if weighted else None)
        np.testing.assert_allclose(ours[i], one, rtol=1e-12)


@pytest.mark.parametrize("layout", ["F", "strided", "reversed", "read-only", "transposed mask"])
def test_memory_layouts(rng, layout):
    a, where = rng.random((40, 50, 60)), rng.random((40, 50, 60)) < 0.3
    if layout == "F":
        a, where = np.asfortranarray(a), np.asfortranarray(where)
    elif layout == "strided":
        a, where = a[::2, :, 3:], where[::2, :, 3:]
    elif layout == "reversed":
        a = a[::-1, :, ::-1]
    elif layout == "read-only":
        a.flags.writeable = where.flags.writeable = False
    else:
        where = np.asfortranarray(where)
    same(gf.histogram(a, 10, where=where), np.histogram(a[where], 10))


def test_nothing_is_copied(rng, monkeypatch):
    a, where = rng.random((30, 40, 50)).astype(np.float32), rng.random((30, 40, 50)) < 0.5
    seen = []
    count = kernels.count
    monkeypatch.setattr(
        kernels, "count", lambda how, columns, mask: seen.append((columns, mask)) or count(how, columns, mask)
    )
    for x, m in ((a, where), (a.T, where.T)):
        gf.histogram(x, 10, (0, 1), where=m)
        (column,), mask = seen.pop()
        assert np.shares_memory(column, a) and np.shares_memory(mask, where)


def test_the_number_of_threads_changes_nothing(rng):
    a, w = rng.random((2, 1_000_000))
    results = []
    for n in (1, 2, 3, 7):
        gf.set_num_threads(n)
        try:
            results.append((gf.histogram(a, 10)[0], gf.histogram(a, 10, weights=w)[0]))
        finally:
            gf.set_num_threads(None)
    for counts, sums in results[1:]:
        np.testing.assert_array_equal(counts, results[0][0])
        np.testing.assert_array_equal(sums, results[0][1])


def test_a_volume_that_holds_zeros_in_a_mask(rng):
    """Multiplying by the mask would count what is outside of it as 0."""
    volume = rng.integers(0, 50, (20, 30, 40)).astype(np.float32)
    mask = (rng.random(volume.shape) < 0.4).astype(np.float64)
    ours, edges = gf.histogram(volume, 200, (0, volume.max()), where=mask)
    slow = np.zeros(200, int)
    for x in volume[mask == 1]:
        slow[min(np.searchsorted(edges, x, "right") - 1, 199)] += 1
    np.testing.assert_array_equal(ours, slow)
    assert ours.sum() == mask.sum()


# ---- histogramdd
def dd(points, *args, **kwargs):
    """Ours and NumPy's; an error has to be one for both."""
    where = kwargs.pop("where", None)
    theirs, mask = dict(kwargs), slice(None) if where is None else where > 0
    if "weights" in theirs:
        theirs["weights"] = theirs["weights"][mask]
    try:
        expected = np.histogramdd(points[mask], *args, **theirs)
    except (ValueError, TypeError) as error:
        with pytest.raises(type(error), match=r"gf\.histogramdd"):
            gf.histogramdd(points, *args, where=where, **kwargs)
        return None
    ours = gf.histogramdd(points, *args, where=where, **kwargs)
    for a, b in zip(ours[1], expected[1], strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    return ours[0], expected[0]


def check_points_on_the_edges(dtype, data, most):
    axes = [data.draw(on_edges(dtype)) for _ in range(data.draw(st.integers(1, most)))]
    n = min(len(a) for a, _, _ in axes)
    points = np.stack([a[:n] for a, _, _ in axes], -1)
    ends = data.draw(st.sampled_from([None, [e for _, _, e in axes]]))
    with np.errstate(all="ignore"):
        found = dd(points, [min(b, 100) for _, b, _ in axes], ends)
    if found is not None:
        same([found[0]], [found[1]])


# how each axis finds its cells is a kernel of its own: of three axes there are many to compile
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
@settings(max_examples=80)
def test_points_on_the_edges(dtype, data):
    check_points_on_the_edges(dtype, data, 1 if dtype == np.float32 else 2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@given(data=st.data())
@settings(max_examples=300)
def test_points_on_the_edges_of_more_axes(dtype, data):
    check_points_on_the_edges(dtype, data, 3)


BINS = [4, (3, 5, 40), ([0, 0.5, 3], 7, [-1, 0, 0, 2, 9]), ([-np.inf, 0, np.inf], 7, 8)]


@pytest.mark.parametrize(
    ("bins", "dtype"),
    [pytest.param(bins, dtype, marks=() if i == 0 or i - 1 == k else pytest.mark.slow)
     for i, dtype in enumerate(["float64", "float32", "int32", "uint64", "float16"]) for k, bins in enumerate(BINS)],
)  # fmt: skip
def test_many_points(rng, dtype, bins):
    points = (rng.random((30_000, 3)) * 5).astype(dtype)
    where = rng.random(len(points)) < 0.5
    for kwargs in ({}, {"where": where}, {"density": True}, {"range": [(0, 2), None, (0.5, 1)]}):
        if "density" in kwargs and isinstance(bins, tuple) and not isinstance(bins[0], int):
            continue  # bins of zero or infinite width
        np.testing.assert_array_equal(*dd(points, bins, **kwargs))
    np.testing.assert_allclose(*dd(points, bins, weights=rng.random(len(points))), rtol=1e-12)
    columns = tuple(points.T)
    np.testing.assert_array_equal(gf.histogramdd(columns, bins)[0], np.histogramdd(points, bins)[0])


def test_integer_points_that_are_no_float64():
    points = np.array([[2**53 + 1], [2**53 + 2], [2**53 + 3], [5]])
    np.testing.assert_array_equal(*dd(points, [np.array([2**53 + 1, 2**53 + 2, 2**53 + 3])]))
    np.testing.assert_array_equal(*dd(points, 4))


# ---- bad input
@pytest.mark.parametrize(
    ("args", "kwargs", "error", "match"),
    [
        ((10,), {"where": np.ones((5, 4))}, ValueError, r"where has shape \(5, 4\) but must have that of a, \(4, 5\)"),
        ((10,), {"weights": np.ones(20)}, ValueError, r"weights has shape \(20,\)"),
        ((0,), {}, ValueError, "positive"),
        ((2.5,), {}, TypeError, "integer"),
        ((10, (2, 1)), {}, ValueError, "max must be larger"),
        ((10, (0, np.inf)), {}, ValueError, "not finite"),
        (([3, 2],), {}, ValueError, "monotonically"),
        (([[1, 2]],), {}, ValueError, "1d"),
        ((10**12,), {}, ValueError, "bins are too many"),
        ((10, (1, np.nextafter(1, 2))), {}, ValueError, "Too many bins"),
        (("best",), {}, ValueError, "estimator"),
        ((10,), {"axis": 2}, ValueError, "axis 2"),
        ((10,), {"axis": (0, 0)}, ValueError, "axis"),
        ((10,), {"axis": 0.5}, TypeError, "axis"),
        ((10,), {"density": "yes"}, TypeError, "density"),
        ((10,), {"where": np.ones((4, 5), complex)}, TypeError, "where has dtype complex128"),
    ],
)
def test_bad_input(args, kwargs, error, match):
    with pytest.raises(error, match=match) as caught:
        gf.histogram(np.zeros((4, 5)), *args, **kwargs)
    assert str(caught.value).startswith("gf.histogram: ")


def test_bad_points():
    points = np.zeros((4, 2))
    for kwargs, error, match in [
        ({"bins": (3,)}, ValueError, "bins has 1 entries"),
        ({"range": [(0, 1)]}, ValueError, "range has 1 entries"),
        ({"bins": 10**6}, ValueError, "too many"),
        ({"where": np.ones(3)}, ValueError, r"where has shape \(3,\)"),
        ({"weights": np.ones(4, complex)}, TypeError, "complex"),
        ({"range": [(1, 0), None]}, ValueError, "max must be"),
    ]:
        with pytest.raises(error, match=match):
            gf.histogramdd(points, **kwargs)
    with pytest.raises(ValueError, match="not finite"):
        gf.histogramdd(np.array([[np.nan, 1.0]]))
    with pytest.raises(TypeError, match="dtype"):
        gf.histogram(np.array(["a"]))


def test_an_empty_mask_is_no_data():
    same(gf.histogram(np.arange(5.0), 3, where=np.zeros(5)), np.histogram(np.empty(0), 3))


# ---- frameworks
@pytest.mark.parametrize("make", [torch.as_tensor, jnp.asarray, tf.constant], ids=["torch", "jax", "tensorflow"])
def test_frameworks(rng, make):
    a, where = rng.normal(size=(20, 30)).astype(np.float32), rng.random((20, 30)) < 0.5
    hist, edges = gf.histogram(make(a), 7, where=make(where))
    expected = np.histogram(a[where], 7)
    assert type(hist) is type(make(a)) and type(edges) is type(make(a))
    np.testing.assert_array_equal(np.asarray(hist), expected[0])
    np.testing.assert_array_equal(np.asarray(edges), expected[1])
    hist, edges = gf.histogramdd(make(a[:, :2]), 5)
    assert type(hist) is type(make(a)) and type(edges[0]) is type(make(a))
    np.testing.assert_array_equal(np.asarray(hist), np.histogramdd(a[:, :2], 5)[0])


def test_tracing_is_an_error():
    import jax

    with pytest.raises(TypeError, match="no numbers while something traces"):
        jax.jit(lambda a: gf.histogram(a, 3, (0, 1)))(jnp.ones(5))


def test_weights_that_are_followed_are_refused():
    a, w = torch.rand(9), torch.rand(9, requires_grad=True)
    for f in (gf.histogram, lambda a, **how: gf.histogramdd(a[:, None], **how)):
        with pytest.raises(TypeError, match="no derivative: detach them"):
            f(a, weights=w)
        f(a, weights=w.detach())


def test_small_types_of_points_and_weights(rng):
    a, w = rng.random(300), rng.random(300).astype(np.float16)
    for got, expected in (
        (gf.histogram(a, 5, (0, 1), weights=w), np.histogram(a, 5, (0, 1), weights=w)),
        (gf.histogramdd(a[:, None], 5, [(0, 1)], weights=w), np.histogramdd(a[:, None], 5, [(0, 1)], weights=w)),
    ):
        np.testing.assert_allclose(got[0], expected[0], rtol=2e-3 if got[0].dtype == np.float16 else 1e-12)
        assert got[0].dtype == expected[0].dtype
    slices = gf.histogram(a.reshape(3, 100), 5, (0, 1), weights=w.reshape(3, 100), axis=1)[0]
    np.testing.assert_allclose(slices.astype(float).sum(0), got[0], rtol=2e-3)
    b = a[:, None] > 0.3
    for how in ((2, [(0, 1)]), (2,)):
        np.testing.assert_array_equal(gf.histogramdd(b, *how)[0], np.histogramdd(b, *how)[0])
    x = torch.tensor([0.1, 0.6, 0.7], dtype=torch.bfloat16)
    np.testing.assert_array_equal(gf.histogram(x, 2, (0, 1))[0], [1, 2])
    np.testing.assert_array_equal(gf.histogramdd(x[:, None], 2, [(0, 1)])[0], [1, 2])


def test_more_slices_than_memory():
    with pytest.raises(ValueError, match=r"1000000000000 bins are too many"):
        gf.histogram(np.zeros((10**6, 1)), 10**6, (0, 1), axis=1)
    with pytest.raises(TypeError, match=r"gf\.histogram: "):
        gf.histogram(np.ones(3), 3, (0, 1), weights=np.ones(3, bool), density="no")


# ---- what a walk along NumPy found
@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # in NumPy
def test_rare_edges_are_those_of_numpy(rng):
    a = rng.random(50)
    for edges in ([0.1], []):  # no bins
        same(gf.histogram(a, edges), np.histogram(a, edges))
    hist, edges = gf.histogram(a.reshape(5, 10), [0.1], axis=1)
    assert hist.shape == (5, 0) and edges.tolist() == [0.1]
    whole = np.arange(9)
    for ends in ((0, np.inf), (np.nan, 1), (0, 2**70)):  # beside edges nobody looks at the range
        same(gf.histogram(whole, [0, 1, 5], ends), np.histogram(whole, [0, 1, 5], ends))
    for bins in ([[0.1]], [[0.1, np.nan]], [[0.1, 0.4, np.nan]]):
        np.testing.assert_array_equal(*dd(a[:, None], bins))
    np.testing.assert_array_equal(*dd(rng.random((50, 2)), [3, [0.5]], weights=a))
    with pytest.raises(ValueError, match=r"gf\.histogramdd: Too many bins for data range"):  # of NumPy, edges are NaN
        gf.histogramdd(a[:, None], 3, [(-1.7e308, 1.7e308)])
    with pytest.raises(ValueError, match=r"gf\.histogram: Too many bins for data range"):
        gf.histogram(a, 3, (-1.7e308, 1.7e308))
    with pytest.raises(ValueError, match=r"gf\.histogram: Unable to allocate"):  # NumPy has a MemoryError
        gf.histogram(np.array([0.0, 1, 1, 2, 3, 1e18]), "fd")


def test_edges_that_decrease_by_rounding():
    """64 bins between subnormals: edges are whole multiples of the least of them, and overshoot."""
    a = np.array([[-1.025e-05, 0.5], [-0.0, 1.0], [-4e-6, 0.7]], np.float16)
    np.testing.assert_array_equal(*dd(a, 64))
    b = np.array([0.0, 5e-324, 1e-323, 3e-323])
    np.testing.assert_array_equal(*dd(b[:, None], 64))
    assert both(b, 64) is None  # too many bins


@pytest.mark.skipif(np.longdouble is np.float64, reason="no longer type")
def test_points_that_float64_does_not_hold():
    e = np.linspace(np.longdouble(0.1), np.longdouble(0.7), 11)
    x = np.concatenate([e, np.nextafter(e, np.longdouble(-1)), np.nextafter(e, np.longdouble(1))])[:, None]
    np.testing.assert_array_equal(*dd(x, 10, [(np.longdouble(0.1), np.longdouble(0.7))]))
    np.testing.assert_array_equal(*dd(x.astype(float), [e]))


@pytest.mark.parametrize("dtype", ["float16", "longdouble", "int64", "float32"])
@pytest.mark.parametrize("bins", ["auto", 7, [0, 0.25, 5]])
def test_slices_of_rare_types_and_rules(rng, dtype, bins):
    a = (rng.normal(size=(4, 3, 50)) * 5).astype(dtype)
    a[0] += np.array(2**53 if dtype == "int64" else 0, dtype)
    where, w = rng.random(a.shape) < 0.6, rng.random(a.shape)
    if bins == "auto":
        with pytest.raises(TypeError, match="not supported for weighted"):
            gf.histogram(a, bins, axis=1, weights=w)
    for weights in (None, w) if bins != "auto" else (None,):
        hist, edges = gf.histogram(a, bins, axis=(2, 0), where=where, weights=weights)
        expected, _ = np.histogram(a[where], bins, weights=None if weights is None else weights[where])
        np.testing.assert_array_equal(edges, np.histogram_bin_edges(a[where], bins))
        np.testing.assert_allclose(hist.sum(0), expected, rtol=1e-12)
        assert hist.shape == (3, len(edges) - 1) and hist.dtype == expected.dtype
