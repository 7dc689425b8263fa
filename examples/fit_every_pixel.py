"""
Fit every pixel: stars of the Hubble deep field
===============================================

``gf.curve_fit`` with ``axis=`` fits a model to every pixel, or every cut-out, at once. Here that is each of the compact
objects of a photograph: a window around it, a Gaussian with its own centre, width, height and sky, and its
uncertainty. The second half fits a trend in time to every voxel of a functional MRI series. Failed fits are NaN and say
why.

.. code-block:: bash

    pip install "gridfield[plot,io]" scikit-image
"""

# %%
# Spots
# -----
#
# Local maxima that stand out, each with a window of 11 × 11 pixels.

import pathlib

import matplotlib.pyplot as plt
import nibabel
import numpy as np
import scipy.ndimage
import skimage.data
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from nibabel.testing import data_path

import gridfield as gf

sky = skimage.data.hubble_deep_field()[..., 0].astype(float)[:700, :700]
half = 5
smooth = gf.smooth(sky, "gaussian", sigma=1.0)
peaks = (smooth == scipy.ndimage.maximum_filter(smooth, 7)) & (smooth > 60)
peaks[:half], peaks[-half:], peaks[:, :half], peaks[:, -half:] = 0, 0, 0, 0
places = np.argwhere(peaks)
windows = np.stack([sky[r - half : r + half + 1, c - half : c + half + 1] for r, c in places])

# %%
# One call. The window is a grid from -5 to 5, so centres are offsets from the brightest pixel; x is the column, y the
# row.

grid = gf.Grid((11, 11), ((-half, half), (-half, half)))
spots = gf.curve_fit(
    "A*exp(-((x - x0)**2 + (y - y0)**2)/(2*s**2)) + sky",
    grid,
    windows,
    {"A": windows[:, half, half], "x0": 0, "y0": 0, "s": 1.5, "sky": windows.min((1, 2))},
    bounds={"x0": (-3, 3), "y0": (-3, 3), "s": (0.3, 8)},
    axis=(1, 2),
)
print(spots)
print(f"spots:     {spots.success.sum()} of {len(places)} fitted")
good = spots.success & (spots.stderr["x0"] < 0.2)
median = np.median(spots.stderr["x0"][good])
print(f"spots:     {good.sum()} centres better than 0.2 pixels, median {median:.3f} pixels")

# %%
# Every voxel of a functional series
# ----------------------------------
#
# Twenty volumes; in each voxel a level and a drift. Voxels outside of the head are left out.

series = nibabel.load(pathlib.Path(data_path) / "functional.nii")
volume = np.asarray(series.dataobj, dtype=float)
time = 2.0 * np.arange(volume.shape[-1])  # seconds
masked = np.where((volume.mean(-1) > 2600)[..., None], volume, np.nan)
drift = gf.curve_fit("level*(1 + drift*(t - 19)/100)", {"t": time}, masked, axis=-1)
print(drift)
print(f"voxels:    {drift.success.sum()} of {drift.success.size} fitted, the others: {drift.reason[~drift.success][0]}")

# %%
# It is what a loop over the voxels gives:

some = np.argwhere(drift.success)[::97]
X = np.stack([np.ones(20), (time - 19) / 100], 1)
level, slope = np.linalg.lstsq(X, masked[tuple(some.T)].T, rcond=None)[0]
difference = np.abs(drift["drift"][tuple(some.T)] - slope / level).max()
print(f"slow way:  differs by {difference:.1e}")

# %%
# The picture
# -----------
#
# Above, the photograph with the fitted spots, circles as wide as they are, and their widths with uncertainties. Below,
# maps of the drift (in 100 s, of the level) and of its standard error, in the middle slice.

plt.rc("font", size=11)
figure = plt.figure(figsize=(12.5, 11), layout="constrained")
above, below = figure.subfigures(2, 1, height_ratios=[1.35, 1])
left, right = above.subplots(1, 2, width_ratios=[1.25, 1])
left.imshow(sky, cmap="gray", vmin=0, vmax=160, interpolation="nearest")
colours = ScalarMappable(Normalize(0, 0.15), "plasma")
left.scatter(
    places[good, 1] + spots["x0"][good], places[good, 0] + spots["y0"][good], s=20 * spots["s"][good] ** 2,
    facecolor="none", edgecolors=colours.to_rgba(spots.stderr["x0"][good]), linewidths=1.2,
)  # fmt: skip
left.set_title(f"{good.sum()} spots, their centres and widths")
left.set_xticks([])
left.set_yticks([])
above.colorbar(colours, ax=left, label="standard error of the centre (pixels)", extend="max", shrink=0.85)
right.errorbar(
    spots["A"][good], spots["s"][good], spots.stderr["s"][good], fmt="o", markersize=3.5, color="0.25", elinewidth=0.8
)
right.set(xlim=(0, 400), xlabel="height (grey levels)", ylabel="sigma (pixels)", title="point-like, and extended")
right.set_ylim(0.5, 6)

k = volume.shape[2] // 2
maps = below.subplots(1, 3)
for ax, field, title, how in (
    (maps[0], drift["level"][:, :, k], "level", {"cmap": "gray"}),
    (maps[1], drift["drift"][:, :, k], "drift (in 100 s, of the level)", {"cmap": "RdBu_r", "vmin": -0.1, "vmax": 0.1}),
    (maps[2], drift.stderr["drift"][:, :, k], "standard error of the drift", {"cmap": "magma", "vmin": 0}),
):  # fmt: skip
    image = ax.imshow(field.T, origin="lower", interpolation="nearest", **how)
    ax.set_facecolor("0.85")
    ax.set(title=title, xticks=[], yticks=[])
    below.colorbar(image, ax=ax, shrink=0.85)

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "fit_every_pixel.png"
figure.savefig(picture, dpi=110)
print(f"picture:   {picture.resolve()}")
