"""
Which places follow El Niño, and how much later
===============================================

A series of measurements, the temperature of the sea off Peru month by month since 1950, is correlated with the series
in every cell of a field: both without their linear trends, both smoothed over five months, at lags from 0 to 12 months.
One call of ``gf.corr`` is a map; a loop over cells takes hundreds of times longer.

The series is real (Niño 1+2, from NOAA, as it comes with statsmodels). **The field is made**: noise with a memory, a
warming trend, seasons, and in some regions the real series, weakened and delayed by a number of months that we know,
so that what is found can be checked.
"""

# %%
import pathlib
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.signal
from statsmodels.datasets import elnino

import gridfield as gf

table = elnino.load_pandas().data
sea = table.iloc[:, 1:].to_numpy()  # years, months
nino = (sea - sea.mean(0)).reshape(-1)  # less the mean of its calendar month
n, months = len(nino), 1950 + np.arange(sea.size) / 12
print(f"series:    {n} months from {table.YEAR.iloc[0]:.0f} to {table.YEAR.iloc[-1]:.0f}")

# %%
# The field
# ---------
#
# Regions follow the series with their own strengths and delays: a tongue along the equator at once, the ocean north and
# south of it with the opposite sign, and two other oceans later. Everything else is weather.

rng = np.random.default_rng(0)
grid = gf.Grid.cells((40, 120), [(-60, 60), (0, 360)], periodic=(False, True))  # degrees north, east
lat, lon = np.moveaxis(grid.coords(), -1, 0)


def blob(north, east, height, width):
    """1 in the middle of a region, 0 far away."""
    return np.exp(-(((lat - north) / height) ** 2) - (((lon - east + 180) % 360 - 180) / width) ** 2)


regions = {  # strength, delay in months
    "tongue": (0.9 * blob(0, 245, 7, 45), 0),
    "north of it": (-0.5 * blob(22, 190, 9, 30), 3),
    "south of it": (-0.5 * blob(-24, 195, 9, 30), 3),
    "west of India": (0.55 * blob(2, 70, 14, 24), 5),
    "Atlantic": (0.6 * blob(14, 318, 9, 26), 8),
}
weather = rng.normal(size=(n + 60, *grid.shape)).astype(np.float32)
weather = gf.smooth(weather, "gaussian", sigma=5.0, grid=grid, boundary="nearest")
weather = scipy.signal.lfilter([1], [1, -0.85], weather / weather.std(), axis=0)[60:]  # each month from the one before
t = np.arange(n)[:, None, None]
sst = 0.45 * weather + 0.0022 * t * (1 + 0.3 * np.cos(np.radians(3 * lat)))
sst += (0.06 * lat * np.cos(2 * np.pi * (t % 12) / 12)).astype(np.float32)  # seasons
for strength, delay in regions.values():
    sst += strength * np.concatenate([np.zeros(delay), nino[: n - delay]])[:, None, None]
sst = sst.astype(np.float32)
sst -= sst.reshape(n // 12, 12, *grid.shape).mean(0)[np.arange(n) % 12]  # the seasons, again by calendar month
sst[rng.random(sst.shape) < 0.003] = np.nan  # and some months are missing
print(f"field:     {sst.shape}, {sst.nbytes / 1e6:.0f} MB, made, {np.isnan(sst).mean():.1%} of it missing")

# %%
# A map for each lag
# ------------------
#
# Months that are missing are left out, with the windows that hold more than one of them.

lags = range(13)
how = {"detrend": "linear", "window": 5, "min_periods": 4, "nan_policy": "omit"}
gf.corr(nino, sst, 0, lag=lags, **how)  # compiles
began = time.perf_counter()
maps = gf.corr(nino, sst, 0, lag=lags, **how)
took = time.perf_counter() - began
print(f"maps:      {maps.shape} in {took:.2f} s")


# %%
# The same with a loop, for one lag and some of the cells. (The field is float32, and so are the maps.)


def by_hand(x, y, lag):
    """Trend, rolling mean and correlation of two series."""

    def prepared(s):
        known = ~np.isnan(s)
        s = s - np.polyval(np.polyfit(np.flatnonzero(known), s[known], 1), np.arange(n))
        return pd.Series(s).rolling(5, center=True, min_periods=4).mean().to_numpy()

    a, b = prepared(x)[: n - lag], prepared(y)[lag:]
    both = ~np.isnan(a) & ~np.isnan(b)
    return np.corrcoef(a[both], b[both])[0, 1]


cells = [tuple(c) for c in np.stack([rng.integers(0, 40, 20), rng.integers(0, 120, 20)], -1)]
began = time.perf_counter()
slow = np.array([by_hand(nino, sst[:, i, j].astype(float), 5) for i, j in cells])
each = (time.perf_counter() - began) / len(cells)
worst = np.abs(slow - [maps[5, i, j] for i, j in cells]).max()
print(f"by hand:   differs by {worst:.1e}; all cells and lags would take {each * maps.size:.0f} s")

# %%
# What is chance
# --------------
#
# Smoothed weather has a memory, and correlates with anything that has one. How much is seen from the same series put at
# other times: 99 in 100 of those strongest correlations over 13 lags are below a limit.

chance = [np.abs(gf.corr(np.roll(nino, s), sst, 0, lag=range(0, 13, 3), **how)).max(0) for s in range(90, n - 90, 60)]
limit = np.quantile(chance, 0.99)
at = np.abs(maps).argmax(0)
strongest = np.take_along_axis(maps, at[None], 0)[0]
found = np.abs(strongest) > limit
print(f"chance:    99 in 100 are below {limit:.2f}; {found.mean():.0%} of the cells are above")

# %%
# Where a region is strong, its delay is what was put in.

for name, (strength, delay) in regions.items():
    core = np.abs(strength) > 0.6 * np.abs(strength).max()
    print(f"{name + ':':14s} delay {np.median(at[core]):.0f} months (made with {delay})")
errors = np.concatenate([np.abs(at[np.abs(s) > 0.6 * np.abs(s).max()] - d) for s, d in regions.values()])
print(f"delays:    wrong by {errors.mean():.2f} months on average")

# %%
# Without taking the trends away, the field's warming takes part.

plain = gf.corr(nino, sst, 0, nan_policy="omit")
print(f"plain:     correlation of the tongue {plain[20, 81]:.2f}, detrended and smoothed {maps[0, 20, 81]:.2f}")

# %%
# The picture
# -----------

plt.rc("font", size=10)
fig = plt.figure(figsize=(13, 8.6), layout="constrained")
top, bottom = fig.subfigures(2, 1, height_ratios=[1, 2.6])
ax = top.subplots()
smooth = gf.rolling_mean(gf.detrend(nino), 5)
ax.fill_between(months, smooth, where=smooth > 0, color="tab:red", alpha=0.85, lw=0)
ax.fill_between(months, smooth, where=smooth < 0, color="tab:blue", alpha=0.85, lw=0)
ax.plot(months, nino, color="0.25", lw=0.5)
ax.set(xlim=(months[0], months[-1]), ylabel="°C")
ax.set_title(
    "sea temperature off Peru (real): less the mean of each calendar month; filled: no trend, five months' mean"
)
ax.spines[["top", "right"]].set_visible(False)

edges = [np.asarray(e) for e in grid.edges()]
shaded = {"cmap": "RdBu_r", "vmin": -0.8, "vmax": 0.8}
stages = plt.get_cmap("viridis", 13)
panels = (
    (plain, shaded, "as they are, the same month"),
    (maps[0], shaded, "without trends, over five months: the same month"),
    (np.where(found, strongest, np.nan), shaded, f"strongest of 13 lags, where beyond chance (|r| > {limit:.2f})"),
    (np.where(found, at, np.nan), {"cmap": stages, "vmin": -0.5, "vmax": 12.5}, "its lag: months after the series"),
)
axes = bottom.subplots(2, 2, sharex=True, sharey=True)
for ax, (values, colours, title) in zip(axes.flat, panels, strict=True):
    image = ax.pcolormesh(edges[1], edges[0], values, **colours)
    ax.set(title=title, aspect=1.35, facecolor="0.93", xticks=range(0, 361, 60), yticks=range(-60, 61, 30))
    ax.xaxis.set_major_formatter(lambda d, _: f"{d:g}° E" if d <= 180 else f"{360 - d:g}° W")
    ax.yaxis.set_major_formatter(lambda d, _: "0°" if d == 0 else f"{abs(d):g}° {'N' if d > 0 else 'S'}")
    if ax is axes[1, 1]:
        for strength, delay in regions.values():
            ax.contour(lon, lat, np.abs(strength), [0.6 * np.abs(strength).max()], colors="black", linewidths=1.3)
            k = np.unravel_index(np.abs(strength).argmax(), grid.shape)
            ax.text(lon[k], lat[k], f"{delay}", ha="center", va="center", color="white", weight="bold", fontsize=12)
        bar = bottom.colorbar(
            image, ax=ax, label="months (numbers: as made)", pad=0.01, aspect=22, ticks=range(0, 13, 3)
        )
    else:
        bottom.colorbar(image, ax=ax, label="correlation", pad=0.01, aspect=22)
bottom.suptitle("correlation of that series with a made field", fontsize=12, weight="bold")

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "correlation_map.png"
fig.savefig(picture, dpi=120)
print(f"picture:   {picture.resolve()}")
