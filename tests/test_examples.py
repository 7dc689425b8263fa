"""Every example runs from top to bottom, and leaves the picture it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))
# In every run; the others are marked slow.
SHORT = ("fit_image", "register_photograph", "sine_1d")
SMALLEST_PICTURE = 20_000  # bytes: an empty figure is smaller

# What an example has to reach: a pattern whose group is the number it prints, and the limit (inclusive), or the limits
# from below and above.
REACHES = {
    "augment_jax_jit": [(r"replay: +at most ([\d.e-]+) of", 1e-4)],  # of float32 coordinates of some hundred pixels
    "augment_tf_data": [(r"overlap: +([\d.]+)", (0.98, 1))],
    "augment_torch": [
        (r"points: +median ([\d.]+) px", 0.4),
        (r"points: .*at most ([\d.]+) px", 3),
    ],
    "coarse_to_fine": [
        (r"Adam carried on: loss ([\d.e-]+) m²", 1e-6),
        (r"Adam carried on: .*rms error ([\d.]+) m", 0.15),
        (r"Adam carried on: .*largest jump ([\d.]+) times", 1.3),
        (r"Adam anew at each lattice: .*largest jump ([\d.]+) times", (100, 1e6)),
        (r"finest lattice from the start: .*rms error ([\d.]+) m", (0.5, 2)),  # what it is compared with
    ],
    "correlation_map": [
        (r"by hand: +differs by ([\d.e-]+)", 1e-6),  # of maps in float32
        (r"delays: +wrong by ([\d.]+) months", 1),
        (r"detrended and smoothed ([\d.]+)", (0.7, 0.95)),
    ],
    "defocus": [
        (r"each spectrum by itself: +rms error ([\d.]+) nm", (14, 20)),
        (r"field, coarse: +rms error ([\d.]+) nm", 6.5),
        (r"field, refined: +rms error ([\d.]+) nm", 4.5),
    ],
    "elastic_deformation": [
        (r"crop and that region: +(\d+) numbers differ", 0),
        (r"gradients differ by: +([\d.e-]+) between", 1e-11),
    ],
    "fit_every_pixel": [
        (r"spots: +(\d+) of 426 fitted", (420, 426)),
        (r"spots: .* median ([\d.]+) pixels", 0.1),
        (r"voxels: +(\d+) of", (1032, 1032)),
        (r"slow way: +differs by ([\d.e-]+)", 1e-9),
    ],
    "fit_image": [
        (r"slow way: +differs by ([\d.e-]+)", 1e-9),
        (r"regressors: at most ([\d.]+) standard errors", 3),
    ],
    "fit_scattered": [
        (r"held out, by GCV: +([\d.]+) km", 22),  # at 1 km² 24 km, at 1e6 km² 43 km
        (r"held out, by GCV: .*, ([\d.]+) of the best by hand", 1.05),
    ],
    "grid_scattered": [
        (r"counted: +(\d+) of 1000", (1000, 1000)),
        (r"slow way: +differs by ([\d.]+)", 0.02),  # magnitudes are given to 0.1
        (r"spread: +([\d.]+),", (0.1, 0.12)),
        (r"spread: .* to ([\d.]+)", (0.05, 0.09)),  # what it is compared with
        (r"loops: +(\d+) earthquakes are on an edge", (63, 63)),
        (r"loops: .*, (\d+) are overwritten", (115, 115)),
    ],
    "learn_point_convolution": [
        (r"pairs, wrapped: relative difference ([\d.e-]+)", 1e-6),
        (r"pairs, not wrapped: relative difference ([\d.e-]+)", (1e-3, 1)),  # points that miss their neighbours
        (r"AdamW.*: final loss ([\d.e-]+)", (0.1, 0.6)),  # what it is compared with
        (r"descent.*: final loss ([\d.e-]+)", 1e-6),
        (r"descent.*: final loss .*kernel ([\d.e-]+)", 1e-3),
    ],
    "motion_field": [
        (r"rms error: +([\d.]+) nm", 0.25),  # of shifts with a noise of 0.5 nm
        (r"without weights ([\d.]+) nm", (0.3, 0.6)),
    ],
    "mri_2d": [
        (r"radial: [^:]+adjoint: +error ([\d.]+)", (0.5, 0.7)),  # what it is compared with
        (r"radial: (?:.*\n)+? +adjoint, weighted: +error ([\d.]+)", 0.04),
        (r"radial: (?:.*\n)+? +conjugate gradients: +error ([\d.]+)", 0.04),
        (r"spiral: (?:.*\n)+? +adjoint, weighted: +error ([\d.]+)", 0.08),
        (r"spiral: (?:.*\n)+? +conjugate gradients, weighted: +error ([\d.]+)", 0.06),
        (r"they differ by ([\d.e-]+)", 1e-5),
        (r"6 arms, one coil.*: error ([\d.]+)", (0.13, 0.2)),
        (r"6 arms, four coils: error ([\d.]+)", 0.12),
        (r"48 spokes, straight: error ([\d.]+)", (0.115, 0.135)),
        (r"48 spokes, bent: error ([\d.]+)", 0.105),
    ],
    "register_photograph": [
        (r"error: +median ([\d.]+) px", 0.1),
        (r"95th percentile ([\d.]+) px", 0.25),
    ],
    "sine_1d": [
        (r"natural ends: +max error ([\d.]+)", 0.01),
        (r"periodic: +max error ([\d.]+)", 0.005),
    ],
    "surface_2d": [(r"rms error of the fit: ([\d.]+) m", 1.5)],  # of samples with a noise of 5 m
    "tissue_histogram": [
        (r"first bin: +(\d+) in the mask", 2),
        (r"first bin: .*, (\d+) by multiplication", (190_000, 200_000)),  # what it is compared with
        (r"changed: +(\d+) of", (143, 143)),
        (r"changed: .* by lookup (\d+)", (143, 143)),
        (r"slow way: +(\d+) changed", (143, 143)),
    ],
}


def test_there_are_examples():
    assert {script.stem for script in EXAMPLES} == set(REACHES)


@pytest.mark.parametrize(
    "script",
    [pytest.param(e, id=e.stem, marks=() if e.stem in SHORT else pytest.mark.slow) for e in EXAMPLES],
)
def test_example_runs(script, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error:::__main__", str(script)],  # warnings that the script causes are errors
        cwd=tmp_path,
        # one OpenMP thread: other tests may be running on the other cores
        env={**os.environ, "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr

    picture = Path(re.search(r"^picture: +(.+)$", done.stdout, re.M)[1])
    assert picture.is_absolute() and picture.parent == tmp_path.resolve()
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > SMALLEST_PICTURE

    for pattern, limit in REACHES[script.stem]:
        found = re.search(pattern, done.stdout)
        assert found, f"no {pattern!r} in:\n{done.stdout}"
        least, most = limit if isinstance(limit, tuple) else (0, limit)
        assert least <= float(found[1]) <= most, done.stdout
