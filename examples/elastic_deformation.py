"""
Elastic deformation, step by step
=================================

A few control points are displaced at random, a smooth spline field carries every pixel along. Images, their labels and
landmarks are deformed alike, in part or as a whole, and gradients come back to images and to the displacement itself.
"""

# %%
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import tensorflow as tf
import torch
from matplotlib.colors import ListedColormap
from skimage import data, filters, morphology

import gridfield as gf

rng = np.random.default_rng(0)

# %%
# A grid, so that one sees what happens
# -------------------------------------
#
# An image that is 1 on every tenth pixel of both axes, and 3 x 3 control points, each displaced by 25 pixels (standard
# deviation). The displacement is an array of shape (2, 3, 3), in pixels: for each axis, how far away a pixel's value
# comes from.

X = np.zeros((200, 300))
X[::10, ::10] = 1
displacement = gf.random_displacement(3, 25, shape=X.shape, rng=rng)
X_deformed = gf.deform(X, displacement)
print(f"control points:          {displacement.shape}, {abs(displacement).max():.0f} px at most")

# %%
# Two images at once, each in its own way: the spline for the image, the nearest pixel for its labels, which remain the
# labels they were.

Y = np.zeros((200, 300), np.int32)
Y[40:160, 60:240], Y[70:130, 110:190] = 1, 2
X_deformed, Y_deformed = gf.deform([X, Y], displacement, kernel=["cubic", "nearest"])
print(f"labels afterwards:       {np.unique(Y_deformed).tolist()} of type {Y_deformed.dtype}")

# %%
# Axes
# ----
#
# Of a colour photograph the first two axes are deformed. And images of different numbers of axes go together, if one
# says which of them are deformed.

cat = data.chelsea()[50:250, 80:380]  # (200, 300, 3), uint8
cat_deformed = gf.deform(cat, displacement, axis=(0, 1), boundary="reflect")
print(f"photograph:              {cat_deformed.shape} of type {cat_deformed.dtype}")

bands = np.moveaxis(cat, -1, 0)  # (3, 200, 300)
fur = morphology.opening(cat[..., 0] > filters.threshold_otsu(cat[..., 0]), morphology.disk(3))
how = {"kernel": ["cubic", "nearest"], "boundary": "reflect"}
bands_deformed, fur_deformed = gf.deform([bands, fur], displacement, axis=[(1, 2), (0, 1)], **how)
print(f"together:                {bands_deformed.shape} and {fur_deformed.shape}")

# %%
# A crop
# ------
#
# A part of the result is computed alone, and is that part to the last bit.

crop = (slice(50, 150), slice(0, 100))
X_crop, cat_crop = gf.deform([X, cat], displacement, axis=[(0, 1), (0, 1)], crop=crop, boundary="reflect")
X_whole, cat_whole = gf.deform([X, cat], displacement, axis=[(0, 1), (0, 1)], boundary="reflect")
differ = np.count_nonzero(X_crop != X_whole[crop]) + np.count_nonzero(cat_crop != cat_whole[crop])
print(f"crop and that region:    {differ} numbers differ")

# %%
# Rotation and zoom
# -----------------
#
# Turned by 30 degrees, counter-clockwise as the image is displayed, and enlarged, about the centre.

turn = {"rotate": 30, "zoom": 1.5}
cat_turned = gf.deform(cat, displacement, axis=(0, 1), **turn)

# %%
# Landmarks
# ---------
#
# Where the eyes and the nose go.

marks = np.array([[70.0, 93.0], [70.0, 238.0], [182.0, 184.0]])  # row, column
marks_deformed = gf.deform_points(marks, displacement, X.shape)
marks_turned = gf.deform_points(marks, displacement, X.shape, **turn)
print(f"landmarks:               {marks_deformed.round().astype(int).tolist()}")

# %%
# Gradients
# ---------
#
# Given a gradient in the deformed image, the gradients in the image and in the displacement; in NumPy, or by the
# framework that holds the arrays.

cotangent = np.zeros(X.shape)
cotangent[80:120, 130:170] = 1
in_X, in_displacement = gf.deform_gradient(cotangent, X, displacement)

x, u = (torch.from_numpy(a).requires_grad_() for a in (X, displacement))
gf.deform(x, u).backward(torch.from_numpy(cotangent))

X_variable, u_variable = tf.Variable(X), tf.Variable(displacement)


@tf.function
def gradients(cotangent):
    with tf.GradientTape() as tape:
        out = gf.deform(X_variable, u_variable)
    return tape.gradient(out, [X_variable, u_variable], output_gradients=cotangent)


def tf_gradients(cotangent):
    """The same by tf.gradients, which needs a graph."""
    out = gf.deform(X_variable, u_variable)
    return tf.gradients(out, [X_variable, u_variable], grad_ys=cotangent)


apart = 0.0
for other in ([x.grad, u.grad], gradients(tf.constant(cotangent)), tf.function(tf_gradients)(tf.constant(cotangent))):
    for ours, theirs in zip((in_X, in_displacement), other, strict=True):
        apart = max(apart, abs(ours - np.asarray(theirs)).max() / abs(ours).max())
print(f"gradients differ by:     {apart:.1e} between NumPy, torch and TensorFlow")

# %%
# The pictures
# ------------

labels = ListedColormap(["#e9e9e4", "#86a8c4", "#c8553d"])
shown = [
    ("every tenth pixel", X, {"cmap": "gray_r"}),
    ("photograph", cat, {}),
    ("labels", Y, {"cmap": labels, "vmin": 0, "vmax": 2}),
    ("a gradient …", cotangent, {"cmap": "gray_r"}),
    ("deformed", X_deformed, {"cmap": "gray_r", "vmin": 0, "vmax": 0.6}),
    ("deformed, its landmarks with it", cat_deformed, {}),
    ("deformed, still labels", Y_deformed, {"cmap": labels, "vmin": 0, "vmax": 2}),
    ("… comes back to the image", in_X, {"cmap": "gray_r"}),
    ("the crop, rows 50-150, columns 0-100", X_crop, {"cmap": "gray_r", "vmin": 0, "vmax": 0.6}),
    ("the same of the photograph", cat_crop, {}),
    ("turned by 30°, 1.5 times as large", cat_turned, {}),
    ("lighter than Otsu's threshold, deformed", fur_deformed, {"cmap": "gray"}),
]
figure, panels = plt.subplots(3, 4, figsize=(13, 7.6), layout="constrained")
for panel, (title, image, style) in zip(panels.flat, shown, strict=True):
    panel.imshow(image, interpolation="nearest", **style)
    panel.set_title(title, fontsize=10)
    panel.set(xticks=[], yticks=[])
for panel, (row, column) in ((panels[0, 1], marks.T), (panels[1, 1], marks_deformed.T), (panels[2, 2], marks_turned.T)):
    panel.autoscale(False)
    panel.plot(column, row, "o", mfc="none", mec="#ffd166", mew=2, ms=9)
picture = pathlib.Path("elastic_deformation.png")
figure.savefig(picture, dpi=110)
print(f"picture:                 {picture.resolve()}")
