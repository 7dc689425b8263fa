"""
Register a photograph
=====================

A photograph is bent by a smooth displacement that nobody tells the learner. From the photograph and
the bent one alone, a learnable spline field finds that displacement again, to a few hundredths of a
pixel, by plain gradient descent.
"""

# %%
# Positions are pixels, in the order (row, column), from 0 at the centre of the first pixel.

import pathlib
import time

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import torch
from scipy.ndimage import gaussian_filter
from tqdm.auto import tqdm

import gridfield as gf
from gridfield.torch import SplineField

# %%
# A photograph and an unknown displacement
# ----------------------------------------
#
# The photograph is Chelsea, a cat that comes with scikit-image. The bent image has a smaller frame,
# 16 pixels in from every edge, so that no displacement reaches beyond the photograph. A ``Grid``
# says where its pixels are.

photograph = torch.from_numpy(skimage.data.chelsea()).movedim(-1, 0).float()  # (colour, row, column), 0 to 255
margin = 16
frame = gf.Grid.from_spacing([n - 2 * margin for n in photograph.shape[1:]], origin=margin)

# %%
# The true displacement is a random smooth field of 5 × 7 control points, up to about 10 pixels long.
# ``on_grid`` evaluates it at every pixel of the frame.

truth = SplineField((5, 7), channels=2, bounds=frame.bounds)
truth.coefficients.data = 5 * torch.randn(truth.coefficients.shape, generator=torch.Generator().manual_seed(0))
true = truth.on_grid(frame).detach()  # (2, row, column), px

# %%
# The bent image shows at each pixel ``x`` what the photograph shows at ``x + true(x)``. It is rounded
# to 8 bits like any image file, and made with a smoother interpolation (quintic) than the learner
# will use (cubic), so that no setting of the learner reproduces it exactly.


def points(grid):
    """Where the samples of a grid are, as a float32 tensor (row, column, 2)."""
    return torch.from_numpy(grid.coords()).float()


bent = gf.sample(photograph, points(frame) + true.movedim(0, -1), kernel="quintic").round().clamp(0, 255)
bent = bent.movedim(-1, 0)

# %%
# Learn it, coarse to fine
# ------------------------
#
# Gradient descent sees only slopes, so an edge must overlap its image before it can be pulled into
# place. We begin with blurred images and few control points, and sharpen both in three levels. Each
# level is a number of control points, a blur and a distance between the pixels looked at, in pixels,
# and a number of iterations.

levels = [((4, 5), 8, 4, 150), ((6, 9), 3, 2, 150), ((10, 15), 0, 1, 100)]


def blurred(image, sigma):
    """The image (colour, row, column) smoothed by a Gaussian."""
    return torch.from_numpy(gaussian_filter(image.numpy(), (0, sigma, sigma)))


# %%
# At each level
#
# * the new control points take over the field learned so far: the spline that passes through its
#   values at their positions (``prefilter`` finds its coefficients);
# * the photograph is prefiltered once, outside the loop, and then sampled at displaced positions;
# * PyTorch differentiates the mean squared difference, and Adam moves the control points.

field = SplineField(levels[0][0], channels=2, bounds=frame.bounds)  # zero everywhere: no displacement
work = [len(range(0, frame.shape[0], step)) * len(range(0, frame.shape[1], step)) for _, _, step, _ in levels]
progress = tqdm(total=sum(w * level[-1] for w, level in zip(work, levels, strict=True)), unit="px", unit_scale=True)
losses = []

for shape, sigma, step, iterations in levels:
    coarse, field = field, SplineField(shape, channels=2, bounds=frame.bounds)
    values = coarse.on_grid(field.grid).detach()
    field.coefficients.data = gf.prefilter(values, grid=field.grid, boundary="natural")

    coefficients = gf.prefilter(blurred(photograph, sigma), grid=gf.Grid.pixels(photograph.shape[1:]))
    target = blurred(bent, sigma)[:, ::step, ::step].movedim(0, -1)
    pixels = gf.Grid.from_spacing(target.shape[:2], origin=margin, spacing=step)
    x = points(pixels)

    optimiser = torch.optim.Adam(field.parameters(), lr=0.3)  # px per iteration, at first
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    start = time.perf_counter()
    for _ in range(iterations):
        displaced = x + field.on_grid(pixels).movedim(0, -1)
        difference = gf.sample(coefficients, displaced, prefilter=False) - target
        loss = difference.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()

        losses.append(loss.item())
        progress.set_postfix(control_points=f"{shape[0]}×{shape[1]}", loss=f"{losses[-1]:.2f}", refresh=False)
        progress.update(pixels.size)
    speed = pixels.size * iterations / (time.perf_counter() - start)
progress.close()

# %%
# How good is it?
# ---------------
#
# Only now do we look at the true displacement.

learned = field.on_grid(frame).detach()
error = (learned - true).norm(dim=0).numpy()
print(f"displacement: {true.norm(dim=0).median():.1f} px median, {true.norm(dim=0).max():.1f} px at most")
print(f"error:        {np.median(error):.3f} px median, {np.percentile(error, 95):.3f} px at the 95th percentile")
print(f"speed:        {speed / 1e6:.1f} million pixels x iterations per second, at full resolution")

# %%
# With the field we can straighten the bent image. What the photograph shows at ``y`` is at the ``x``
# that solves ``x + field(x) = y``: a fixed point, found by a few repetitions of
# ``x = y - field(x)``. Where ``x`` is outside the frame nothing is known, so we ask for NaN there.

with torch.no_grad():
    y = points(frame)
    x = y
    for _ in range(20):
        x = y - field(x)
    straightened = gf.sample(bent, x, grid=frame, boundary="constant", cval=float("nan"))

# %%
# The picture
# -----------

