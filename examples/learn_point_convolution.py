"""
Convolving points, and learning the kernel
==========================================

Points on a torus are convolved with a Gaussian through their Fourier coefficients, without a grid they would have to be
on. Then a module learns that kernel from values before and after, each time at other points.
"""

# %%
import pathlib
import time

import matplotlib.pyplot as plt
import numpy as np
import torch

import gridfield as gf
from gridfield.torch import PointConvolution

torch.set_num_threads(1)  # at this size PyTorch's threads wait for each other more than they work
torch.manual_seed(0)
tau = 2 * np.pi

# %%
# A kernel
# --------
#
# A Gaussian, sampled at 128 × 128 places of one period. Its middle has to be at the origin, which is the first sample:
# else it would shift what it is convolved with. Its FFT is what gridfield takes, as it is.

n, sigma = 128, 0.5
x = torch.fft.fftfreq(n, 1 / tau, dtype=torch.float64)  # 0 first, then up to pi, then from -pi


def gaussian(squared):
    """Of squared distances."""
    return torch.exp(-squared / (2 * sigma**2))


kernel = gaussian(x[:, None] ** 2 + x**2)
fourier_kernel = torch.fft.fft2(kernel)

# %%
# Points
# ------
#
# Their Fourier coefficients (type 1), times those of the kernel, are those of the convolution. It can be inverted
# anywhere: on a grid, by an ordinary FFT, or at the points (type 2). ``gf.convolve_points`` does the three steps.

points = tau * torch.rand(20, 2, dtype=torch.float64)
values = torch.ones(20, dtype=torch.float64)

fourier_points = gf.nufft1(points, values, (n, n), modes_order="fft")
product = fourier_points * fourier_kernel
on_grid = torch.fft.ifft2(product).real
at_points = gf.nufft2(points, product, modes_order="fft").real / n**2
short = gf.convolve_points(points, values, fourier_kernel=fourier_kernel, modes_order="fft").real

# %%
# The sum over all pairs tells whether that is right. On a torus a pair is as far apart as the nearest images of its
# points: without that, those near the edges miss their neighbours across it.


def directly(points, values, wrapped=True):
    """The convolution, pair by pair."""
    r = points[..., :, None, :] - points[..., None, :, :]
    if wrapped:
        r = torch.remainder(r + tau / 2, tau) - tau / 2
    return (gaussian(r.square().sum(-1)) @ values[..., None])[..., 0]


wrapped, unwrapped = directly(points, values), directly(points, values, wrapped=False)
for name, sums in (("wrapped", wrapped), ("not wrapped", unwrapped)):
    print(f"sum over pairs, {name}: relative difference {(at_points - sums).norm() / sums.norm():.1e}")
print(f"in one call: relative difference {(short - at_points).norm() / at_points.norm():.1e}")

# %%
# Learning the kernel
# -------------------
#
# Every step has 20 fresh points with random values, and what the convolution makes of them: 20 equations about as many
# unknowns as there are modes. Two ways:
#
# - All 128 × 128 modes, by 10,000 steps of AdamW at a rate of 0.005. That is the most that a mode changes by in a step,
#   while the lowest have to reach several hundred: the loss ends at 0.33.
# - 32 × 32 modes, of which a kernel as smooth as this has no more, by 1,500 steps of gradient descent. Its natural rate
#   is half the number of modes: a step is then nearly the projection to the nearest kernel that obeys the 20 equations
#   (S. Kaczmarz, 1937), and what is unknown falls by a constant share.
#
# 10,000 steps with 128 × 128 modes take 15 s on one thread, 1.5 ms each: half a millisecond is arithmetic of ours and
# torch's, most of the rest is Python. Those with 32 × 32 modes take 0.8 ms each.

adamw, descent = "AdamW, 128 × 128", "gradient descent, 32 × 32"
layers = {adamw: PointConvolution((n, n), dtype=torch.float64)}
layers[descent] = PointConvolution((32, 32), dtype=torch.float64)
colours = dict(zip(layers, ("tab:orange", "tab:blue"), strict=True))
for layer in layers.values():
    torch.nn.init.ones_(layer.fourier_kernel)  # a peak: values stay as they are


def train(name, step, steps):
    """The losses of so many steps, printed every 100; a hundred draws at once."""
    kernel, losses, begin = layers[name].fourier_kernel, [], time.perf_counter()
    while len(losses) < steps:
        fresh = tau * torch.rand(100, 20, 2, dtype=torch.float64)
        before = torch.randn(100, 20, dtype=torch.float64)
        for points, values, after in zip(fresh, before, directly(fresh, before), strict=True):
            loss = (layers[name](points, values) - after).square().mean()
            kernel.grad = None
            loss.backward()
            step(kernel)
            losses.append(loss.item())
        print(f"{name}: step {len(losses)}: loss {np.mean(losses[-100:]):.1e}")
    seconds = time.perf_counter() - begin
    print(f"{name}: {steps} steps in {seconds:.1f} s, {seconds / steps * 1000:.2f} ms each")
    return losses


# %%
# PyTorch's fused AdamW takes real numbers only. It gets the real and imaginary parts, in the memory of the modes.

parts = torch.view_as_real(layers[adamw].fourier_kernel.detach())
fused = torch.optim.AdamW([parts], lr=0.005, weight_decay=0.001, fused=True)
plain = torch.optim.SGD(layers[descent].parameters(), lr=layers[descent].fourier_kernel.numel() / 2)


def fused_step(kernel):
    """Of AdamW."""
    parts.grad = torch.view_as_real(kernel.grad)
    fused.step()


losses = {adamw: train(adamw, fused_step, 10_000), descent: train(descent, lambda kernel: plain.step(), 1500)}

learned = {name: layer.kernel[0, 0].detach() for name, layer in layers.items()}
for name, image in learned.items():
    error = (image - kernel[:: n // len(image), :: n // len(image)]).square().mean().sqrt()
    print(f"{name}: final loss {np.mean(losses[name][-100:]):.2e}, rms error of the kernel {error:.1e}")

# %%
# The pictures
# ------------

plt.rc("axes", titlesize=10)
fig, axes = plt.subplots(3, 4, figsize=(13, 9.6), layout="constrained")


def around(n, centre):
    """Of n samples along each axis, n // 2 of which come before the centre: a pixel is around its place."""
    ends = (centre - (n // 2 + 0.5) * tau / n, centre + (n - n // 2 - 0.5) * tau / n)
    return {"extent": ends * 2, "origin": "lower", "cmap": "viridis"}


waves = {"extent": (-n / 2, n / 2, -n / 2, n / 2), "origin": "lower", "cmap": "magma"}


def show(ax, image, title, **how):
    """An image, first axis to the right, with its colours explained."""
    fig.colorbar(ax.imshow(image.T, **how), ax=ax, shrink=0.8)
    ax.set_title(title)


def decibels(modes):
    """Frequency 0 in the middle, on a logarithmic scale."""
    return 20 * torch.log10(torch.fft.fftshift(modes.abs()) + 1e-12)


show(axes[0, 0], torch.fft.fftshift(kernel), "kernel", **around(n, 0))
show(axes[0, 1], decibels(fourier_kernel), "its spectrum (dB)", vmin=-120, **waves)
show(axes[0, 2], decibels(fourier_points), "spectrum of the points (dB)", vmin=-10, vmax=30, **waves)
show(axes[0, 3], decibels(product), "product (dB)", vmin=-120, **waves)

show(axes[1, 0], on_grid, "on the grid, and the points", **around(n, np.pi))
axes[1, 0].plot(*points.T, ".", color="tab:red")
show(axes[1, 1], on_grid, "at the points: size is value", **around(n, np.pi))
axes[1, 1].scatter(*points.T, s=30 * at_points**2, color="none", edgecolor="tab:red", linewidth=1.5)
ends = [0.9, 1.05 * at_points.max()]
axes[1, 2].plot(ends, ends, color="0.8")
axes[1, 2].plot(at_points, unwrapped, "o", color="tab:orange", fillstyle="none", label="not wrapped")
axes[1, 2].plot(at_points, wrapped, ".", color="tab:blue", label="wrapped")
axes[1, 2].set(title="beside the sum over pairs", xlabel="through Fourier modes", ylabel="pair by pair")
for name, of in losses.items():
    axes[1, 3].semilogy(of, color=colours[name], alpha=0.25, linewidth=0.5)
    smooth = np.convolve(of, np.ones(50) / 50, "valid")
    axes[1, 3].semilogy(np.arange(len(smooth)) + 49, smooth, color=colours[name], label=name)
axes[1, 3].set(title="loss", xlabel="step")

zoom = {"xlim": (-1.7, 1.7), "ylim": (-1.7, 1.7)}
for ax, (name, image) in zip(axes[2], {"true kernel": kernel, **learned}.items(), strict=False):
    show(
        ax,
        torch.fft.fftshift(image),
        name if name == "true kernel" else f"by {name}",
        vmin=0,
        vmax=1,
        **around(len(image), 0),
    )
    ax.set(**zoom)
line = np.linspace(-np.pi, np.pi, n, endpoint=False)
axes[2, 3].plot(line, torch.fft.fftshift(kernel[:, 0]), color="0.75", linewidth=5, label="true")
for name, image in learned.items():
    axes[2, 3].plot(line[:: n // len(image)], torch.fft.fftshift(image[:, 0]), color=colours[name], label=name)
axes[2, 3].set(title="through the middle", xlim=(-np.pi, np.pi), ylim=(-0.05, 1.5))
for ax in (axes[1, 2], axes[1, 3], axes[2, 3]):
    ax.legend(frameon=False, fontsize=7, loc="center right" if ax is axes[1, 3] else "upper left")
    ax.spines[["top", "right"]].set_visible(False)

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "learn_point_convolution.png"
fig.savefig(picture, dpi=130)
print(f"picture: {picture.resolve()}")
