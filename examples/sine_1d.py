"""
A sine from six control points
==============================

A learnable spline field in one dimension: six numbers become one period of a sine, with a derivative that was never
shown to them. On a periodic grid they become the sine everywhere.
"""

# %%
import math
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import torch

import gridfield as gf
from gridfield.torch import SplineField

# %%
# Two fields
# ----------
#
# Both have six control points on one period, in radians. On the first, the first and the last control point sit at 0
# and 2π, and the field ends there without curvature (the boundary "natural", which is the default). The second lives on
# a periodic grid: 2π is 0 again, so six control points are π/3 apart and need no end.

period = (0, 2 * math.pi)
fields = {
    "natural ends": SplineField(6, bounds=period, dtype=torch.float64),
    "periodic": SplineField(gf.Grid(6, period, periodic=True), dtype=torch.float64),
}

# %%
# Learn the sine
# --------------
#
# The control points are the parameters of a PyTorch module, zero at first. With so few of them L-BFGS, which estimates
# second derivatives of the loss, arrives in one call of ``step``.

x = torch.linspace(*period, 200, dtype=torch.float64)[:, None]  # 200 points with one coordinate each
target = torch.sin(x)

for field in fields.values():
    optimiser = torch.optim.LBFGS(field.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure(field=field, optimiser=optimiser):
        """The loss, with its gradient in the control points."""
        optimiser.zero_grad()
        loss = (field(x) - target).square().mean()
        loss.backward()
        return loss

    optimiser.step(closure)

# %%
# Values and derivatives
# ----------------------
#
# ``field(x)`` has one value per channel, ``field.jacobian(x)`` one derivative per channel and axis.

for name, field in fields.items():
    with torch.no_grad():
        error = (field(x) - target).abs().max()
        slope_error = (field.jacobian(x)[..., 0] - torch.cos(x)).abs().max()
    print(f"{name + ':':14} max error {error:.5f}, of the derivative {slope_error:.5f}")

# %%
# The picture
# -----------
#
# Control points are not on the curve: a cubic B-spline approximates them. Beyond the period that was learned (grey),
# the first field is held at its end, and the second goes on.

wide = torch.linspace(-math.pi, 3 * math.pi, 801, dtype=torch.float64)[:, None]
t = wide[:, 0].numpy()

plt.rc("axes", titlesize=11)
fig, axes = plt.subplots(2, 2, figsize=(11, 4.8), sharex=True, sharey="row", layout="constrained")
for (value, slope), (name, field) in zip(axes.T, fields.items(), strict=True):
    with torch.no_grad():
        values, slopes = field(wide)[:, 0].numpy(), field.jacobian(wide)[:, 0, 0].numpy()
    value.plot(t, np.sin(t), color="tab:blue", alpha=0.3, linewidth=6, label="sin x")
    value.plot(t, values, color="tab:blue", label="field")
    value.plot(*field.grid.axes(), field.coefficients.detach()[0], "o", color="tab:red", label="control points")
    value.set_title(f"six control points, {name}")
    slope.plot(t, np.cos(t), color="tab:green", alpha=0.3, linewidth=6, label="cos x")
    slope.plot(t, slopes, color="tab:green", label="derivative of the field")

for ax in axes.flat:
    ax.axvspan(-math.pi, 0, color="0.93", zorder=0)
    ax.axvspan(2 * math.pi, 3 * math.pi, color="0.93", zorder=0)
    ax.spines[["top", "right"]].set_visible(False)
axes[0, 0].set(ylabel="value", xlim=(-math.pi, 3 * math.pi))
axes[0, 0].set_xticks(np.arange(-1, 4) * math.pi, ["−π", "0", "π", "2π", "3π"])
axes[1, 0].set(ylabel="derivative (per rad)")
for ax in axes[1]:
    ax.set(xlabel="x (rad)")
for ax in axes[:, 1]:
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "sine_1d.png"
fig.savefig(picture, dpi=160)
print(f"picture: {picture.resolve()}")
