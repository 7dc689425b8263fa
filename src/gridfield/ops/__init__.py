"""The primitives, each with its derivative, once, for every framework.

The algebra (batch b, derivative orders k, points n, channels c, axes i; S is the scheme, a text, see scheme.py):

    sample(v, x)_bknc = sum_cells k^(alpha_k)(x - cell) v            linear in v
    splat(y, x)       = the transpose of sample in v                 linear in y
    dot(v, w, x)_bni  = sum_kc w_bknc  d/dx_i sample(v, x)_bknc      linear in v and in w
    warp(v, f, p)     = sample(prefilter(pad(v)), pixels + moved(f) + posed(p))    linear in v
    correlate(v)_i    = sum_k w_k v_(i + k - before)                 linear in v; its transpose has w flipped
    bilinear(x, b, y, c)_mn = (x_m - y_n).(b_m - c_n)                linear in x and y together, in b and c together
    interact(x, y, v)_m = sum_n f(|x_m - y_n|^2) v_n                 linear in v; its transpose has x and y exchanged

and these close under differentiation:

    d sample = sample(dv) + along(dx, v)      along(dx, v)_bknc = sum_i dx_bni sample_up(v)_bkinc
    d splat  = splat(dy)  + push(dx, y)       push(dx, y)       = splat_up(spread(dx, y))
    d dot    = dot(dv, w) + dot(v, dw) + dot_up(v, spread(dx, w))   spread(dx, y)_bkinc = dx_bni y_bknc
    d bilinear = bilinear(dx, b, dy, c) + bilinear(x, db, y, dc)
    d interact = interact(dv) + 2 sum_n f'(q_mn) (x_m - y_n).(dx_m - dy_n) v_n, which is interact_up of v y_k, by steer
    d warp   = warp(dv) + slid(df) + turned(dp)      slid(df) = along(moved(df), c), turned(dp) = along(posed(dp), c)

where `up` is the scheme with one more derivative along each axis. A scheme of waves (scheme.Waves) makes of sample and
splat the non-uniform FFTs of types 2 and 1, under the same rules. In dx, the transpose of along is
ct -> dot(v, ct), that of push is ct -> dot(ct, y). `moved` is the displacement of every pixel that a lattice of spline
coefficients f makes, `posed` the one that a matrix p makes. An op states its `jvp` and, for each argument in which it
is linear, its transpose; `vjp` below derives the reverse mode: it runs the jvp on a symbolic tangent and walks back
over the linear steps that it went through. A framework needs only `run`, `shape`, `jvp`, `vjp` and `batched`.

Where to add one: an op of points, of grids (filters), of images (warps) or of distances stands in the file of that
name, whole: how it is computed, its shape, its derivative and its transposes; `table` lists the files, `reverse`
derives what is not stated, `face` is what frameworks call. face.Face names what the checker of types shall know.
"""

from __future__ import annotations

from .face import Face
from .marks import recipe, static
from .op import Op
from .points import of_waves
from .reverse import batched, derived, vjp
from .table import COMPOSITES, OPS
from .warps import coefficients, exactly, expand, uncoefficients

__all__ = [
    "COMPOSITES",
    "OPS",
    "Face",
    "Op",
    "batched",
    "coefficients",
    "derived",
    "exactly",
    "expand",
    "of_waves",
    "recipe",
    "static",
    "uncoefficients",
    "vjp",
]
