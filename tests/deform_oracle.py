"""Elastic deformation from its definition: a dense displacement by SciPy's splines, the map written out, and
map_coordinates. Shares no code with gridfield."""

import numpy as np
from cases import SCIPY_MODE
from scipy import ndimage


def dense(displacement, shape):
    """(ndim, *shape): the interpolating cubic spline through the control points, its ends mirrored."""
    displacement = np.asarray(displacement, float)
    axes = [np.linspace(0, p - 1, n) if n > 1 else [(p - 1) / 2]
            for p, n in zip(displacement.shape[1:], shape, strict=True)]  # fmt: skip
    x = np.meshgrid(*axes, indexing="ij")
    return np.stack([ndimage.map_coordinates(d, x, order=3, mode="mirror") for d in displacement])


def rotation(rotate, ndim):
    """The matrix that turns content."""
    rotate = np.asarray(rotate, float)
    if rotate.ndim == 2:
        return rotate
    out = np.eye(ndim)
    for a, degrees in enumerate(np.atleast_1d(rotate)):
        i, j = (0, 1) if ndim == 2 else {0: (1, 2), 1: (2, 0), 2: (0, 1)}[a]
        turn = np.eye(ndim)
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        turn[i, i], turn[i, j], turn[j, i], turn[j, j] = c, -s, s, c
        out = turn @ out
    return out


def source(displacement, shape, crop=None, affine=None, rotate=None, zoom=None, spacing=1.0):
    """(ndim, *result): where each pixel of the result comes from."""
    ndim = len(shape)
    spacing = np.broadcast_to(spacing, ndim).astype(float)
    crop = crop or [slice(None)] * ndim
    ranges = [range(n)[c] for n, c in zip(shape, crop, strict=True)]
    start, size = np.array([r[0] for r in ranges]), np.array([len(r) for r in ranges])
    u = np.zeros((ndim, *shape)) if displacement is None else dense(displacement, shape)
    u = u[(slice(None), *crop)].reshape(ndim, -1) / spacing[:, None]
    o = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij")).reshape(ndim, -1)
    centre = (size[:, None] - 1) / 2
    p = (o - centre) * spacing[:, None]  # where content is, from the centre: undo the affine map, rotation, zoom
    if affine is not None:
        affine = np.asarray(affine, float)
        if affine.shape[1] > ndim:
            p = p - affine[:ndim, ndim:]
        p = np.linalg.solve(affine[:ndim, :ndim], p)
    if rotate is not None:
        p = np.linalg.solve(rotation(rotate, ndim), p)
    if zoom is not None:
        p = p / np.broadcast_to(zoom, ndim)[:, None]
    return (p / spacing[:, None] + centre + start[:, None] + u).reshape(ndim, *size)


def deform(image, displacement, order=3, mode="constant", cval=0.0, prefilter=True, **how):
    """The image, all of whose axes are deformed."""
    src = source(displacement, image.shape, **how)
    if mode == "reflect":  # see test_scipy.expected
        mode = "wrap"
        for axis in range(image.ndim):
            image = np.concatenate([image, np.flip(image, axis)], axis)
    return ndimage.map_coordinates(image, src, order=order, mode=SCIPY_MODE[mode], cval=cval, prefilter=prefilter)
