"""Threads: the same bits whatever their number, calls from many Python threads, and forks in the middle of it all."""

import itertools
import multiprocessing
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from cases import force
from numpy.testing import assert_array_equal

import gridfield as gf
from gridfield.cpu import cache, plan, threads
from gridfield.cpu.plan import Plan

COUNTS = (1, 2, 3, 7)
can_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
# Python 3.12 and later warn of a fork in a process with threads: it is what these tests are about
# (and so does JAX, where another test imported it)
forking = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning", "ignore:os.fork:RuntimeWarning"
)


@pytest.fixture(autouse=True)
def automatic():
    yield
    gf.set_num_threads(None)


def with_each_count(f):
    """f() with each number of threads, bit for bit the same; gives it back."""
    results = []
    for count in COUNTS:
        gf.set_num_threads(count)
        assert gf.get_num_threads() == count
        results.append([np.asarray(r) for r in f()])
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return results[0]


def spy(monkeypatch, name):
    """How often, and with how many tasks, a method of Plan or threads.run was called."""
    calls = []
    owner = threads if name == "run" else Plan
    original = getattr(owner, name)

    def wrapper(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(owner, name, wrapper)
    return calls


# ---- the same bits ---------------------------------------------------------------------------------------------------
STRATEGIES = {  # points, shape, whether stencils are read in place
    "direct": (5_000, (90, 80), True),
    "serial": (10_000, (40, 30), False),
    "copies": (150_000, (20, 15), False),
    "slabs": (150_000, (700, 600), False),
}


@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_splat_is_the_same_for_any_number_of_threads(strategy, dtype, rng, monkeypatch):
    n, shape, direct = STRATEGIES[strategy]
    force(monkeypatch, "direct" if direct else "padded")
    slabs, runs = spy(monkeypatch, "_scatter_slabs"), spy(monkeypatch, "run")
    points = (rng.uniform(-0.1, 1.1, (n, 2)) * np.array(shape)).astype(dtype)
    points[7, 0] = np.nan
    values = rng.normal(size=n).astype(dtype)
    grid = gf.Grid.pixels(shape)
    (got,) = with_each_count(lambda: [gf.splat(values, points, grid, kernel="cubic")])
    # what was meant to run did run
    assert (len(slabs) > 0) == (strategy == "slabs")
    parallel = max((len(args[0]) for args in runs), default=1) > 2
    assert parallel == (strategy in ("copies", "slabs"))
    # and is right, measured against double precision, one point after the other
    monkeypatch.setattr(plan, "SERIAL", 10**9)
    expected = gf.splat(values.astype(float), points.astype(float), grid, kernel="cubic")
    tolerance = (1e-3 if dtype == "float32" else 1e-11) * np.sqrt(n / got.size + 1)
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("channels", (3, 20))
def test_splat_of_channels_is_the_same(channels, rng, monkeypatch):
    points, values = rng.uniform(0, 299, (60_000, 2)), rng.normal(size=(60_000, channels))
    slabs = spy(monkeypatch, "_scatter_slabs")
    with_each_count(lambda: [gf.splat(values, points, gf.Grid.pixels((300, 300)))])
    assert slabs


def test_points_in_one_place_are_added_in_one_order(rng):
    """Where rounding would show: large and small numbers on the same few samples."""
    n = 200_000
    points = rng.uniform(3, 4, (n, 2)).astype(np.float32)
    values = (rng.normal(size=n) * 10.0 ** rng.integers(-6, 7, n)).astype(np.float32)
    for shape in ((8, 8), (700, 600)):
        with_each_count(lambda shape=shape: [gf.splat(values, points, gf.Grid.pixels(shape))])


@pytest.mark.parametrize("boundary", ("mirror", "natural", "constant"))
def test_sample_is_the_same_for_any_number_of_threads(boundary, rng, monkeypatch):
    runs = spy(monkeypatch, "run")
    for n in (100_003, 64 * 1000 + 1):
        points = rng.uniform(-20, 320, (n, 2)).astype(np.float32)
        values = rng.normal(size=(2, 300, 290)).astype(np.float32)
        with_each_count(
            lambda: [
                gf.sample(values, points, boundary=boundary, derivative=[(0, 0), (1, 0)]),  # noqa: B023
                gf.prefilter(values, grid=gf.Grid.pixels((300, 290))),  # noqa: B023
            ]
        )
    assert max(len(args[0]) for args in runs) > 3


def test_prefilter_and_pad_are_the_same_for_any_number_of_threads(rng):
    for shape in ((300_000,), (700, 500), (7, 90, 800), (60, 70, 80), (2, 3, 60_000)):
        values = rng.normal(size=shape).astype(np.float32)
        for boundary in ("natural", "wrap"):
            with_each_count(
                lambda: [
                    gf.prefilter(values, kernel="quintic", boundary=boundary),  # noqa: B023
                    gf.pad(values, 3, boundary=boundary),  # noqa: B023
                    gf.fold(values, [(1, 2)], boundary=boundary),  # noqa: B023
                ]
            )


def test_gradients_are_the_same_for_any_number_of_threads(rng):
    values = torch.from_numpy(rng.normal(size=(3, 60, 50))).float().requires_grad_()
    points = torch.from_numpy(rng.uniform(-3, 60, (70_001, 2))).float().requires_grad_()

    def gradients():
        y = gf.sample(values, points)
        return [g.numpy() for g in torch.autograd.grad(y.square().sum(), (values, points))]

    with_each_count(gradients)


def test_batches_are_the_same_for_any_number_of_threads(rng):
    """A batch of grids with points of their own: parts that begin in the middle of an item."""
    values = torch.from_numpy(rng.normal(size=(3, 7, 8))).float()
    points = torch.from_numpy(rng.uniform(0, 6, (3, 30_011, 2))).float()

    def batch():
        y = torch.func.vmap(gf.sample)(values, points)
        grids = torch.func.vmap(lambda y, x: gf.splat(y, x, gf.Grid.pixels((7, 8))))(y, points)
        return [y.numpy(), grids.numpy()]

    y, _ = with_each_count(batch)
    np.testing.assert_allclose(y[1], gf.sample(values[1], points[1]), rtol=0, atol=1e-6)


# ---- set_num_threads -------------------------------------------------------------------------------------------------
def test_set_num_threads():
    gf.set_num_threads(3)
    assert gf.get_num_threads() == 3
    gf.set_num_threads(None)
    assert gf.get_num_threads() == torch.get_num_threads()
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert gf.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("n", (0, -1, 1.5, "2", True, float("nan"), [2], 2.0))
def test_what_is_no_number_of_threads(n):
    gf.set_num_threads(2)
    with pytest.raises(ValueError, match=r"gf\.set_num_threads: n must be a positive int or None, got"):
        gf.set_num_threads(n)
    assert gf.get_num_threads() == 2


def test_an_error_on_a_worker_reaches_the_caller():
    gf.set_num_threads(4)

    def fail():
        raise KeyError("from a task")

    done = []
    for _ in range(3):
        with pytest.raises(KeyError, match="from a task"):
            threads.run([*(lambda k=k: done.append(k) for k in range(10)), fail])
    assert sorted(done) == sorted(3 * list(range(10)))
    threads.run([lambda: done.append(99)] * 5)
    assert done.count(99) == 5


@pytest.mark.parametrize("align", (1, 64))
@pytest.mark.parametrize("stop", (0, 1, 63, 64, 65, 1000, 100_001))
def test_split_covers_everything_once(stop, align):
    for count in (1, 2, 3, 7, 64):
        gf.set_num_threads(count)
        for work in (0.0, 1e5, 3e5, 1e9) if stop else (0.0,):
            parts = threads.split(0, stop, work, align=align)
            assert [i for a, b in parts for i in range(a, b)] == list(range(stop))
            assert len(parts) <= max(count, 1)
            assert all(a % align == 0 for a, _ in parts)


# ---- many Python threads ---------------------------------------------------------------------------------------------
def work(seed):
    """A bit of everything, large enough for several threads."""
    rng = np.random.default_rng(seed)
    values, points = rng.normal(size=(60, 70)), rng.uniform(-5, 75, (60_000, 2))
    y = gf.sample(values, points, boundary=("mirror", "natural", "constant")[seed % 3])
    x = torch.from_numpy(points[:1000]).requires_grad_()
    v = torch.from_numpy(values).requires_grad_()
    gf.sample(v, x).square().sum().backward()
    grid = gf.splat(y, points, gf.Grid.pixels((60, 70)))
    return [y, grid, gf.prefilter(values), gf.pad(values, 3), v.grad.numpy(), x.grad.numpy()]


def assert_same(results, expected):
    for got, right in zip(results, expected, strict=True):
        for a, b in zip(got, right, strict=True):
            assert_array_equal(a, b)


def test_calls_from_many_python_threads():
    expected = [work(seed) for seed in range(6)]
    before, interval = threading.active_count(), sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(2):
                assert_same(list(pool.map(work, range(6))), expected)
    finally:
        sys.setswitchinterval(interval)
    assert threading.active_count() <= before + 8  # the pool is shared, not one per call


def test_first_calls_from_many_python_threads(rng):
    """Nothing compiled yet: all threads want the same new kernel at once."""
    kernel = gf.Kernel([[0.25, -0.5], [0.5, 0.125]], name="never seen")
    values, points = rng.normal(size=(9, 9)), rng.uniform(1, 7, (50, 2))
    barrier = threading.Barrier(4)

    def call(_):
        barrier.wait()
        return gf.sample(values, points, kernel=kernel, prefilter=False)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(call, range(4)))
    weights = [kernel(points[:, [a]] - np.arange(9)) for a in (0, 1)]
    for got in results:
        np.testing.assert_allclose(got, np.einsum("pi,pj,ij->p", *weights, values), rtol=0, atol=1e-12)


def test_the_number_of_threads_may_change_while_others_work():
    expected = [work(seed) for seed in range(3)]
    stop = threading.Event()

    def flicker():
        while not stop.is_set():
            for count in (*COUNTS, None):
                gf.set_num_threads(count)

    other = threading.Thread(target=flicker)
    other.start()
    try:
        for _ in range(3):
            assert_same([work(seed) for seed in range(3)], expected)
    finally:
        stop.set()
        other.join()


# ---- fork ------------------------------------------------------------------------------------------------------------
@can_fork
@forking
def test_fork_after_use():
    """Workers of a pool forked when the kernels' threads exist already."""
    gf.set_num_threads(3)
    expected = [work(seed) for seed in range(4)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert_same(pool.map_async(work, range(4)).get(timeout=120), expected)
    assert_same([work(seed) for seed in range(2)], expected[:2])  # the parent's own threads are alive


@can_fork
@forking
def test_fork_while_other_threads_are_inside_a_call():
    """A lock held, or a job queued, at the moment of the fork must not reach the child."""
    gf.set_num_threads(3)
    values, points = np.ones((60, 70)), np.full((40_000, 2), 3.25)
    gf.sample(values, points)
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            gf.sample(values, points)

    others = [threading.Thread(target=busy) for _ in range(3)]
    for other in others:
        other.start()
    codes = []
    try:
        for _ in range(10):
            pid = os.fork()
            if pid == 0:
                try:
                    ok = (np.abs(gf.sample(values, points) - 1) < 1e-12).all()
                    os._exit(0 if ok else 1)
                finally:
                    os._exit(2)
            codes.append(wait(pid))
    finally:
        stop.set()
        for other in others:
            other.join()
    assert codes == [0] * 10


@can_fork
@forking
@pytest.mark.parametrize(
    ("what", "forks"),
    [("static arguments", 8), ("a kernel", 2)]
    + [pytest.param(*more, marks=pytest.mark.slow) for more in (("static arguments", 20), ("a kernel", 6))],
)
def test_fork_while_other_threads_prepare_a_call(what, forks, monkeypatch):
    """Locks of the tables, and of the compiler, held at the moment of the fork must not reach the child."""
    monkeypatch.setattr(cache, "folder", lambda: None)  # compile, and keep nothing
    values, points = np.ones((6, 7)), np.full((4, 2), 3.25)
    stop, count = threading.Event(), itertools.count()

    def busy():
        while not stop.is_set():
            k = next(count)
            if what == "static arguments":
                gf.sample(values, points, boundary="constant", cval=k + 0.5)
            else:  # a table that no kernel was compiled for
                table = np.array(gf.bspline(1).coefficients) * (1 + k / 1024 + os.getpid() * 1e-9)
                gf.sample(values, points, kernel=gf.Kernel(table), prefilter=False)

    others = [threading.Thread(target=busy) for _ in range(3)]
    for other in others:
        other.start()
    codes = []
    try:
        for n in range(forks):
            time.sleep(0.02)
            pid = os.fork()
            if pid == 0:
                try:
                    kernel = gf.Kernel(np.array(gf.bspline(1).coefficients) * (2 + n + os.getpid() * 1e-9))
                    gf.sample(values, points, boundary="constant", cval=-1.5 - n)
                    ok = what == "static arguments" or gf.sample(values, points, kernel=kernel, prefilter=False).all()
                    os._exit(0 if ok else 1)
                finally:
                    os._exit(2)
            codes.append(wait(pid))
    finally:
        stop.set()
        for other in others:
            other.join()
    assert set(codes) == {0}


def wait(pid, seconds=60):
    """Exit code of a child; one that hangs is ended, code -1."""
    done = threading.Event()
    code = [-1]

    def waiter():
        code[0] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        done.set()

    thread = threading.Thread(target=waiter, daemon=True)
    thread.start()
    if not done.wait(seconds):
        os.kill(pid, 9)
        thread.join()
        return -1
    return code[0]
