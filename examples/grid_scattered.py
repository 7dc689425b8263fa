"""
Earthquakes on a grid
=====================

Where do earthquakes happen below Fiji, and how strong are they there? A thousand points in three dimensions, each with
a value, become fields on a regular grid: the mean in a ball around each cell, and the number of points in it. Beside
them is what a loop over cells loses.
"""

# %%
import pathlib
import tarfile
from importlib import metadata

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm

import gridfield as gf

# %%
# The earthquakes
# ---------------
#
# ``quakes``, a classic of R, lists 1000 earthquakes near Fiji since 1964: latitude, longitude, depth in whole
# kilometres, and magnitude, from 4.0. It comes with the package pydataset, ``pydataset.data("quakes")``; as that
# unpacks all of its data sets into the home folder, we read the one file from its archive.

archive = metadata.distribution("pydataset").locate_file("pydataset/resources.tar.gz")
with tarfile.open(archive) as files:
    table = files.extractfile("resources/rdata/csv/datasets/quakes.csv")
    quakes = np.genfromtxt(table, delimiter=",", names=True, encoding="utf-8")

# %%
# A ball should be one in the Earth, so positions are in kilometres: east of 180° along the parallel, north of the
# equator, and down. Distances are true to a tenth: that much the map is sheared at its ends, and that much closer
# together are verticals at a depth of 680 km.

km = 111.2  # per degree
east = (quakes["long"] - 180) * np.cos(np.deg2rad(quakes["lat"])) * km
north = quakes["lat"] * km
places = np.stack([east, north, quakes["depth"]], axis=-1)  # (1000, 3)
magnitude = quakes["mag"]

# %%
# Gridded and smoothed
# --------------------
#
# One call makes a grid that holds all points, and takes the mean of the earthquakes within 100 km of each cell. Every
# earthquake counts the same, however many share a cell. A cell without one in reach is NaN: nothing is known there.

spacing, radius = 20, 100  # km
mean, grid = gf.grid_and_smooth(places, magnitude, spacing=spacing, radius=radius)
print(f"grid:      {' × '.join(map(str, grid.shape))} cells of {spacing} km")
print(f"reached:   {np.isfinite(mean).mean():.0%} of the cells have an earthquake within {radius} km")

# %%
# How many there are in the ball is the number in each cell, added up with the same weights: not normalised, they are 1
# within the radius, and less for cells that it cuts.

count = gf.binned_statistic(places, None, grid, "count")
number = gf.smooth(count, radius=radius, grid=grid, normalize=False)
print(f"counted:   {count.sum():.0f} of {len(places)} earthquakes, at most {number.max():.0f} within {radius} km")

# %%
# The slow way, for some cells: the distances to all earthquakes. The grid has moved each to the middle of its cell, so
# near the rim of the ball one may be in on one side and out on the other. In balls of 20 earthquakes or more that is
# less than the tenth to which magnitudes are given.

known = number >= 20
centres = grid.coords()[known][::10]
within = np.linalg.norm(centres[:, None] - places, axis=-1) < radius
slow = (within * magnitude).sum(axis=-1) / within.sum(axis=-1)
print(f"slow way:  differs by {np.median(abs(slow - mean[known][::10])):.3f} (median of {len(slow)} cells)")

# %%
# Is there anything in it?
# ------------------------
#
# Means of few values differ by chance. Dealt out anew, the same magnitudes belong to no place, and what is in their
# means is chance alone. Eight such deals are eight columns of values, gridded in one call.

rng = np.random.default_rng(0)
dealt = np.stack([rng.permutation(magnitude) for _ in range(8)], axis=-1)  # (1000, 8)
chance, _ = gf.grid_and_smooth(places, dealt, radius=radius, grid=grid)  # (8, *grid.shape)
by_chance = chance[:, known].std(axis=-1)
print(f"spread:    {mean[known].std():.3f}, of magnitudes dealt anew {by_chance.min():.3f} to {by_chance.max():.3f}")

depth = grid.coords()[..., 2]
shallow, deep = mean[known & (depth < 150)].mean(), mean[known & (depth > 500)].mean()
print(f"by depth:  {shallow:.2f} above 150 km, {deep:.2f} below 500 km")

# %%
# So the mean is not the same everywhere: of those listed, the shallow ones are stronger. That may be the Earth or the
# list, from which weak earthquakes are missing where they are hard to record.

# %%
# What a loop over cells loses
# ----------------------------
#
# Written by hand, gridding is three nested loops over the edges of cells, and the value of a cell is that of the point
# with ``lower < x < upper``. A point on an edge is in no cell then, as is the one that the grid begins at; and of
# several points in one cell, the last overwrites the others.

steps = (places - places.min(axis=0)) / spacing
on_edge = (steps == np.floor(steps)).any(axis=-1)
last = {tuple(cell): i for i, cell in enumerate(np.floor(steps)) if not on_edge[i]}
overwritten = ~on_edge
overwritten[list(last.values())] = False
print(f"loops:     {on_edge.sum()} earthquakes are on an edge and lost, {overwritten.sum()} are overwritten")

# %%
# Depths are whole kilometres, so one in twenty is a multiple of 20 km from the first. The grid above has the smallest
# coordinates in the middle of a cell and ends beyond the largest. A cell holds its lower edge but not its upper one, as
# in ``numpy.histogramdd``.

# %%
# Empty cells
# -----------
#
# What needs a number everywhere, an interpolation or an FFT, may have the empty cells filled; cells that were known
# keep what they have. The filled ones are guesses, here the value of the nearest known one.

filled = gf.fill_empty(mean, "nearest", grid=grid)
print(f"filled:    {np.isnan(mean).mean():.0%} of the cells, from the nearest known one")

# %%
# The picture
# -----------
#
# Slices at four depths: two plates go down, towards each other. Means of fewer than five earthquakes are not shown;
# dots are the earthquakes within 30 km of the slice. Below, a vertical section to scale, and what the loops do.

x, y, z = grid.axes()
a, b = x[[0, -1]] + np.array([-0.5, 0.5]) * spacing, y[[0, -1]] + np.array([-0.5, 0.5]) * spacing
c = z[[0, -1]] + np.array([-0.5, 0.5]) * spacing
enough = np.where(number >= 5, mean, np.nan)
strength = {"cmap": "viridis", "vmin": 4.3, "vmax": 4.9, "interpolation": "nearest"}
amount = {"cmap": "magma_r", "norm": LogNorm(1, 100), "interpolation": "nearest"}
plt.rc("font", size=11)
plt.rc("axes", titlesize=11)
plt.rc("axes", facecolor="0.93")

fig = plt.figure(figsize=(14, 11), layout="constrained")
fig.get_layout_engine().set(w_pad=0.05, h_pad=0.08)
maps, sections = fig.subfigures(2, 1, height_ratios=[8.7, 2.3])
axes = maps.subplots(2, 4, sharex=True, sharey=True)
rows = ((number, amount, f"earthquakes within {radius} km"), (enough, strength, f"mean magnitude within {radius} km"))
for row, (field, how, label) in zip(axes, rows, strict=True):
    for ax, d in zip(row, (60, 200, 400, 580), strict=True):
        k = abs(z - d).argmin()
        image = ax.imshow(field[:, :, k].T, origin="lower", extent=(*a, *b), **how)
        if field is enough:
            near = abs(places[:, 2] - z[k]) < 30
            ax.plot(*places[near, :2].T, ".", color="black", markersize=1.5)
        ax.set(title=f"depth {z[k]:.0f} km", xlim=a, ylim=b, xticks=[-1500, -1000, -500, 0, 500])
        ax.set_yticks([-k * 5 * km for k in range(3, 8)], [f"{k * 5}° S" for k in range(3, 8)])
    bar = maps.colorbar(image, ax=row, label=label, extend="both", pad=0.01, aspect=30)
    bar.ax.yaxis.set_major_formatter("{x:g}")
for ax in axes[1]:
    ax.set_xlabel("east of 180° (km)")

south = 20
row = abs(y + south * km).argmin()
axes = sections.subplots(1, 3, sharex=True, sharey=True)
for ax, field, title in zip(axes, (mean, filled), (f"{south}° S, as it is", f"{south}° S, filled"), strict=False):
    image = ax.imshow(field[:, row].T, extent=(*a, *c[::-1]), **strength)
    ax.set_title(title)
for where, colour, label in (
    (~on_edge & ~overwritten, "0.55", "kept"),
    (overwritten, "tab:blue", "overwritten"),
    (on_edge, "tab:red", "on an edge: lost"),
):
    axes[2].plot(*places[where][:, [0, 2]].T, ".", color=colour, markersize=4, label=label)
axes[2].set(title="all earthquakes, from the south: in loops", aspect="equal", facecolor="white")
axes[2].legend(loc="lower left", fontsize=9, bbox_to_anchor=(0.02, 0), handletextpad=0, frameon=False, markerscale=2)
axes[0].set(ylabel="depth (km)", yticks=[0, 200, 400, 600], xlim=a, ylim=(c[1], 0))
for ax in axes:
    ax.set_xlabel("east of 180° (km)")
sections.colorbar(image, ax=axes, label="magnitude", extend="both", pad=0.01, aspect=8, shrink=0.6)

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "grid_scattered.png"
fig.savefig(picture, dpi=120)
print(f"picture:   {picture.resolve()}")
