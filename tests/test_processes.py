"""Frameworks, threads and processes together: nothing hangs, nothing crashes, results are right."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import multiprocessing
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from frameworks import FRAMEWORKS
from numpy.testing import assert_array_equal

import gridfield as gf

EAGER = ("NumPy", "torch (autograd)", "JAX", "TensorFlow (eager)")
can_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")


def work(seed, title="NumPy"):
    framework = FRAMEWORKS[title]
    rng = np.random.default_rng(seed)
    values, points = rng.normal(size=(60, 70)).astype("f4"), rng.uniform(0, 59, (30_000, 2)).astype("f4")
    values, points = framework.asarray(values), framework.asarray(points)
    y = gf.sample(values, points)
    return framework.numpy(gf.splat(y, points, gf.Grid.pixels((60, 70))))


@pytest.mark.parametrize("title", EAGER)
def test_calls_from_many_threads(title):
    expected = [work(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for got, one in zip(pool.map(lambda seed: work(seed, title), range(8)), expected, strict=True):
            assert_array_equal(got, one)


def test_gradients_from_many_threads():
    def gradient(title):
        framework = FRAMEWORKS[title]
        rng = np.random.default_rng(0)
        arrays = [framework.asarray(rng.normal(size=(20, 20))), framework.asarray(rng.uniform(1, 18, (5000, 2)))]
        loss = framework.scalar(gf.sample, (5000,))
        return [framework.numpy(g) for g in framework.grad(loss)(*arrays)]

    titles = ("torch (autograd)", "TensorFlow (eager)") * 4
    expected = gradient("torch (autograd)")
    with ThreadPoolExecutor(8) as pool:
        for got in pool.map(gradient, titles):
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)


@can_fork
@pytest.mark.filterwarnings("ignore:.*fork.*")  # JAX and Python warn of forks in a process with threads
@pytest.mark.parametrize("title", EAGER)
def test_fork_after_the_parent_used_a_framework(title):
    """Workers that use the NumPy functions, as those of a data loader do."""
    work(0, title)
    expected = [work(seed) for seed in range(3)]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for got, one in zip(pool.map_async(work, range(3)).get(timeout=120), expected, strict=True):
            assert_array_equal(got, one)


INTERRUPTED = """
import numpy as np, sys
import gridfield as gf
if sys.argv[1] == "NumPy":  # without the others, which take seconds to import
    class framework:
        asarray = numpy = staticmethod(np.asarray)
else:
    from frameworks import FRAMEWORKS
    framework = FRAMEWORKS[sys.argv[1]]
rng = np.random.default_rng(0)
values = framework.asarray(rng.normal(size=(100, 100, 100)).astype("f4"))
points = framework.asarray(rng.uniform(0, 99, (4_000_000, 3)).astype("f4"))
few = points[:1000]
expected = framework.numpy(gf.sample(values, few))
gf.sample(values, points)
caught = 0
print("ready", flush=True)
while caught < 3:
    try:
        while True:
            gf.sample(values, points)
    except KeyboardInterrupt:
        caught += 1
        print("caught", flush=True)
assert np.array_equal(framework.numpy(gf.sample(values, few)), expected)
print("done", flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C is another thing there")
@pytest.mark.parametrize("title", [t if t == "NumPy" else pytest.param(t, marks=pytest.mark.slow) for t in EAGER])
def test_an_interrupt_in_a_long_call(title):
    """Ctrl-C ends the call, or is raised right after it; the next call works."""
    env = os.environ | {"PYTHONPATH": os.path.dirname(__file__)}
    run = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, title], stdout=subprocess.PIPE, text=True, env=env, stderr=subprocess.PIPE
    )
    try:
        assert run.stdout.readline() == "ready\n", run.stderr.read()[-2000:]
        for _ in range(3):
            time.sleep(0.3)
            run.send_signal(signal.SIGINT)
            assert run.stdout.readline() == "caught\n", run.stderr.read()[-2000:]
        assert run.stdout.readline() == "done\n", run.stderr.read()[-2000:]
        assert run.wait(timeout=120) == 0
    finally:
        run.kill()
        run.communicate()
