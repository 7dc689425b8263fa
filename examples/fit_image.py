"""
Fit a model to an image, as it is on paper
==========================================

Two images, and a model for each, written as an equation. The first is a tilted plane with noise. The second is made of
three other images that come from FITS files, with values missing in the data and in one of those images; no start
values are given. Points where anything is missing are left out.

.. code-block:: bash

    pip install "gridfield[plot,io]"
"""

# %%
# A tilted plane
# --------------
#
# ``row`` and ``column`` are the axes of an image in their order; every other name in an equation is a parameter.

import pathlib
import tempfile

import matplotlib.pyplot as plt
import numpy as np
from astropy.io import fits

import gridfield as gf

rng = np.random.default_rng(3)
row, column = np.indices((10, 20))
plane = 3 * row + 4 * column + rng.normal(scale=3, size=(10, 20))

tilted = gf.curve_fit("a*row + b*column", None, plane)
print(tilted)
print(f"plane:     a {tilted['a']:.3f}, b {tilted['b']:.3f}")

# %%
# The same by a linear solve:

matrix = np.stack([row.ravel(), column.ravel()], 1)
by_hand = np.linalg.lstsq(matrix, plane.ravel(), rcond=None)[0]
print(f"slow way:  differs by {np.abs(tilted.popt - by_hand).max():.1e}")

# %%
# Three images from FITS files
# ----------------------------
#
# Images of the sky have gaps. Here the data have a hole, and one of the regressors lacks a column.

folder = pathlib.Path(tempfile.mkdtemp())
y, x = np.mgrid[:100, :120] / 100.0
clouds = [rng.normal(size=(9, 10)) for _ in range(3)]
mods = [
    np.exp(0.4 * gf.sample(c, np.stack([8 * y, 7.5 * x], -1), boundary="mirror")) for c in clouds
]  # smooth, positive
truth = {"a": 1.7, "b": 0.6}
image = mods[0] * 12 + mods[1] ** truth["a"] - mods[2] / truth["b"] + rng.normal(scale=0.3, size=y.shape)
image[(y - 0.3) ** 2 + (x - 0.8) ** 2 < 0.01] = np.nan
mods[1][:, 40:43] = np.nan
for name, array in {"image": image, "mod1": mods[0], "mod2": mods[1], "mod3": mods[2]}.items():
    fits.writeto(folder / f"{name}.fits", array.astype(np.float32))

# %%
# Now as a reader of the files has it:

data = fits.getdata(folder / "image.fits")
regressors = {name: fits.getdata(folder / f"{name}.fits") for name in ("mod1", "mod2", "mod3")}
found = gf.curve_fit("mod1*12 + mod2**a - mod3/b", regressors, data)
print(found)
off = max(abs(found[k] - v) / found.stderr[k] for k, v in truth.items())
print(f"regressors: at most {off:.1f} standard errors from the truth, {found.dof + 2} of {data.size} pixels used")

# %%
# The picture
# -----------
#
# Original beside fitted, and what is left: noise, and nothing else.

plt.rc("font", size=11)
figure, axes = plt.subplots(2, 3, figsize=(13, 6.6), layout="constrained", height_ratios=[1, 1.35])
models = "a·row + b·column", "mod1·12 + mod2**a − mod3/b"
for row_of, result, model in zip(axes, (tilted, found), models, strict=True):
    result.plot(row_of)
    values = ", ".join(f"{name} = {result[name]:.3f} ± {result.stderr[name]:.3f}" for name in "ab")
    row_of[0].set_title("original")
    row_of[1].set_title(f"{model}\n{values}")
    row_of[2].set_title("original − fitted")
    for ax in row_of:
        ax.set(xticks=[], yticks=[])

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "fit_image.png"
figure.savefig(picture, dpi=110)
print(f"picture:   {picture.resolve()}")
