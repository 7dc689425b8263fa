"""`import gridfield` is light: it imports no framework. What it costs is measured and reported."""

import json
import subprocess
import sys

FRAMEWORKS = ("torch", "jax", "jaxlib", "tensorflow", "keras", "monai", "xarray", "dask", "matplotlib")

# In a process of its own: in this one, other tests have imported frameworks already.
PROBE = """
import json, sys, time

start = time.perf_counter()
import numba, scipy.fft
before = time.perf_counter()
import gridfield
gridfield.Grid  # with the first name comes all else
after = time.perf_counter()

frameworks = sys.argv[1:]
print(json.dumps({
    "loaded": [name for name in frameworks if name in sys.modules],
    "dependencies": before - start,
    "gridfield": after - before,
}))
"""


def probe(folder):
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *FRAMEWORKS],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # an import says nothing and warns of nothing
    return json.loads(done.stdout)


def test_plots_are_there_without_matplotlib():
    """`gf.plot` can be reached, and matplotlib comes when something is drawn."""
    code = """
import sys
import gridfield as gf
gf.plot.field, gf.plot.kernel
assert "matplotlib" not in sys.modules
gf.plot.kernel("cubic")
assert "matplotlib" in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_loads_no_framework(tmp_path, record_property):
    found = probe(tmp_path)
    assert found["loaded"] == []

    report = f"{found['gridfield'] * 1e3:.0f} ms on top of numba and scipy.fft ({found['dependencies'] * 1e3:.0f} ms)"
    print("import gridfield:", report)
    record_property("import gridfield", report)
