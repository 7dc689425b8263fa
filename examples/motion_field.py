"""
A motion field from tracked patches
===================================

Patches of a movie have been tracked from frame to frame: noisy shifts, some lost, some wrong. One field over
time and the image is fitted to all of them, as in motion correction of microscope movies, and read at any time and
place. The data are made, so that the fit can be judged.
"""

# %%
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import torch

import gridfield as gf
from gridfield.torch import SplineField

# %%
# A movie, and what moves in it
# -----------------------------
#
# Coordinates are (t, y, x), in seconds and micrometres; the field has two channels, the shift in y and in x, in
# nanometres. The made motion is what electron microscopists see under the beam: fast at first, then slower, a drift of
# the whole with a dome that swells, and a ripple.

duration, height, width = 4.0, 3.0, 4.0  # s, µm, µm
bounds = [(0, duration), (0, height), (0, width)]


def true_shift(points):
    """(*, 2): the shift in y and x (nm) at (*, 3) in s, µm, µm."""
    t, y, x = np.moveaxis(points, -1, 0)
    swell = 1 - np.exp(-t / 0.9)
    y, x = y - 1.4, x - 2.2
    dome = np.exp(-(y**2 + x**2) / 2.5)
    ripple = 0.5 * np.sin(1.6 * t) * np.cos(1.5 * x)
    return np.stack([swell * (2 + 4 * y * dome) + ripple, swell * (-1.5 + 4 * x * dome) - 0.4 * t * y], axis=-1)


# %%
# In 40 frames 6 × 8 patches are tracked, with a noise of 0.5 nm. One shift in ten is lost (NaN). One patch in twenty
# has locked on something else; the tracker noticed a poor correlation, and gives it a small weight.

tracked = gf.Grid((40, 6, 8), [(0, duration), (0.25, 2.75), (0.25, 3.75)])
points = tracked.coords()  # (40, 6, 8, 3); any other points would do, in any order

rng = np.random.default_rng(0)
noise = 0.5  # nm
shifts = true_shift(points) + noise * rng.standard_normal((*tracked.shape, 2))
wrong = rng.random(tracked.shape) < 0.05
shifts[wrong] += 6 * rng.standard_normal((wrong.sum(), 2))
weights = np.where(wrong, 0.01, 1.0)
shifts[rng.random(shifts.shape) < 0.1] = np.nan

# %%
# The fit
# -------
#
# Motion is fast in time and smooth in space, so there are 14 control points along t and 5 × 6 on the image. A NaN is
# left out, of its own channel. The penalty on second derivatives counts a second like a micrometre: the motion changes
# about as much over one as over the other. How much of it is best, generalised cross-validation finds.

field = SplineField.fit(points, shifts, (14, 5, 6), weights=weights, bounds=bounds, roughness="gcv")
info = field.fit_info
print(
    f"data:        {np.isfinite(shifts).sum()} shifts of {shifts.size}, noise {noise} nm, {wrong.sum()} patches wrong"
)
print(f"roughness:   {info.roughness:.2g} by GCV, {info.effective_dof:.0f} degrees of freedom per channel")

# %%
# At one time
# -----------
#
# ``on_grid`` takes a grid of its own. One with a single sample in time is a still: on an axis of one sample, the lower
# bound is where the sample is (and the upper one only says how much it stands for). All frames at once would be
# ``field.on_grid((40, 120, 160))``.

time = 1.0  # s
still = gf.Grid((1, 121, 161), [(time, time + 0.1), *bounds[1:]])
fitted = field.on_grid(still)[:, 0].detach().numpy()  # (channel, y, x)
true = np.moveaxis(true_shift(still.coords()[0]), -1, 0)

# %%
# How good is it? Over all frames and the whole image, and beside a fit that trusts every patch alike.

whole = gf.Grid((40, 31, 41), bounds)


def rms_error(field):
    """Length (nm) of the error vector, rms over the movie."""
    difference = field.on_grid(whole).detach().numpy() - np.moveaxis(true_shift(whole.coords()), -1, 0)
    return np.sqrt((difference**2).sum(0).mean())


unweighted = SplineField.fit(points, shifts, (14, 5, 6), bounds=bounds, roughness="gcv")
print(f"rms error:   {rms_error(field):.2f} nm; without weights {rms_error(unweighted):.2f} nm")

# %%
# The picture
# -----------

_, y, x = still.axes()
extent = [edges[end] for edges in still.edges()[:0:-1] for end in (0, -1)]
arrows = (slice(6, None, 12), slice(8, None, 16))
longest = 5.0  # nm

plt.rc("axes", titlesize=11)
fig, (maps, curves) = plt.subplots(2, 3, figsize=(11.5, 7.4), layout="constrained")
fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
titles = ("true shift", "fitted field", "error of the fit")
panels = (true, fitted, fitted - true)
for ax, title, (down, along), most in zip(maps, titles, panels, (longest, longest, 0.5), strict=True):
    cmap = "OrRd" if most < 1 else "GnBu"
    image = ax.imshow(np.hypot(down, along), extent=extent, origin="lower", cmap=cmap, vmin=0, vmax=most)
    if most > 1:
        ax.quiver(
            x[arrows[1]], y[arrows[0]], along[arrows], down[arrows],
            angles="xy", scale_units="xy", scale=10, width=0.005, color="0.1",
        )  # fmt: skip
    ax.set(title=f"{title} at {time:.0f} s", xlabel="x (µm)", xticks=range(5), yticks=range(4))
    if ax is not maps[0]:
        which = maps[:2] if ax is maps[1] else maps[2]
        extend = "max" if np.hypot(down, along).max() > most else "neither"
        label = "shift (nm)" if ax is maps[1] else "error (nm)"
        wide = {"aspect": 40, "shrink": 0.6} if ax is maps[1] else {"aspect": 22, "shrink": 0.8}
        fig.colorbar(image, ax=which, label=label, location="bottom", extend=extend, **wide)
maps[0].set_ylabel("y (µm)")

limit = 6  # nm, of the curves
shown = [(1, 1), (2, 5), (5, 6)]
colours = ("tab:blue", "tab:green", "tab:purple")
t = np.linspace(0, duration, 201)
for (row, column), colour in zip(shown, colours, strict=True):
    _, py, px = points[0, row, column]
    path = np.stack([t, np.full_like(t, py), np.full_like(t, px)], axis=-1)
    with torch.no_grad():
        values = field(torch.from_numpy(path)).numpy()
    maps[1].plot(px, py, "o", color=colour, markersize=8, markeredgecolor="white")
    for channel, ax in enumerate(curves[:2]):
        data, kept = shifts[:, row, column, channel], ~wrong[:, row, column]
        where = f"patch at y {py:.2f}, x {px:.2f} µm"
        ax.plot(t, true_shift(path)[:, channel], color=colour, linewidth=6, alpha=0.25)
        ax.plot(t, values[:, channel], color=colour, linewidth=1.6, label=where)
        ax.plot(tracked.axes()[0][kept], data[kept], ".", color=colour, markersize=5)
        ax.plot(
            tracked.axes()[0][~kept], np.clip(data[~kept], 0.2 - limit, limit - 0.2), "x", color=colour, markersize=6
        )
for ax, name in zip(curves[:2], "yx", strict=True):
    ax.axvline(time, color="0.8", linewidth=1, zorder=0)
    ax.set(title=f"shift in {name}", xlabel="time (s)", xlim=(0, duration), ylim=(-limit, limit))
    ax.spines[["top", "right"]].set_visible(False)
curves[0].set(ylabel="shift (nm)")
curves[0].plot([], [], ".", color="0.4", label="tracked")
curves[0].plot([], [], "x", color="0.4", label="small weight (at the edge: beyond)")
curves[0].plot([], [], color="0.4", linewidth=6, alpha=0.3, label="true")
curves[2].legend(*curves[0].get_legend_handles_labels(), frameon=False, loc="center left")
curves[2].axis("off")

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "motion_field.png"
fig.savefig(picture, dpi=160)
print(f"picture:     {picture.resolve()}")
