"""
From coarse to fine, with the optimiser's memory
================================================

A field learns from 5 × 5 to 33 × 33 control points. ``refine`` changes nothing about the field, so the loss could go
on where it was; but a fresh Adam has forgotten how large the gradients are, and kicks every control point.
``carry_state`` takes Adam's memory along.
"""

# %%
import pathlib

import matplotlib.pyplot as plt
import torch

import gridfield as gf
from gridfield.torch import SplineField, carry_state

torch.set_num_threads(1)  # at this size PyTorch's threads wait for each other more than they work

# %%
# Few samples
# -----------
#
# Hills and a hollow on 10 × 10 km, up to 100 m high, are known at 600 random places. On the finest lattice 1089 control
# points have to be found, more than there are samples.

bounds = [(0, 10), (0, 10)]  # km
hills = [((3.0, 3.0), 1.5, 100), ((7.0, 6.0), 2.0, -80), ((2.5, 7.5), 1.2, 70), ((8.0, 1.5), 1.3, 50)]


def truth(points):
    """Heights (m) at points (*, 2) in km: a sum of Gaussian hills (centre, width, top)."""
    height = 0
    for centre, width, top in hills:
        squared = ((points - points.new_tensor(centre)) / width).square().sum(-1)
        height = height + top * torch.exp(-squared / 2)
    return height


generator = torch.Generator().manual_seed(0)
places = 10 * torch.rand(600, 2, generator=generator, dtype=torch.float64)
heights = truth(places)

dense = gf.Grid((101, 101), bounds)
true = truth(torch.from_numpy(dense.coords()))

# %%
# Three ways to the same lattice
# ------------------------------
#
# Each takes 600 steps of Adam at the same rate. Two begin with 5 × 5 control points and are refined by two after every
# 150 steps: 9 × 9, 17 × 17, 33 × 33. They differ in one line: whether Adam is carried on or starts anew. The third has
# the finest lattice from the start. Besides the loss, we follow the error everywhere, also between the samples, which
# the optimiser never sees.

steps, rate = 150, 5.0  # m per step, at most


def learn(shape, refinements, carry):
    """The field, the losses (m²) of all steps, and its rms errors (m) on the dense grid."""
    field = SplineField(shape, bounds=bounds, dtype=torch.float64)
    optimiser = torch.optim.Adam(field.parameters(), lr=rate)
    losses, errors = [], []
    for step in range(4 * steps):
        if step in refinements:
            coarse, field = field, field.refine(2)
            if carry:
                carry_state(optimiser, coarse, field)
            else:
                optimiser = torch.optim.Adam(field.parameters(), lr=rate)
        loss = (field(places)[:, 0] - heights).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        errors.append((field.on_grid(dense)[0].detach() - true).square().mean().sqrt().item())
    return field, losses, errors


refinements = [steps, 2 * steps, 3 * steps]
runs = {
    "Adam carried on": learn((5, 5), refinements, carry=True),
    "Adam anew at each lattice": learn((5, 5), refinements, carry=False),
    "finest lattice from the start": learn((33, 33), [], carry=False),
}

# %%
# What happened
# -------------
#
# A fresh Adam divides the first gradient by its own size: all control points move by the full rate at once, however
# small the loss was. The finest lattice from the start learns the samples fast, as it may, having more control points
# than there are samples; but nothing tells it what is between them. Coarse to fine, that is known from the coarser
# lattices, provided that nothing kicks it away.

for name, (_, losses, errors) in runs.items():
    jumps = [max(losses[at : at + 20]) / losses[at - 1] for at in refinements]
    print(f"{name}: loss {losses[-1]:.1e} m², rms error {errors[-1]:.3f} m, largest jump {max(jumps):.1f} times")

# %%
# The picture
# -----------

colours = dict(zip(runs, ("tab:blue", "tab:orange", "0.45"), strict=True))
extent = [edges[end] for edges in dense.edges() for end in (0, -1)]

plt.rc("axes", titlesize=11)
fig = plt.figure(figsize=(11.5, 7.2), layout="constrained")
fig.get_layout_engine().set(w_pad=0.06, h_pad=0.06)
top, bottom = fig.subfigures(2, 1, height_ratios=[1.15, 1])

curves = top.subplots(1, 2, sharex=True)
for name, (_, losses, errors) in runs.items():
    curves[0].semilogy(losses, color=colours[name], linewidth=1.6, label=name)
    curves[1].semilogy(errors, color=colours[name], linewidth=1.6)
curves[0].set(ylabel="loss (m²)", title="mean squared misfit of the samples")
curves[1].set(ylabel="error (m)", title="rms error everywhere, also between the samples")
for ax in curves:
    ax.set(xlabel="step", xlim=(0, 4 * steps))
    ax.spines[["top", "right"]].set_visible(False)
    for at in refinements:
        ax.axvline(at, color="0.8", linewidth=1, zorder=0)
    for level in range(4):
        n = 4 * 2**level + 1
        middle = {"x": (level + 0.5) / 4, "y": 0.95, "transform": ax.transAxes, "ha": "center"}
        ax.text(s=f"{n} × {n}", fontsize=9, color=colours["Adam carried on"], **middle)
curves[0].legend(frameon=False, fontsize=9, loc="lower left")

maps = bottom.subplots(1, 4, sharey=True)
image = maps[0].imshow(true.T, extent=extent, origin="lower", cmap="gist_earth", vmin=-100, vmax=110)
maps[0].plot(*places.T, ".", color="black", markersize=1.5)
maps[0].set(title="truth and samples", ylabel="y (km)")
bottom.colorbar(image, ax=maps[0], label="height (m)", location="bottom", aspect=25, shrink=0.9)
for ax, (name, (field, _, errors)) in zip(maps[1:], runs.items(), strict=True):
    difference = (field.on_grid(dense)[0].detach() - true).T
    image = ax.imshow(difference, extent=extent, origin="lower", cmap="RdBu_r", vmin=-2, vmax=2)
    ax.set_title(f"{name}:\nrms error {errors[-1]:.2g} m", color=colours[name], fontsize=10)
bottom.colorbar(image, ax=maps[1:], label="error (m)", location="bottom", aspect=60, shrink=0.7, extend="both")
for ax in maps:
    ax.set(xlabel="x (km)", xticks=range(0, 11, 5), yticks=range(0, 11, 5))

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "coarse_to_fine.png"
fig.savefig(picture, dpi=160)
print(f"picture: {picture.resolve()}")
