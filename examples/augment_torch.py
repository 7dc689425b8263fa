"""
Augment in a DataLoader (PyTorch)
=================================

A photograph of coins, the outline of each coin and its centre: what a network for segmentation or detection is trained
on. Workers of a ``DataLoader`` deform the three alike, by a new random displacement, rotation and zoom every time, as
U-Net was trained.
"""

import multiprocessing
import pathlib

import matplotlib.pyplot as plt
import numpy as np
import skimage.data
import torch
from scipy import ndimage
from skimage.filters import sobel
from skimage.measure import regionprops
from skimage.segmentation import watershed
from torch.utils.data import DataLoader, Dataset

from gridfield.torch import ElasticDeform

# %%
# Image, labels, points
# ---------------------
#
# The coins come with scikit-image, and a watershed finds them: 0 is background, each coin has a number. Points are
# (row, column) in pixels.

photograph = skimage.data.coins()
markers = np.where(photograph < 30, 1, np.where(photograph > 150, 2, 0))
coins = ndimage.label(ndimage.binary_fill_holes(watershed(sobel(photograph), markers) == 2))[0]
coins = np.where(np.bincount(coins.ravel())[coins] > 500, coins, 0)  # crumbs are background
found = regionprops(coins)
centres = np.array([coin.centroid for coin in found])
numbers = [coin.label for coin in found]

# %%
# The transform
# -------------
#
# 5 × 5 control points are displaced by about 8 pixels. ``fold_free`` keeps coins from being folded over one another.
# Labels take the nearest pixel unless something else is said; points go where their pixels go. Beyond the photograph
# there is nothing: 0 in the image and in the labels.

augment = ElasticDeform(points=5, sigma=8.0, rotate=20, zoom=(0.8, 1.1), fold_free=True)
print(augment)


class Coins(Dataset):
    """The same photograph, deformed anew each time."""

    def __len__(self):
        return 14

    def __getitem__(self, item):
        sample = {
            "image": torch.from_numpy(photograph)[None].float() / 255,
            "label": torch.from_numpy(coins),
            "points": torch.from_numpy(centres),
        }
        return augment(sample)


# %%
# Each worker has a seed of its own, and in each epoch another one. One seed for the whole is enough to repeat it.
# (Where processes are not forked, a script that starts workers needs ``if __name__ == "__main__":``.)

workers = 2 if multiprocessing.get_start_method() == "fork" else 0
loader = DataLoader(Coins(), batch_size=7, num_workers=workers, generator=torch.Generator().manual_seed(3))
batch = next(iter(loader))
print({key: (tuple(x.shape), x.dtype) for key, x in batch.items()})

# %%
# Are the points where the coins are? The centre of a deformed coin is not quite its deformed centre, but it is near.
# Coins that are cut off by the edge do not count.

distances = []
for label, points in zip(batch["label"].numpy(), batch["points"].numpy(), strict=True):
    edge = np.unique(np.concatenate([label[[0, -1]].ravel(), label[:, [0, -1]].ravel()]))
    for number, point in zip(numbers, points, strict=True):
        if number in label and number not in edge:
            distances.append(np.hypot(*(point - np.argwhere(label == number).mean(0))))
print(f"points:  median {np.median(distances):.2f} px from the centre of their coin, at most {max(distances):.2f} px")

# %%
# The picture
# -----------

plt.rc("axes", titlesize=11)
fig, axes = plt.subplots(2, 4, figsize=(12.5, 5.9), layout="constrained")
given = {"image": torch.from_numpy(photograph)[None] / 255, "label": coins, "points": centres}
panels = [given] + [{key: x[i] for key, x in batch.items()} for i in range(7)]
titles = ["given"] + [f"item {i} of the batch" for i in range(7)]
rows, columns = photograph.shape
for ax, panel, title in zip(axes.flat, panels, titles, strict=True):
    ax.imshow(panel["image"][0], cmap="gray", vmin=0, vmax=1)
    ax.contour(np.asarray(panel["label"]) > 0, [0.5], colors="tab:orange", linewidths=1)
    ax.plot(*np.asarray(panel["points"]).T[::-1], "+", color="tab:cyan", markersize=6, markeredgewidth=1.5)
    ax.set(title=title, xlim=(-0.5, columns - 0.5), ylim=(rows - 0.5, -0.5), xticks=[], yticks=[])
lines = [
    plt.Line2D([], [], color="tab:orange", label="outline of the labels"),
    plt.Line2D([], [], color="tab:cyan", marker="+", markersize=8, linestyle="", label="points"),
]
fig.legend(handles=lines, loc="outside lower center", ncols=2, frameon=False)

folder = pathlib.Path("examples/output") if pathlib.Path("examples").is_dir() else pathlib.Path()
folder.mkdir(exist_ok=True)
picture = folder / "augment_torch.png"
fig.savefig(picture, dpi=160)
print(f"picture: {picture.resolve()}")
