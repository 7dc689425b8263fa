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
# The true surface is known here, so that the fit can be judged: hills and a valley, up to about 100 m high, on 4 × 3 km.
# It is sampled at 1500 random places, with a noise of 8 m.

size = (4.0, 3.0)  # km
noise = 8.0  # m


def true_height(points):
    """Height (m) at points (*, 2) in km."""
    x, y = points.unbind(-1)
    hills = ((1.0, 0.9, 0.45, 90), (2.9, 2.0, 0.6, 110), (2.6, 0.6, 0.35, -50), (0.9, 2.3, 0.5, 55))
    return sum(h * torch.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * width**2)) for a, b, width, h in hills)


generator = torch.Generator().manual_seed(0)
places = torch.rand(1500, 2, generator=generator) * torch.tensor(size)
heights = true_height(places) + noise * torch.randn(len(places), generator=generator)

# %%
# Learn the surface
# -----------------
#
# The field has 17 × 13 control points, one every 250 m. Besides the misfit, the loss has a little of the mean squared
# second derivative, the bending energy of a thin plate, so that noise does not bend the surface between the samples.
# ``field.hessian`` is exact, and differentiable in the control points like everything else.

field = SplineField((17, 13), bounds=[(0, size[0]), (0, size[1])])
everywhere = torch.from_numpy(field.grid_of((33, 25)).coords()).float()  # where the bending is averaged
stiffness = 2e-4  # km⁴: by how much 1 m²/km⁴ of bending counts beside 1 m² of misfit

iterations = 300
optimiser = torch.optim.Adam(field.parameters(), lr=5)  # m per iteration, at first
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
losses = []
for _ in range(iterations):
    misfit = (field(places)[:, 0] - heights).square().mean()
    bending = field.hessian(everywhere).square().sum((-2, -1)).mean()
    loss = misfit + stiffness * bending
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    schedule.step()
    losses.append(loss.item())

# %%
# How good is it?
# ---------------
#
# The fit averages over many samples, so it should be much nearer to the truth than any of them.

dense = field.grid_of((161, 121))
points = torch.from_numpy(dense.coords()).float()
with torch.no_grad():
    surface = field.on_grid(dense)[0]
    hessian = field.hessian(points)[..., 0, :, :]
    truth = true_height(points)
print(f"noise of a sample:   {noise:.1f} m")
print(f"rms error of the fit: {(surface - truth).square().mean().sqrt():.2f} m")

