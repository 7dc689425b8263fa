"""
Images from radial and spiral MRI
=================================

An MRI scanner measures Fourier coefficients of what is in it, along curves. Here a real MR image is measured along
spokes and along spirals, and reconstructed: by the adjoint, with the density of the samples made up for, by conjugate
gradients, and from several coils. Then spokes too few for the image are bent by gradient descent until they serve it
better. The measurements are made, from the image, so that the results can be judged.
"""

# %%
import pathlib
import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib import cbook

import gridfield as gf

rng = np.random.default_rng(0)
torch.set_num_threads(1)  # at this size PyTorch's threads wait for each other more than they work

# %%
# The image
# ---------
#
# A section through a head, 256 × 256 pixels of 16 bits, one of the sample data of Matplotlib.

n = 256
with cbook.get_sample_data("s1045.ima.gz") as file:
    image = np.frombuffer(file.read(), np.uint16).reshape(n, n).astype(float)
image /= np.percentile(image, 99.5)


def error(found, image=image):
    """Of the magnitudes, relative to the image."""
    return np.linalg.norm(abs(found) - image) / np.linalg.norm(image)


# %%
# Trajectories
# ------------
#
# Frequencies are in radians per pixel, so those that the pixels can hold end at π: (row, column), in rows of
# consecutive samples. 256 spokes are fewer than the 402 that are as dense at their ends as the pixels ask for; along
# each, samples are twice as dense. The 16 arms of the spiral are run through at a constant speed, and closer together
# in the middle.


def radial(spokes, samples=512):
    """(spokes, samples, 2): lines through the middle."""
    radius = np.pi * (2 * (np.arange(samples) + 0.5) / samples - 1)
    angle = np.pi * np.arange(spokes)[:, None] / spokes
    return np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=-1)


def spiral(arms, turns=12, samples=4000):
    """(arms, samples, 2): from the middle outwards."""
    s = ((np.arange(samples) + 0.5) / samples) ** 0.4
    angle = 2 * np.pi * (turns * s + np.arange(arms)[:, None] / arms)
    return np.pi * s[:, None] ** 1.5 * np.stack([np.sin(angle), np.cos(angle)], axis=-1)


def operator(trajectory):
    """From the image to its Fourier coefficients on the trajectory."""
    return gf.Nufft(trajectory.reshape(-1, 2), (n, n), sign=-1)


def noise(shape):
    """Of the receiver, the same for every sample."""
    return 4 * (rng.normal(size=shape) + 1j * rng.normal(size=shape))


# %%
# Adjoint, and conjugate gradients
# --------------------------------
#
# The adjoint adds up the waves that were measured. Where samples are dense it adds too many of them, which are the low
# frequencies: a blur. ``density_weights`` makes up for that. ``solve`` minimises the difference to what was measured
# instead, by conjugate gradients. It does not need weights, but with them takes fewer iterations. Of noisy samples it
# should be stopped early: after many iterations it has fitted the noise, too.


def measured(trajectory):
    """An operator, noisy samples, and images made of them, each with its error."""
    op = operator(trajectory)
    samples = op(image)
    samples = samples + noise(samples.shape)
    weights = op.density_weights()
    plain = op.adjoint(samples)
    plain *= abs(np.vdot(plain, image)) / np.vdot(plain, plain).real  # as bright as fits best
    images = {
        "adjoint": plain,
        "adjoint, weighted": op.adjoint(weights * samples),
        "conjugate gradients": op.solve(samples, iterations=15),
        "conjugate gradients, weighted": op.solve(samples, weights=weights, iterations=4),
    }
    return op, samples, weights, images


trajectories = {"radial": radial(256), "spiral": spiral(16)}
acquired = {name: measured(trajectory) for name, trajectory in trajectories.items()}
for name, (_, samples, _, images) in acquired.items():
    print(f"{name}: {len(samples)} samples of {n * n} pixels")
    for how, found in images.items():
        print(f"    {how + ':':<32} error {error(found):.3f}")

# %%
# An iteration needs the normal equations, ``A^H A``. They are a convolution (their matrix is Toeplitz), so ``normal``
# applies them by two FFTs of twice the size, as fast for a million samples as for a thousand.

op = acquired["radial"][0]
both = {"adjoint of A": lambda: op.adjoint(op(image)), "normal, by FFTs": lambda: op.normal(image)}
times, results = {}, {}
for name, of in both.items():
    results[name] = of()
    begin = time.perf_counter()
    for _ in range(5):
        of()
    times[name] = (time.perf_counter() - begin) / 5
a, b = results.values()
print("A^H A: " + ", ".join(f"{name} {t * 1000:.0f} ms" for name, t in times.items()), end="; ")
print(f"they differ by {np.linalg.norm(a - b) / np.linalg.norm(a):.1e}")

# %%
# How the error goes down, and up again as noise is fitted; with weights, both happen sooner.

counts = [1, 2, 4, 7, 10, 15, 20, 30]
curves = {}
for name, (op, samples, weights, _) in acquired.items():
    for label, w in (("", None), (", weighted", weights)):
        curves[name + label] = [error(op.solve(samples, weights=w, iterations=i, tol=0)) for i in counts]

# %%
# Several coils
# -------------
#
# With 6 arms instead of 16 the scan is over in less than half the time, and too few frequencies are known. Four coils
# around the head each see the image through a smooth sensitivity of their own, which tells apart what they are missing
# (K. P. Pruessmann et al., "SENSE: sensitivity encoding for fast MRI", Magn. Reson. Med. 42 (1999), 952-962).

y, x = np.mgrid[:n, :n] / n - 0.5
angles = 2 * np.pi * np.arange(4) / 4 + 0.4
maps = np.array(
    [
        np.exp(-((y - 0.7 * np.sin(t)) ** 2 + (x - 0.7 * np.cos(t)) ** 2) / 0.5)
        * np.exp(2j * (np.cos(t) * y - np.sin(t) * x) + 1j * t)
        for t in angles
    ]
)
maps /= np.sqrt((abs(maps) ** 2).sum(0)).max()

fewer = operator(spiral(6))
weights = fewer.density_weights()
clean = fewer(maps * image)
seen = clean + noise(clean.shape)
clean = fewer(image)
alone = fewer.solve(clean + noise(clean.shape), weights=weights, iterations=5)
sense = fewer.solve(seen, sense_maps=maps, weights=weights, iterations=5)
print(f"6 arms, one coil that sees everything: error {error(alone):.3f}")
print(f"6 arms, four coils: error {error(sense):.3f}")

# %%
# Better spokes
# -------------
#
# 48 spokes are an eighth of those needed. A tensor of points is differentiated through, so that gradient descent can
# bend them. A gradient coil cannot jump: each spoke has 64 control points, between which its shift is a cubic spline.
# The loss is the squared error of the simplest reconstruction, an adjoint with weights, which are learned with the
# shifts. There is no noise.

target = torch.from_numpy(image).to(torch.complex128)
spokes = torch.from_numpy(radial(48))
control = gf.Grid((64,), bounds=[(0, 1)])
along = torch.linspace(0, 1, spokes.shape[1], dtype=torch.float64)[:, None]
shifts = torch.zeros(2, len(spokes), 64, dtype=torch.float64, requires_grad=True)


def bent(shifts):
    """The trajectory: spokes and their shifts."""
    shift = gf.sample(shifts.reshape(-1, 64), along, grid=control, boundary="natural", prefilter=False)
    return spokes + shift.reshape(spokes.shape[1], 2, len(spokes)).permute(2, 0, 1)


def adjoint(trajectory, weights):
    """The reconstruction that is trained."""
    op = gf.Nufft(trajectory.reshape(-1, 2), (n, n), sign=-1, eps=1e-4)
    return op.adjoint(weights * op(target))


weights = spokes.norm(dim=-1).flatten()  # of spokes the inverse of the density
plain = adjoint(spokes, weights)
weights *= torch.vdot(plain.flatten(), target.flatten()).real / plain.abs().square().sum()
factors = torch.zeros_like(weights, requires_grad=True)  # logarithms: weights remain positive
optimiser = torch.optim.Adam([{"params": [shifts], "lr": 0.002}, {"params": [factors], "lr": 0.02}])

losses = []
for step in range(200):
    loss = (adjoint(bent(shifts), weights * factors.exp()) - target).abs().square().sum() / target.abs().square().sum()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
    if (step + 1) % 50 == 0:
        print(f"step {step + 1}: error of the adjoint {losses[-1] ** 0.5:.3f}")

# %%
# Was it worth it? Conjugate gradients do not know of the loss, nor of the learned weights. Spokes that are bent for
# this image need not suit another one: its mirror image has other directions, and gains little.

learned = bent(shifts).detach().numpy()
mirrored = image[:, ::-1].copy()
refined = {}
for name, trajectory in (("straight", spokes.numpy()), ("bent", learned)):
    op = operator(trajectory)
    refined[name] = op.solve(op(image), iterations=20)
    other = error(op.solve(op(mirrored), iterations=20), mirrored)
    steps = np.linalg.norm(np.diff(trajectory, axis=1), axis=-1)
    print(
        f"48 spokes, {name}: error {error(refined[name]):.3f}; of the mirror image {other:.3f}; "
        f"fastest {steps.max() / np.pi * spokes.shape[1] / 2:.1f} times a spoke"
    )
assert error(refined["bent"]) < 0.85 * error(refined["straight"])

# %%
# The pictures
# ------------

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
plt.rc("axes", titlesize=10)
gray = {"cmap": "gray", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
ticks = {"xticks": [-np.pi, 0, np.pi], "xticklabels": ["−π", "0", "π"]}
ticks |= {"yticks": [-np.pi, 0, np.pi], "yticklabels": ["−π", "0", "π"]}


def show(ax, found, title):
    """An image."""
    ax.imshow(abs(found), **gray)
    ax.set(title=title, xticks=[], yticks=[])


def plane(ax, title):
    """Of frequencies."""
    ax.set(title=title, aspect="equal", xlim=(-3.3, 3.3), ylim=(-3.3, 3.3), **ticks)
    ax.set_xlabel("radians per pixel", fontsize=8, labelpad=0)
    ax.tick_params(labelsize=8)


fig, axes = plt.subplots(3, 5, figsize=(15, 9.6), layout="constrained")
fig.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
for row, (name, (op, samples, _, images)) in zip(axes, acquired.items(), strict=False):
    trajectory = trajectories[name]
    every = 16 if name == "radial" else 4
    for curve in trajectory[::every]:
        row[0].plot(*curve.T[::-1], color="0.65", linewidth=0.7)
    row[0].plot(*trajectory[every].T[::-1], color="tab:red", linewidth=1.4)
    plane(row[0], f"{name}: {len(trajectory[::every])} of {len(trajectory)} {'spokes' if every == 16 else 'arms'}")
    level = 20 * np.log10(abs(samples) / abs(samples).max())
    dots = row[1].scatter(*op.points.T[::-1], c=level, s=0.25, cmap="magma", vmin=-70, vmax=-10, rasterized=True)
    fig.colorbar(dots, ax=row[1], shrink=0.75, label="dB", extend="both")
    plane(row[1], "samples")
    for ax, how in zip(row[2:], ("adjoint", "adjoint, weighted", "conjugate gradients, weighted"), strict=True):
        show(ax, images[how], f"{how.replace('conjugate gradients', 'CG')}: error {error(images[how]):.3f}")

row = axes[2]
show(row[0], image, "the image")
sides = np.hstack(abs(maps[:2])), np.hstack(abs(maps[2:]))
row[1].imshow(np.vstack(sides), cmap="viridis", vmin=0)
row[1].axhline(n - 0.5, color="white", linewidth=2)
row[1].axvline(n - 0.5, color="white", linewidth=2)
row[1].set(title="sensitivities of four coils", xticks=[], yticks=[])
show(row[2], alone, f"6 of 16 arms, one coil: error {error(alone):.3f}")
show(row[3], sense, f"6 of 16 arms, four coils: error {error(sense):.3f}")
for name, curve in curves.items():
    colour = "tab:blue" if name.startswith("radial") else "tab:orange"
    row[4].loglog(counts, curve, color=colour, linestyle="--" if "weighted" in name else "-", label=name)
row[4].set(title="error of conjugate gradients", xlabel="iterations", xticks=[1, 2, 4, 10, 20, 30])
row[4].set(xticklabels=["1", "2", "4", "10", "20", "30"], ylim=(0.02, 1), yticks=[0.03, 0.1, 0.3])
row[4].set_yticklabels(["0.03", "0.1", "0.3"])
row[4].minorticks_off()
row[4].legend(frameon=False, fontsize=8)
row[4].spines[["top", "right"]].set_visible(False)

picture = folder / "mri_2d.png"
fig.savefig(picture, dpi=130)
print(f"picture: {picture.resolve()}")

# %%
# The bent spokes.

fig, axes = plt.subplots(2, 4, figsize=(14, 7.2), layout="constrained")
fig.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
for row, (name, trajectory) in zip(axes, (("straight", spokes.numpy()), ("bent", learned)), strict=True):
    for curve in trajectory:
        row[0].plot(*curve.T[::-1], color="tab:blue", linewidth=0.6)
    plane(row[0], "48 spokes" if name == "straight" else "bent by gradient descent")
    show(row[1], refined[name], f"conjugate gradients: error {error(refined[name]):.3f}")
    off = row[2].imshow(abs(refined[name]) - image, cmap="RdBu_r", vmin=-0.3, vmax=0.3, interpolation="nearest")
    row[2].set(title="minus the image", xticks=[], yticks=[])
    fig.colorbar(off, ax=row[2], shrink=0.75, extend="both")
axes[0, 3].plot(np.sqrt(losses), color="tab:blue")
axes[0, 3].set(title="error of the adjoint", xlabel="step", ylim=(0, None))
axes[0, 3].spines[["top", "right"]].set_visible(False)
for trajectory, style in ((spokes.numpy(), "0.7"), (learned, "tab:blue")):
    for curve in trajectory[::4]:
        axes[1, 3].plot(*curve.T[::-1], color=style, linewidth=0.9)
axes[1, 3].set(title="every fourth, near the middle", aspect="equal", xlim=(-0.6, 0.6), ylim=(-0.6, 0.6))
axes[1, 3].set(xticks=[-0.5, 0, 0.5], yticks=[-0.5, 0, 0.5])
axes[1, 3].set_xlabel("radians per pixel", fontsize=8, labelpad=0)
axes[1, 3].tick_params(labelsize=8)

picture = folder / "mri_2d_bent.png"
fig.savefig(picture, dpi=130)
print(f"picture: {picture.resolve()}")
