"""
Defocus, learned from power spectra
===================================

In cryo-electron microscopy each particle has its own defocus: the specimen is tilted, curved, and moves along the beam
while it is exposed. Nobody measures that field, but power spectra at known places have rings that depend on it. A
spline field over time and place goes into the model of these spectra, and is learned through it. The data are made, so
that the result can be judged.
"""

# %%
import math
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import torch

import gridfield as gf
from gridfield.torch import SplineField, carry_state

torch.set_num_threads(1)  # at this size PyTorch's threads wait for each other more than they work

# %%
# From defocus to rings
# ---------------------
#
# A power spectrum at spatial frequency :math:`k`, without its background, is
#
# .. math::
#    P(k) = e^{-B k^2 / 2} \sin^2(\chi + \arcsin A), \qquad
#    \chi = \pi \lambda z k^2 - \tfrac{\pi}{2} C_s \lambda^3 k^4
#
# with the wavelength :math:`\lambda` of the electrons, the defocus :math:`z` (underfocus is positive), spherical
# aberration :math:`C_s`, amplitude contrast :math:`A`, and a factor :math:`B` by which rings fade. (R. H. Wade, "A
# brief look at imaging and contrast transfer", Ultramicroscopy 46 (1992), 145-156; A. Rohou, N. Grigorieff, "CTFFIND4:
# fast and accurate defocus estimation from electron micrographs", J. Struct. Biol. 192 (2015), 216-221.)

wavelength = 1.96875e-3  # nm, at 300 kV
aberration = 2.7e6  # nm
contrast = 0.07
fading = 1.5  # nm²
k = torch.linspace(0.25, 2, 160)  # 1/nm: from 4 nm to 0.5 nm


def spectra(defocus, k):
    """(*, len(k)): the model of the spectra, for defoci (*) in nm."""
    chi = math.pi * wavelength * k**2 * (defocus[..., None] - aberration * wavelength**2 * k**2 / 2)
    return torch.exp(-fading / 2 * k**2) * torch.sin(chi + math.asin(contrast)) ** 2


# %%
# A specimen
# ----------
#
# Positions are (t, y, x): seconds of exposure, and micrometres in the image. The made specimen is tilted by 8°, bulges,
# and settles along the beam while it is exposed. Ten groups of frames are recorded, and a spectrum of each is taken in
# 6 × 8 tiles of the image. The noise is almost a third of the strongest ring.

duration, height, width = 2.0, 0.6, 0.8  # s, µm, µm
bounds = [(0, duration), (0, height), (0, width)]
tiles = gf.Grid.cells((10, 6, 8), bounds)


def true_defocus(points):
    """In nm, at points (*, 3)."""
    t, y, x = points.unbind(-1)
    tilt = math.tan(math.radians(8)) * 1000 * (0.9 * x + 0.44 * y)
    bulge = 35 * torch.exp(-((y - 0.35) ** 2 + (x - 0.35) ** 2) / 0.05)
    return 1400 + tilt + bulge + 30 * torch.exp(-t / 0.6) * (0.5 + x)


generator = torch.Generator().manual_seed(0)
points = torch.from_numpy(tiles.coords()).float()  # (10, 6, 8, 3)
clean = spectra(true_defocus(points), k)
measured = clean + 0.3 * torch.randn(clean.shape, generator=generator)

# %%
# Learn the field
# ---------------
#
# The rings at high frequencies are the most sensitive, and the first to be mistaken for their neighbours. So we begin
# with one defocus for everything, found by trying, and learn in two steps: a coarse lattice from low frequencies, then
# ``refine`` for all of them, with Adam's memory carried on.

low = k < 1.2
trials = torch.arange(500.0, 3000.0, 10.0)  # nm
misfit = (spectra(trials, k[low]) - measured[..., low].mean((0, 1, 2))).square().mean(-1)
start = trials[misfit.argmin()]

field = SplineField((3, 3, 3), bounds=bounds)
torch.nn.init.constant_(field.coefficients, start)
optimiser = torch.optim.Adam(field.parameters(), lr=2)  # nm per step, at most

# %%
# The loss is the mean squared difference of spectra, and a little of ``roughness(2)``, the exact integral of the
# squared second derivatives of the field, so that noise bends it less.

smoothness = 1e-10  # per nm² of that integral
losses = []


def learn(field, used, steps):
    """So many steps of Adam, on the frequencies used."""
    for _ in range(steps):
        modelled = spectra(field(points)[..., 0], k[used])
        loss = (modelled - measured[..., used]).square().mean() + smoothness * field.roughness(2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())


learn(field, low, 100)
coarse, field = field, field.refine((1, 2, 2))  # 3 × 5 × 5
carry_state(optimiser, coarse, field)
learn(field, k > 0, 150)

# %%
# Read it, particle by particle
# -----------------------------
#
# Particles are where they are. Each has a defocus of its own, in every group of frames.

places = torch.rand(300, 2, generator=generator) * torch.tensor([height, width])
times = torch.from_numpy(tiles.axes()[0]).float()
particles = torch.cat([times[:, None, None].expand(-1, 300, 1), places.expand(10, -1, -1)], dim=-1)  # (10, 300, 3)
true = true_defocus(particles)
with torch.no_grad():
    read, read_coarse = field(particles)[..., 0], coarse(particles)[..., 0]


def rms(error):
    """Root mean square."""
    return error.square().mean().sqrt().item()


# %%
# For comparison, the best defocus for each spectrum by itself, within 150 nm of the start.

trials = torch.arange(start - 150, start + 150, 2)
misfit = torch.stack([(spectra(trial, k) - measured).square().mean(-1) for trial in trials])
alone = trials[misfit.argmin(0)]

print(f"defocus:                   {true.min():.0f} to {true.max():.0f} nm at {len(places)} particles")
print(f"one for everything:        rms error {rms(start - true):.1f} nm")
print(f"each spectrum by itself:   rms error {rms(alone - true_defocus(points)):.1f} nm at the tiles")
print(f"field, coarse:             rms error {rms(read_coarse - true):.1f} nm")
print(f"field, refined:            rms error {rms(read - true):.1f} nm")

# %%
# The picture
# -----------

still = gf.Grid((1, 61, 81), [(times[4].item(), duration), *bounds[1:]])  # a still: one sample in time
learned = field.on_grid(still)[0, 0].detach()
truth = true_defocus(torch.from_numpy(still.coords()).float())[0]
extent = [edges[end] for edges in still.edges()[:0:-1] for end in (0, -1)]
levels = range(1420, 1600, 20)
_, y, x = still.axes()

plt.rc("axes", titlesize=11)
fig, (maps, curves) = plt.subplots(2, 3, figsize=(12, 7.2), layout="constrained")
fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06)

for ax, values, title in zip(maps, (truth, learned), ("true defocus", "learned defocus"), strict=False):
    image = ax.imshow(values, extent=extent, origin="lower", cmap="viridis", vmin=1410, vmax=1570)
    ax.contour(x, y, values, levels=levels, colors="white", linewidths=0.6, alpha=0.8)
    ax.set_title(f"{title} at {times[4]:.1f} s")
fig.colorbar(image, ax=maps[:2], label="defocus (nm)", location="bottom", aspect=40, shrink=0.6)
maps[1].plot(*points[0].reshape(-1, 3).T[[2, 1]], "+", color="black", markersize=5)
errors = maps[2].imshow(learned - truth, extent=extent, origin="lower", cmap="RdBu_r", vmin=-15, vmax=15)
maps[2].plot(*places.T.flip(0), ".", color="0.2", markersize=2.5)
maps[2].set_title(f"error; at the particles {rms((read - true)[4]):.1f} nm rms")
fig.colorbar(errors, ax=maps[2], label="error (nm)", location="bottom", aspect=22, shrink=0.8, extend="both")
for ax in maps:
    ax.set(xlabel="x (µm)", xticks=[0, 0.2, 0.4, 0.6, 0.8], yticks=[0, 0.2, 0.4, 0.6])
maps[0].set_ylabel("y (µm)")

tile = (0, 4, 6)
ax = curves[0]
ax.plot(k, measured[tile], color="0.75", linewidth=0.8, label="measured")
ax.plot(k, spectra(start, k), color="tab:orange", linewidth=1.3, label="model, one defocus for everything")
ax.plot(k, spectra(field(points[tile])[0].detach(), k), color="tab:blue", linewidth=1.6, label="model, learned field")
ax.set(xlabel="spatial frequency (1/nm)", ylabel="power", title="the spectrum of one tile")
ax.set(xlim=(0.25, 2), ylim=(-0.9, 2.1))
ax.legend(frameon=False, fontsize=9, loc="upper right")

ax = curves[1]
t = torch.linspace(0, duration, 101)
for place, colour in (((0.1, 0.1), "tab:green"), ((0.35, 0.35), "tab:purple"), ((0.5, 0.7), "tab:red")):
    path = torch.cat([t[:, None], torch.tensor(place).expand(len(t), 2)], dim=-1)
    ax.plot(t, true_defocus(path), color=colour, linewidth=6, alpha=0.25)
    ax.plot(t, field(path)[:, 0].detach(), color=colour, linewidth=1.6, label=f"y {place[0]}, x {place[1]} µm")
ax.plot([], [], color="0.4", linewidth=6, alpha=0.3, label="true")
ax.set(xlabel="time (s)", ylabel="defocus (nm)", xlim=(0, duration), ylim=(1400, 1640), title="defocus while exposed")
ax.legend(frameon=False, fontsize=9, loc="upper right", ncols=2)

ax = curves[2]
bins = np.arange(-100, 101, 4)
for error, colour, label in (
    (start - true, "tab:orange", "one for everything"),
    (alone - true_defocus(points), "0.6", "each spectrum by itself"),
    (read - true, "tab:blue", "learned field"),
):
    ax.hist(error.ravel(), bins, density=True, histtype="step", color=colour, linewidth=1.6, label=label)
ax.set(xlabel="error of the defocus (nm)", ylabel="density (1/nm)", title="errors")
ax.set(xlim=(-100, 100), ylim=(0, 0.15))
ax.legend(frameon=False, fontsize=9, loc="upper right")
for ax in curves:
    ax.spines[["top", "right"]].set_visible(False)

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "defocus.png"
fig.savefig(picture, dpi=160)
print(f"picture:                   {picture.resolve()}")
