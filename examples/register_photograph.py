"""
Register a photograph
=====================

A photograph is deformed by a smooth displacement that nobody tells the learner. From the two images alone, a
learnable spline field finds that displacement again, to about a hundredth of a pixel, by plain gradient descent.
"""

# %%
# Positions are in pixels, in the order (row, column), from 0 at the centre of the first pixel of the photograph.

import pathlib
import time

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import torch
from scipy.ndimage import gaussian_filter
from tqdm import tqdm

import gridfield as gf
from gridfield.torch import SplineField

# %%
# Images this small gain little from PyTorch's own threads, which wait for each other many times per iteration and
# lose much when the cores have other work. So PyTorch gets one, and gridfield keeps as many as it had.

gf.set_num_threads(gf.get_num_threads())
torch.set_num_threads(1)

# %%
# A photograph and an unknown displacement
# ----------------------------------------
#
# The photograph is Chelsea, a cat that comes with scikit-image. The deformed image has a smaller frame, 20 pixels in
# from every edge, so that no displacement reaches beyond the photograph. A ``Grid`` says where its pixels are.

photograph = torch.from_numpy(skimage.data.chelsea()).movedim(-1, 0).float()  # (colour, row, column), 0 to 255
margin = 20
frame = gf.Grid.from_spacing([n - 2 * margin for n in photograph.shape[1:]], origin=margin)

# %%
# The true displacement is a random smooth field of 5 × 7 control points. ``on_grid`` evaluates it at every pixel of
# the frame; the first channel is the displacement in rows, the second in columns.

truth = SplineField((5, 7), channels=2, bounds=frame.bounds)
truth.coefficients.data = 6 * torch.randn(truth.coefficients.shape, generator=torch.Generator().manual_seed(0))
true = truth.on_grid(frame).detach()  # (2, row, column), px

# %%
# The deformed image shows at each pixel ``x`` what the photograph shows at ``x + true(x)``. It is rounded to 8 bits
# like any image file, and made with a smoother interpolation (quintic) than the learner will use (cubic): no state of
# the learner can reproduce it exactly.


def pixels_of(grid):
    """Where the samples of a grid are, as a float32 tensor (row, column, 2)."""
    return torch.from_numpy(grid.coords()).float()


deformed = gf.sample(photograph, pixels_of(frame) + true.movedim(0, -1), kernel="quintic")
deformed = deformed.round().clamp(0, 255).movedim(-1, 0)  # (colour, row, column)

# %%
# Learn it, coarse to fine
# ------------------------
#
# Gradient descent follows slopes of the image, so an edge has to overlap its counterpart before it can be pulled into
# place. We therefore begin with blurred images and few control points, and sharpen both, in three levels.

levels = [  # control points, blur (sigma, px), distance between the pixels compared (px), iterations
    ((4, 5), 8, 4, 150),
    ((6, 9), 3, 2, 150),
    ((10, 15), 0, 1, 100),
]

# %%
# At each level
#
# * the new control points take over the field learned so far: ``prefilter`` turns its values at their positions into
#   the coefficients of a spline through these values;
# * the photograph is prefiltered as well, once, and only sampled in the loop (``prefilter=False``);
# * PyTorch differentiates the mean squared difference between the photograph at the displaced positions and the
#   deformed image, and Adam moves the control points.

field = SplineField(levels[0][0], channels=2, bounds=frame.bounds)  # zero everywhere: no displacement yet

for shape, sigma, step, iterations in levels:
    coarser, field = field, SplineField(shape, channels=2, bounds=frame.bounds)
    values = coarser.on_grid(field.grid).detach()
    field.coefficients.data = gf.prefilter(values, grid=field.grid, boundary="natural")

    blurred, target = (
        torch.from_numpy(gaussian_filter(image.numpy(), sigma, axes=(1, 2))) for image in (photograph, deformed)
    )
    coefficients = gf.prefilter(blurred, grid=gf.Grid.pixels(blurred.shape[1:]))
    target = target[:, ::step, ::step].movedim(0, -1)
    pixels = gf.Grid.from_spacing(target.shape[:2], origin=margin, spacing=step)
    x = pixels_of(pixels)

    optimiser = torch.optim.Adam(field.parameters(), lr=0.3)  # first steps of 0.3 px, then less and less
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    title = f"{shape[0]:2} × {shape[1]:2} control points, blur {sigma} px"
    start = time.perf_counter()
    with tqdm(total=iterations * pixels.size, unit=" px", unit_scale=True, desc=title) as progress:
        for _ in range(iterations):
            displaced = x + field.on_grid(pixels).movedim(0, -1)
            difference = gf.sample(coefficients, displaced, prefilter=False) - target
            loss = difference.square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            progress.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
            progress.update(pixels.size)
    speed = iterations * pixels.size / (time.perf_counter() - start)

# %%
# How good is it?
# ---------------
#
# Only now do we look at the true displacement.

learned = field.on_grid(frame).detach()
length = true.norm(dim=0).numpy()
error = (learned - true).norm(dim=0).numpy()
print(f"displacement: median {np.median(length):.3f} px, at most {length.max():.3f} px")
print(f"error:        median {np.median(error):.3f} px, 95th percentile {np.percentile(error, 95):.3f} px")
print(f"speed:        {speed / 1e6:.1f} million pixels x iterations per second, in colour, at full resolution")

# %%
# With the field we can straighten the deformed image. What the photograph shows at ``y``, the deformed image shows at
# the ``x`` where ``x + field(x) = y``, found by repeating ``x = y - field(x)``. Where that is outside the frame nothing
# is known, and we ask for NaN.

y = pixels_of(frame)
with torch.no_grad():
    x = y
    for _ in range(20):
        x = y - field(x)
outside = {"boundary": "constant", "cval": float("nan")}
straightened = gf.sample(deformed, x, grid=frame, **outside)

# %%
# The picture
# -----------
#
# A lattice drawn on the photograph is deformed with it, by the true displacement. Straightened with the learned one, it
# is straight again. Arrows show the displacement at the control points, 2.5 times as long.

down, along = frame.edges()
extent = (along[0], along[-1], down[-1], down[0])  # left, right, bottom, top
control_points = torch.from_numpy(field.grid.coords()).float()


def show_image(ax, image, lattice, title):
    """An image (row, column, colour), and the lines where `lattice` (row, column, 2) is a multiple of 32 px."""
    ax.imshow(image.clamp(0, 255).numpy() / 255, extent=extent)
    rows, columns = frame.axes()
    for position, size in zip(np.moveaxis(lattice.numpy(), -1, 0), photograph.shape[1:], strict=True):
        lines = range(32, size, 32)
        ax.contour(columns, rows, position, levels=lines, colors="white", linewidths=0.9, alpha=0.75)
    ax.set_title(title)


@torch.no_grad()
def show_displacement(ax, spline, title):
    """Its length as colour, and an arrow from each control point of the learned field."""
    size = spline.on_grid(frame).norm(dim=0).numpy()
    image = ax.imshow(size, extent=extent, cmap="GnBu", vmin=0, vmax=length.max())
    down, along = np.moveaxis(spline(control_points).numpy(), -1, 0)
    rows, columns = np.moveaxis(control_points.numpy(), -1, 0)
    ax.quiver(columns, rows, along, down, angles="xy", scale_units="xy", scale=0.4, width=0.004, color="0.1")
    ax.set_title(title)
    return image


plt.rc("axes", titlesize=11)
fig, axes = plt.subplots(2, 3, figsize=(12.5, 6.3), sharex=True, sharey=True, layout="constrained")
fig.get_layout_engine().set(w_pad=0.05, h_pad=0.06, wspace=0.01)
seen = y + true.movedim(0, -1)  # the positions in the photograph that the deformed image shows
seen_straightened = gf.sample(seen.movedim(-1, 0), x, grid=frame, **outside)
show_image(axes[0, 0], photograph.movedim(0, -1)[margin:-margin, margin:-margin], y, "photograph")
show_image(axes[0, 1], deformed.movedim(0, -1), seen, "deformed")
show_image(axes[0, 2], straightened, seen_straightened, "straightened with the learned field")

lengths = show_displacement(axes[1, 0], truth, "true displacement")
show_displacement(axes[1, 1], field, "learned displacement and its control points")
axes[1, 1].plot(*field.grid.coords().reshape(-1, 2).T[::-1], ".", color="tab:red", markersize=3, clip_on=False)
errors = axes[1, 2].imshow(error, extent=extent, cmap="OrRd", vmin=0, vmax=0.1)
axes[1, 2].set_title(f"their difference: median {np.median(error):.3f} px")
fig.colorbar(lengths, ax=axes[1, :2], label="displacement (px)", location="bottom", aspect=45, shrink=0.5)
fig.colorbar(errors, ax=axes[1, 2], label="error (px)", location="bottom", aspect=22, shrink=0.85, extend="max")

axes[0, 0].set(xlim=extent[:2], ylim=extent[2:], xticks=range(100, 500, 100), yticks=range(50, 300, 50))
for ax in axes.flat:
    ax.set(xlabel="column (px)", ylabel="row (px)")
    ax.label_outer()

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "register_photograph.png"
fig.savefig(picture, dpi=160)
print(f"picture:      {picture.resolve()}")
