"""
A surface from scattered, noisy samples
=======================================

Heights measured at random places, with noise: a learnable spline surface is fitted to them by gradient descent. Its
exact second derivatives keep it smooth while it learns, and show its curvature afterwards.
"""

# %%
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import torch

from gridfield.torch import SplineField

# %%
# The samples
# -----------
#
# The true surface is known here, so that the fit can be judged: hills and a hollow of about 100 m on 4 × 3 km. It is
# sampled at 3000 random places, with a noise of 5 m.

size = (4.0, 3.0)  # km
noise = 5.0  # m


hills = [((1.0, 0.9), 0.45, 90), ((2.9, 2.0), 0.6, 110), ((2.6, 0.6), 0.35, -50), ((0.9, 2.3), 0.5, 55)]


def true_surface(points):
    """Height (m) and Laplacian (m/km²) at points (*, 2) in km: a sum of Gaussian hills (centre, width, top)."""
    height = laplacian = 0
    for centre, width, top in hills:
        squared = ((points - torch.tensor(centre)) / width).square().sum(-1)
        hill = top * torch.exp(-squared / 2)
        height = height + hill
        laplacian = laplacian + hill * (squared - 2) / width**2
    return height, laplacian


generator = torch.Generator().manual_seed(0)
places = torch.rand(3000, 2, generator=generator) * torch.tensor(size)
heights = true_surface(places)[0] + noise * torch.randn(len(places), generator=generator)

# %%
# Learn the surface
# -----------------
#
# The field has 13 × 10 control points, one every third of a kilometre, and a quintic kernel, whose second derivatives
# are smooth too. Besides the misfit, the loss has a little of the mean squared second derivative, the bending energy of
# a thin plate, so that the noise bends the surface less. ``field.hessian`` is exact, and differentiable in the control
# points like everything else.

field = SplineField((13, 10), bounds=[(0, size[0]), (0, size[1])], kernel="quintic")
everywhere = torch.from_numpy(field.grid_of((33, 25)).coords()).float()  # where the bending is averaged
stiffness = 1e-4  # km⁴: by how much 1 m²/km⁴ of bending counts beside 1 m² of misfit

iterations = 200
optimiser = torch.optim.Adam(field.parameters(), lr=5)  # m per iteration, at first
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
for _ in range(iterations):
    misfit = (field(places)[:, 0] - heights).square().mean()
    bending = field.hessian(everywhere).square().sum((-2, -1)).mean()
    loss = misfit + stiffness * bending
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()

# %%
# How good is it?
# ---------------
#
# Every height of the fit rests on many samples around it, and is nearer to the truth than any of them.

dense = field.grid_of((161, 121))
points = torch.from_numpy(dense.coords()).float()
with torch.no_grad():
    surface = field.on_grid(dense)[0]
true_height, true_laplacian = true_surface(points)
rms = (surface - true_height).square().mean().sqrt()
print(f"noise of the samples: {noise:.2f} m")
print(f"rms error of the fit: {rms:.2f} m")

# %%
# Slopes and curvature
# --------------------
#
# Water runs down the negative gradient. The Laplacian, the trace of the Hessian, is positive in hollows and negative on
# tops.

with torch.no_grad():
    downhill = -field.jacobian(points)[..., 0, :]  # m/km
    laplacian = field.hessian(points)[..., 0, :, :].diagonal(dim1=-2, dim2=-1).sum(-1)  # m/km²

# %%
# The picture
# -----------

x, y = dense.axes()
extent = [edges[end] for edges in dense.edges() for end in (0, -1)]
height = {"cmap": "gist_earth", "vmin": -60, "vmax": 140}
bend = {"cmap": "RdBu_r", "vmin": -800, "vmax": 800, "extent": extent, "origin": "lower"}
lines = np.arange(-60, 121, 20)  # m

plt.rc("axes", titlesize=11)
fig, axes = plt.subplots(2, 2, figsize=(9.6, 6.6), sharex=True, sharey=True, layout="constrained")
(samples, fitted), (bent, truly_bent) = axes
samples.scatter(*places.T.numpy(), c=heights.numpy(), s=7, **height)
samples.set_title(f"{len(places)} samples, noise {noise:.0f} m")

image = fitted.imshow(surface.T.numpy(), extent=extent, origin="lower", **height)
fitted.contour(x, y, surface.T.numpy(), levels=lines, colors="white", linewidths=0.6, alpha=0.8)
steep = downhill.norm(dim=-1).T.numpy()
fitted.streamplot(
    x, y, *downhill.permute(2, 1, 0).numpy(), color="0.1", linewidth=steep / 150, arrowsize=0.7, density=0.8
)
fitted.set_title(f"fit, rms error {rms:.1f} m, and the way of water")
fig.colorbar(image, ax=axes[0], label="height (m)", aspect=25)

bent.imshow(laplacian.T.numpy(), **bend)
bent.set_title("Laplacian of the fitted surface")
image = truly_bent.imshow(true_laplacian.T.numpy(), **bend)
truly_bent.set_title("Laplacian of the true surface")
fig.colorbar(image, ax=axes[1], label="Laplacian (m/km²)", aspect=25)

for ax in axes.flat:
    ax.set(xlabel="x (km)", ylabel="y (km)", xlim=(0, size[0]), ylim=(0, size[1]), aspect="equal")
    ax.set(xticks=range(5), yticks=range(4))
    ax.label_outer()

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "surface_2d.png"
fig.savefig(picture, dpi=160)
print(f"picture: {picture.resolve()}")
