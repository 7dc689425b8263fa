"""
Histograms of a brain
=====================

A volume of MRI is mostly not brain, and what is not brain is zero. So a histogram wants a mask, and to multiply by it
will not do. Then two volumes are counted against each other, and regions of that plane are looked up for every voxel:
points in a mask.
"""

# %%
import pathlib

import matplotlib.pyplot as plt
import nibabel
import numpy as np
from matplotlib.colors import ListedColormap, LogNorm

import gridfield as gf

# %%
# The volumes
# -----------
#
# Two echo-planar volumes of one head, 2 s apart, of 128 × 96 × 24 voxels, 2 × 2 × 2.2 mm. They are among the test data
# that come with nibabel. Somebody has set most of what is not head to zero.

path = pathlib.Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz"
image = nibabel.load(path)
first, second = np.moveaxis(np.asarray(image.dataobj), -1, 0)  # int16
grid = gf.Grid.from_spacing(first.shape, spacing=[float(mm) for mm in image.header.get_zooms()[:3]])
print(f"volume:      {' × '.join(map(str, first.shape))} voxels, {(first == 0).mean():.0%} of them 0")

# %%
# A mask
# ------
#
# Brain has values of about 500. Where the mean within 5 mm is above half of that, most of what is around is brain. Dark
# vessels and folds are in, and so may be a zero; the faint rim around the head is out.

mask = gf.smooth(first, radius=5, grid=grid) > 250
litres = np.count_nonzero(mask) * np.prod(grid.spacing) / 1e6
print(f"mask:        {mask.mean():.0%} of the voxels, {litres:.2f} l, {np.count_nonzero(first[mask] == 0)} of them 0")

# %%
# The histogram in it
# -------------------
#
# The mask is read along with the volume, and the numbers are those of ``np.histogram(first[mask], ...)``, without the
# copy that makes. The volume times the mask has zeros wherever there is no brain, and the histogram of that cannot tell
# them from a zero in the brain.

most = 1200
counts, edges = gf.histogram(first, 200, (0, most), where=mask)
wrong, _ = gf.histogram(first * mask, 200, (0, most))
print(f"same:        {np.array_equal(counts, np.histogram(first[mask], 200, (0, most))[0])}")
print(f"first bin:   {counts[0]} in the mask, {wrong[0]} by multiplication")

middle = (edges[:-1] + edges[1:]) / 2
means = [hist @ middle / hist.sum() for hist in (counts, wrong)]
print(f"mean:        {means[0]:.0f} in the mask, {means[1]:.0f} by multiplication")

# %%
# One histogram per slice, all with the same edges: ``axis`` says along which axes to count.

slices, slice_edges = gf.histogram(first, 100, (0, 1000), where=mask, axis=(0, 1))  # (24, 100)
centres = (slice_edges[:-1] + slice_edges[1:]) / 2
medians = [np.median(first[..., k][mask[..., k]]) for k in range(first.shape[2])]
print(f"slices:      {slices.shape[0]} histograms, medians {min(medians):.0f} to {max(medians):.0f}")

# %%
# Two volumes against each other
# ------------------------------
#
# Each voxel is a point with two coordinates, its value in the second volume and in the first. In image order these are
# (row, column), so (y, x).

n, limits = 150, ((0, most), (0, most))
joint, _ = gf.histogramdd((second.ravel(), first.ravel()), n, limits, where=mask.ravel())

# %%
# In that plane regions can be drawn. A band along the diagonal is what stayed as it was, but for noise, and the upper
# part of it is bright in both volumes. What is off the band has changed within 2 s.

plane = gf.Grid.cells((n, n), limits)  # the same bins
row, column = np.moveaxis(plane.coords(), -1, 0)  # values of the second, and of the first
difference = second[mask].astype(float) - first[mask]
noise = 1.48 * np.median(abs(difference))  # the standard deviation, were they normally distributed
changed = abs(row - column) > 6 * noise
bright = ~changed & (row + column > 2 * 640)
print(f"noise:       {noise:.1f} of differences, 6 of which are 'changed'")

# %%
# ``select`` says which points are in a region, ``lookup`` which of several regions a point is in. Both take points as
# an array per axis, of any shape: here the whole volumes.

moved = gf.select((second, first), changed, plane) & mask
labels = gf.lookup((second, first), np.where(changed, 2, np.where(bright, 1, 0)), plane) * mask
print(f"changed:     {np.count_nonzero(moved)} of {np.count_nonzero(mask)} voxels; by lookup {(labels == 2).sum()}")
print(f"bright:      {(labels == 1).sum()} voxels")

# %%
# The slow way: a loop over voxels that looks for the bin of each, the row by the second volume, the column by the
# first. A value on an edge belongs to the bin above, the largest edge to the last bin.

bins = np.linspace(0, most, n + 1)
slow = 0
for values in zip(second[mask].tolist(), first[mask].tolist(), strict=True):
    i, j = (min(int(np.searchsorted(bins, v, "right")) - 1, n - 1) for v in values)
    slow += changed[i, j]
print(f"slow way:    {slow} changed")

# %%
# Thousands of regions over the same points: the bin of each voxel is found once, and what remains is a look into the
# mask. Here, how many voxels differ by more than 0, 1, 2, ... 12 times the noise.

index = gf.bin_index((second[mask], first[mask]), plane)
levels = np.arange(13)
beyond = [np.count_nonzero(gf.select(index, abs(row - column) > k * noise, plane)) for k in levels]
print(f"beyond:      {beyond[3]} voxels differ by more than 3 times the noise, {beyond[12]} by more than 12 times")

# %%
# The picture
# -----------
#
# Slices are seen from below: the left of the head is on the right. What changed (red) lies near the middle, in and
# around the ventricles, where fluid pulses. What is bright (blue) is fluid in the ventricles, but more so the rim at
# the front and on the left, and more of it further up: this receiver is not as sensitive everywhere, as the histograms
# of the slices show, so tissue cannot be told from one value.

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
plt.rc("font", size=11)
plt.rc("axes", titlesize=11)
blue, red = "#3b9dff", "#ff3b30"

fig = plt.figure(figsize=(14, 8.2), layout="constrained")
fig.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
upper, lower = fig.subfigures(2, 1, height_ratios=[4.3, 3.9])
axes = upper.subplots(1, 3)
axes[0].stairs(wrong, edges, color="tab:orange", linewidth=1.5, label="volume × mask")
axes[0].stairs(counts, edges, color="tab:blue", fill=True, alpha=0.6, label="where=mask")
axes[0].set(yscale="log", xlim=(-20, most), xlabel="value in the first volume", ylabel="voxels per bin")
axes[0].set(title="in the mask, and by multiplication", ylim=(0.7, 1e6))
axes[0].legend(frameon=False)
axes[0].spines[["top", "right"]].set_visible(False)

share = slices / slices.sum(axis=1, keepdims=True) / np.diff(slice_edges)
bins_of = {"origin": "lower", "interpolation": "nearest", "aspect": "auto"}
shown = axes[1].imshow(100 * share, extent=(*slice_edges[[0, -1]], *grid.edges()[2][[0, -1]]), **bins_of)
axes[1].plot(medians, grid.axes()[2], color="white", linewidth=1, label="median")
axes[1].set(title="each slice", xlabel="value in the first volume", ylabel="height (mm)", xlim=(0, 900))
axes[1].legend(loc="upper left", labelcolor="white", frameon=False)
upper.colorbar(shown, ax=axes[1], label="share of voxels per unit (%)")

shown = axes[2].imshow(joint, extent=(0, most, 0, most), norm=LogNorm(1, 1000), **bins_of)
for region, colour, name in ((changed, red, "changed"), (bright, blue, "bright")):
    axes[2].contour(column, row, region, [0.5], colors=colour, linewidths=1.2)
    axes[2].plot([], [], color=colour, label=name)
axes[2].set(title="second volume against the first", xlabel="value in the first volume", xlim=(0, 1000), ylim=(0, 1000))
axes[2].set_ylabel("value in the second volume")
axes[2].legend(loc="upper left", frameon=False)
upper.colorbar(shown, ax=axes[2], label="voxels per bin").ax.yaxis.set_major_formatter("{x:g}")

over = ListedColormap([(0, 0, 0, 0), blue, red])
x, y, z = grid.axes()
voxels = {"origin": "lower", "extent": (*grid.edges()[0][[0, -1]], *grid.edges()[1][[0, -1]])}
axes = lower.subplots(1, 4, sharex=True, sharey=True)
for ax, k in zip(axes, (3, 7, 12, 18), strict=True):
    ax.imshow(first[..., k].T, cmap="gray", vmin=0, vmax=900, **voxels)
    ax.imshow(labels[..., k].T, cmap=over, vmin=0, vmax=2, alpha=0.75, interpolation="nearest", **voxels)
    ax.contour(x, y, mask[..., k].T, [0.5], colors="white", linewidths=0.8)
    ax.set(title=f"height {z[k]:.0f} mm", xlabel="to the left (mm)", xlim=(46, 206), ylim=(-1, 185))
axes[0].set_ylabel("to the front (mm)")

picture = folder / "tissue_histogram.png"
fig.savefig(picture, dpi=120)
print(f"picture:     {picture.resolve()}")
