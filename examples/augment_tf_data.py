"""
Augment in tf.data (TensorFlow)
===============================

Images and their labels go through a ``tf.data`` pipeline, and ``gf.deform`` is a step of its graph. Every image gets a
displacement of its own, drawn by TensorFlow.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow says less

import pathlib

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import tensorflow as tf
from scipy.ndimage import gaussian_filter
from skimage.color import rgb2hed

import gridfield as gf

# %%
# Image and label
# ---------------
#
# Tissue from scikit-image, in 4 tiles. The brown stain is what a network is to find; here it is what is above a
# threshold.

tissue = skimage.data.immunohistochemistry()  # (row, column, colour), 8 bits


def stained(image):
    """1 where there is much of the brown stain."""
    return (gaussian_filter(rgb2hed(image)[..., 2], 2) > 0.045).astype(np.uint8)


half = tissue.shape[0] // 2
tiles = np.stack([tissue[i : i + half, j : j + half] for i in (0, half) for j in (0, half)])
labels = np.stack([stained(tile) for tile in tiles])

# %%
# The pipeline
# ------------
#
# ``map`` traces the function once. The displacement is that of 4 × 4 control points, in pixels; its seed is counted up,
# so that the result does not depend on which thread draws first. Rows and columns are axes 0 and 1 of the image, whose
# last axis is the colour, and of the label. Integers stay integers.

points, sigma = (4, 4), 12.0


def augment(number, item):
    """One image and its label, deformed alike."""
    image, label = item
    displacement = sigma * tf.random.stateless_normal((2, *points), seed=tf.stack([0, number]))
    image, label = gf.deform(
        [image, label],
        displacement,
        kernel=["cubic", "nearest"],
        boundary="mirror",
        axis=(0, 1),
        rotate=tf.random.stateless_uniform((), seed=tf.stack([1, number]), minval=-20, maxval=20),
    )
    return image, label


pipeline = (
    tf.data.Dataset.from_tensor_slices((tiles, labels))
    .repeat()
    .enumerate()
    .map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    .batch(8)
    .prefetch(1)
)
images, masks = (x.numpy() for x in next(iter(pipeline)))
print(f"batch:   {images.shape} {images.dtype}, {masks.shape} {masks.dtype}")

# %%
# Label and image still belong together: what is stained in a deformed image is what its deformed label says.

again = np.stack([stained(image) for image in images])
overlap = 2 * (again & masks).sum() / (again.sum() + masks.sum())
print(f"overlap: {overlap:.3f} (Dice) of deformed labels with labels of deformed images")

# %%
# The picture
# -----------

plt.rc("axes", titlesize=11)
fig, axes = plt.subplots(2, 4, figsize=(12, 6.4), layout="constrained")
panels = []
for tile in (0, 2):  # the batch has every tile twice
    panels += [(tiles[tile], labels[tile], "given"), (images[tile], masks[tile], "deformed")]
    panels += [(images[tile + 4], masks[tile + 4], "deformed again"), (None, masks[tile + 4], "its label")]
for ax, (image, mask, title) in zip(axes.flat, panels, strict=True):
    if image is None:
        ax.imshow(mask, cmap="gray")
    else:
        ax.imshow(image)
        ax.contour(mask, [0.5], colors="tab:blue", linewidths=1)
    ax.set(title=title, xticks=[], yticks=[])

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "augment_tf_data.png"
fig.savefig(picture, dpi=160)
print(f"picture: {picture.resolve()}")
