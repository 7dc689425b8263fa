"""
Augment under jit (JAX)
=======================

One function draws a displacement, an angle and a zoom, and deforms an image and its label. ``jax.vmap`` makes of it one
for a batch, each item with a deformation of its own, and ``jax.jit`` compiles that.
"""

import pathlib
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import skimage.data
from skimage.transform import downscale_local_mean

import gridfield as gf

# %%
# Image and label
# ---------------
#
# The retina of scikit-image, at a quarter of its size, colour first: the last axes are those that are deformed. The
# label is what of the image is retina.

retina = downscale_local_mean(skimage.data.retina()[:1408, :1408], (4, 4, 1)).astype(np.float32) / 255
image = jnp.asarray(np.moveaxis(retina, -1, 0))  # (colour, row, column)
label = jnp.asarray((retina.max(-1) > 0.08).astype(np.int32))  # (row, column)

# %%
# The function
# ------------
#
# Everything is drawn with JAX's own keys: the same key gives the same deformation, on every machine. The angle, the
# zoom and the displacement are traced like any array, and could be differentiated, too.


def augment(key, image, label):
    """One deformation of an image (colour, row, column) and its label (row, column)."""
    for_displacement, for_angle, for_zoom = jax.random.split(key, 3)
    displacement = 10 * jax.random.normal(for_displacement, (2, 4, 4))  # pixels, at 4 × 4 control points
    angle = jax.random.uniform(for_angle, minval=-30, maxval=30)  # degrees
    zoom = jnp.exp(jax.random.uniform(for_zoom, minval=-0.2, maxval=0.2))
    out = gf.deform(
        {"image": image, "label": label},
        displacement,
        kernel={"image": "cubic", "label": "nearest"},
        rotate=angle,
        zoom=zoom,
    )
    return out | {"displacement": displacement, "angle": angle, "zoom": zoom}


augment_batch = jax.jit(jax.vmap(augment))

# %%
# A batch
# -------

size = 7
images, labels = (jnp.broadcast_to(x, (size, *x.shape)) for x in (image, label))
batch = jax.block_until_ready(augment_batch(jax.random.split(jax.random.key(0), size), images, labels))
start = time.perf_counter()
batch = jax.block_until_ready(augment_batch(jax.random.split(jax.random.key(1), size), images, labels))
seconds = time.perf_counter() - start
print(f"batch:   {batch['image'].shape} {batch['image'].dtype}, {batch['label'].shape} {batch['label'].dtype}")
print(f"speed:   {size * image.size / seconds / 1e6:.0f} million pixels per second, colours counted")

# %%
# What was drawn is in the result, so that it can be replayed, here in NumPy.

worst = 0.0
for i in range(size):
    drawn = {key: np.asarray(batch[key][i]) for key in ("displacement", "angle", "zoom")}
    replayed = gf.deform(
        np.asarray(image), drawn["displacement"], rotate=float(drawn["angle"]), zoom=float(drawn["zoom"])
    )
    worst = max(worst, float(np.abs(replayed - np.asarray(batch["image"][i])).max()))
print(f"replay:  at most {worst:.1e} of the brightest away from NumPy's result")

# %%
# The picture
# -----------

plt.rc("axes", titlesize=11)
fig, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
panels = [(image, label, "given")]
panels += [
    (batch["image"][i], batch["label"][i], f"{batch['angle'][i]:+.0f}°, zoom {batch['zoom'][i]:.2f}")
    for i in range(size)
]
for ax, (shown, mask, title) in zip(axes.flat, panels, strict=True):
    ax.imshow(np.clip(np.moveaxis(np.asarray(shown), 0, -1), 0, 1))
    ax.contour(mask, [0.5], colors="white", linewidths=1)
    ax.set(title=title, xticks=[], yticks=[])

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "augment_jax_jit.png"
fig.savefig(picture, dpi=160)
print(f"picture: {picture.resolve()}")
