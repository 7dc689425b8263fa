"""
A subducting plate through a thousand earthquakes
=================================================

East of Fiji the Pacific plate sinks into the mantle, and earthquakes happen along it to a depth of 680 km. A smooth
surface is fitted to their depths by least squares, solved rather than trained. Generalised cross-validation chooses how
smooth, and is held against earthquakes that the fit has not seen.
"""

# %%
import pathlib
import tarfile
from importlib import metadata

import matplotlib.pyplot as plt
import numpy as np
from scipy.spatial import KDTree

import gridfield as gf

# %%
# The earthquakes
# ---------------
#
# ``quakes``, a classic of R, lists 1000 earthquakes near Fiji since 1964, with body-wave magnitudes from 4. It comes
# with the package pydataset, ``pydataset.data("quakes")``; as that unpacks all of its data sets into the home
# folder, we read the one file from its archive.

archive = metadata.distribution("pydataset").locate_file("pydataset/resources.tar.gz")
with tarfile.open(archive) as files:
    table = files.extractfile("resources/rdata/csv/datasets/quakes.csv")
    quakes = np.genfromtxt(table, delimiter=",", names=True, encoding="utf-8")

# %%
# Two plates go down here. A surface has one depth at each place, so we keep to one of them, the Pacific plate, which
# descends from the Tonga and Kermadec trenches towards the west. The other descends from the Vanuatu trench, west of
# 175° E.

centre = np.array([182, -27])  # degrees east and north
km_per_degree = 111.2 * np.array([np.cos(np.deg2rad(centre[1])), 1])

pacific = quakes["long"] > 175
degrees = np.stack([quakes["long"], quakes["lat"]], axis=-1)[pacific]
places = (degrees - centre) * km_per_degree  # (n, 2): km east and north of the centre
depths = quakes["depth"][pacific]  # km
print(f"earthquakes:           {len(depths)} of {len(quakes)} on the side of Tonga")

# %%
# The fit
# -------
#
# Control points are 100 km apart, and the second derivatives of the surface are penalised (a thin plate), which also
# defines it where there are no earthquakes. Some earthquakes are off any smooth surface: in the plate above, or where
# the sinking one is folded or hangs too steeply to have one depth. To have less of a say, they get smaller weights
# (those of Cauchy's distribution, from the residuals of the fit before), and the fit is repeated.

grid = gf.Grid((15, 29), bounds=[(-700, 700), (-1400, 1400)])  # km east and north
rounds = 3


def depth_of(coefficients, places):
    """Of the surface (km), at places (*, 2)."""
    return gf.sample(coefficients, places, grid=grid, boundary="natural", prefilter=False)


def fit(places, depths, roughness):
    """Coefficients of the surface, how the last fit went, and the weights of the earthquakes in it."""
    weights = np.ones(len(depths))
    for _ in range(rounds):
        coefficients, info = gf.fit_field(places, depths, grid, weights=weights, roughness=roughness, full_output=True)
        residual = depths - depth_of(coefficients, places)
        scatter = 1.48 * np.median(abs(residual))  # the standard deviation, were they normally distributed
        used, weights = weights, 1 / (1 + (residual / (2 * scatter)) ** 2)
    return coefficients, info, used


coefficients, info, weights = fit(places, depths, "gcv")
print(f"roughness by GCV:      {info.roughness:.0f} km²")
print(f"degrees of freedom:    {info.effective_dof:.0f} of {grid.size} coefficients")

# %%
# The derivatives of the surface say how steeply the plate descends.

orders = [(1, 0), (0, 1)]
slopes = gf.sample(coefficients, places, grid=grid, boundary="natural", prefilter=False, derivative=orders)
dips = np.rad2deg(np.arctan(np.hypot(*slopes)))
deep = depths > 100
print(f"dip below 100 km:      {np.median(dips[deep]):.0f}° (median)")

# %%
# Was that a good choice?
# -----------------------
#
# The earthquakes are dealt into five parts, and each part is predicted from the other four, with roughnesses given by
# hand and by GCV, which sees the four parts only. The median is what to compare: earthquakes off the surface cannot be
# predicted by it.

parts = np.random.default_rng(0).permutation(len(depths)) % 5


def held_out(roughness):
    """Median absolute error (km) of predicted depths."""
    error = np.empty(len(depths))
    for part in range(5):
        seen = parts != part
        found, *_ = fit(places[seen], depths[seen], roughness)
        error[~seen] = abs(depths - depth_of(found, places))[~seen]
    return np.median(error)


by_hand = 10.0 ** np.arange(7)  # km²
errors = [held_out(roughness) for roughness in by_hand]
gcv_error = held_out("gcv")
for roughness, error in zip(by_hand, errors, strict=True):
    print(f"held out, {roughness:8.0f} km²: {error:.1f} km")
print(f"held out, by GCV:      {gcv_error:.1f} km, {gcv_error / min(errors):.2f} of the best by hand")

# %%
# Where it is only a guess
# ------------------------
#
# A smooth surface goes on where nothing has been measured. Where fewer than three of the earthquakes that counted are
# within 80 km, we call it extrapolated, and mark it.

off = weights < 0.2
neighbours, reach = 3, 80  # km
known = KDTree(places[~off])


def extrapolated(places):
    """Whether there are too few earthquakes near."""
    return known.query(places, k=neighbours)[0][..., -1] > reach


# %%
# The picture
# -----------

dense = gf.Grid.from_spacing([10 * (n - 1) + 1 for n in grid.shape], origin=grid.origin, spacing=10)
surface = depth_of(coefficients, dense.coords())
guess = extrapolated(dense.coords())
longitude, latitude = (axis / scale + c for axis, scale, c in zip(dense.axes(), km_per_degree, centre, strict=True))
colours = {"cmap": "viridis_r", "vmin": 0, "vmax": 700}

plt.rc("axes", titlesize=11)
fig, axes = plt.subplot_mosaic(
    [["map", "section"], ["map", "south"], ["map", "errors"]],
    figsize=(11, 8.2),
    layout="constrained",
    width_ratios=[1.02, 1],
    height_ratios=[1, 1, 0.9],
)
fig.get_layout_engine().set(w_pad=0.08, h_pad=0.06)

ax = axes["map"]
ax.set_facecolor("0.93")
shown = np.ma.masked_where(guess, surface).T
image = ax.pcolormesh(longitude, latitude, shown, shading="nearest", rasterized=True, **colours)
lines = ax.contour(longitude, latitude, shown, levels=range(100, 700, 100), colors="white", linewidths=1)
ax.clabel(lines, fmt="%d", fontsize=8)
ax.scatter(*degrees[~off].T, c=depths[~off], s=9, edgecolors="0.15", linewidths=0.3, **colours)
ax.plot(*degrees[off].T, "x", color="tab:red", markersize=4.5, markeredgewidth=1, label="off the surface: small weight")
ax.set(xlim=(175, 189), ylim=(-39.5, -13.5), aspect=km_per_degree[1] / km_per_degree[0])
ax.set_xticks([176, 180, 184, 188], ["176° E", "180°", "176° W", "172° W"])
ax.set_yticks([-35, -30, -25, -20, -15], ["35° S", "30° S", "25° S", "20° S", "15° S"])
ax.set_title(f"depth of the plate, from {len(depths)} earthquakes")
ax.text(188.6, -33.5, f"grey: fewer than\n{neighbours} within {reach} km", ha="right", color="0.35", fontsize=9)
ax.legend(loc="lower right", fontsize=9, framealpha=0.9)
fig.colorbar(image, ax=ax, label="depth (km)", aspect=35, pad=0.02).ax.invert_yaxis()

for name, south in (("section", 19), ("south", 27)):
    ax = axes[name]
    north = (-south - centre[1]) * km_per_degree[1]
    east = np.linspace(-550, 600, 400)
    line = np.stack([east, np.full_like(east, north)], axis=-1)
    profile, unknown = depth_of(coefficients, line), extrapolated(line)
    ax.plot(east, np.where(unknown, np.nan, profile), color="tab:blue", linewidth=2.2, label="fit")
    ax.plot(east, np.where(unknown, profile, np.nan), ":", color="tab:blue", linewidth=1.5, label="extrapolated")
    near = abs(places[:, 1] - north) < 75
    ax.scatter(places[near & ~off, 0], depths[near & ~off], s=9, color="0.25", label="within 75 km")
    ax.plot(places[near & off, 0], depths[near & off], "x", color="tab:red", markersize=4.5)
    ax.set(xlim=(-550, 600), ylim=(700, 0), aspect="equal", ylabel="depth (km)", yticks=range(0, 701, 200))
    ax.set_title(f"section at {south}° S, to scale")
axes["section"].legend(frameon=False, fontsize=9, loc="upper left")
axes["south"].set_xlabel("east of 178° W (km)")

ax = axes["errors"]
ax.semilogx(by_hand, errors, "o-", color="0.35", markersize=5, label="roughness by hand")
ax.plot(info.roughness, gcv_error, "D", color="tab:red", markersize=8, label="roughness by GCV")
ax.set(xlabel="roughness (km²)", ylabel="held-out error (km)", ylim=(0, None))
ax.set_title("median error of earthquakes not seen")
ax.legend(frameon=False, fontsize=9)
ax.spines[["top", "right"]].set_visible(False)

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "fit_scattered.png"
fig.savefig(picture, dpi=160)
print(f"picture:               {picture.resolve()}")
