"""ElasticDeform: what is drawn is deform's own, replayed to the bit, and never drawn twice by accident."""

import collections
import copy
import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.utils.data import DataLoader, Dataset

import gridfield as gf
from gridfield.torch import ElasticDeform, ElasticParams

SHAPE = (20, 24)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def a_sample(rng):
    return {
        "image": torch.from_numpy(rng.normal(size=(2, *SHAPE))).float(),
        "label": torch.from_numpy(rng.integers(0, 4, SHAPE)),
        "points": torch.from_numpy(rng.uniform(4, 15, (5, 2))),
        "name": "cell",
        "weights": torch.ones(3),
    }


U_NET = {"rotate": 15, "zoom": (0.9, 1.1), "kernel": "linear"}


# ---- what is applied is what the functions of the library do
def test_a_sample_is_deformed_like_by_hand(rng):
    x = a_sample(rng)
    t = ElasticDeform(3, 2.0, **U_NET, generator=seeded())
    out, q = t(x), t.params
    how = {"affine": q.affine.numpy(), "spacing": q.spacing}
    assert torch.equal(out["image"], gf.deform(x["image"], q.displacement, kernel="linear", **how))
    assert torch.equal(out["label"], gf.deform(x["label"], q.displacement, kernel="nearest", **how))
    assert torch.equal(out["points"], gf.deform_points(x["points"], q.displacement, SHAPE, **how))
    assert out["name"] == "cell" and out["weights"] is x["weights"] and list(out) == list(x)
    assert_allclose(x["points"], gf.deform_points(out["points"], q.displacement, SHAPE, **how, inverse=True), atol=1e-5)
    # the affine map is the rotation and the zoom that can be read
    both = gf.deform(x["image"], q.displacement, kernel="linear", rotate=float(q.rotate), zoom=q.zoom.tolist())
    assert_allclose(out["image"], both, atol=1e-5)


def test_a_point_moves_with_its_spot():
    image = torch.zeros(40, 50)
    image[18:21, 29:32] = 1
    t = ElasticDeform(3, 4.0, rotate=30, zoom=(0.8, 1.3), kernel="linear", fold_free=True)
    for seed in range(5):
        q = t.sample(image, generator=seeded(seed))
        out = t.apply({"image": image, "points": torch.tensor([[19.0, 30.0]])}, q)
        mass = out["image"].sum()
        centre = [(out["image"].sum(1 - a) * torch.arange(image.shape[a])).sum() / mass for a in (0, 1)]
        assert_allclose(out["points"][0], centre, atol=0.3)


def test_axes_of_volumes_and_units(rng):
    volume = torch.from_numpy(rng.normal(size=(2, 7, 8, 9))).float()
    t = ElasticDeform((3, 3, 4), 1.0, spacing=(2.0, 1, 1), rotate=[10, (0, 5), 0], zoom=[(0.9, 1)] * 3, kernel="linear")
    assert t.ndim == 3
    out, q = t(volume), t.params
    assert q.displacement.shape == (3, 3, 3, 4) and q.rotate.shape == q.zoom.shape == (3,)
    assert -10 <= q.rotate[0] <= 10 and 0 <= q.rotate[1] <= 5 and q.rotate[2] == 0 and (q.zoom <= 1).all()
    how = {"rotate": q.rotate.numpy(), "zoom": q.zoom.numpy(), "spacing": (2, 1, 1), "kernel": "linear"}
    assert_allclose(out, gf.deform(volume, q.displacement, **how), atol=1e-5)


def test_the_distribution():
    t = ElasticDeform(4, (2.0, 5.0), 0.3, rotate=(10, 20), zoom=(0.5, 2), batch_axis=0, fixed_border=True)
    q = t.sample((2000, 30, 40), generator=seeded())
    on = torch.tensor(q.applied)
    assert abs(on.float().mean() - 0.3) < 0.04
    inner = q.displacement[on][..., 1:-1, 1:-1]
    assert_allclose(inner.std((0, 2, 3)), [2, 5], rtol=0.05)
    assert (q.displacement[..., 0, :] == 0).all() and (q.displacement[~on] == 0).all()
    assert 10 <= q.rotate[on].min() < 10.2 and 19.8 < q.rotate[on].max() <= 20 and (q.rotate[~on] == 0).all()
    zoom = q.zoom[on, 0].log2()
    assert (q.zoom[:, 0] == q.zoom[:, 1]).all() and abs(zoom.mean()) < 0.06 and -1 <= zoom.min() < zoom.max() <= 1
    assert_array_equal(q.affine[~on], np.broadcast_to(np.eye(2), (int((~on).sum()), 2, 2)))


def test_nothing_folds_with_rotation_and_zoom_either():
    """The Jacobian of where pixels come from is inv(A) + du/dx; without fold_free it does fold."""
    shape, folded = (30, 36), 0
    for fold_free in (True, False):
        t = ElasticDeform(4, 20.0, rotate=180, zoom=(1.5, 3), fold_free=fold_free)
        for seed in range(20):
            q = t.sample(shape, generator=seeded(seed))
            u, pull = gf.displacement_field(q.displacement, shape).numpy(), np.linalg.inv(q.affine.numpy())
            jacobian = np.moveaxis([np.gradient(u[i], axis=(0, 1)) for i in (0, 1)], (0, 1), (2, 3)) + pull
            least = np.linalg.det(jacobian).min()
            assert least > 0 or not fold_free
            folded += least <= 0
    assert folded > 10


# ---- replay
@pytest.mark.parametrize("how", [{}, U_NET], ids=["elastic", "U-Net"])
def test_replay_to_the_bit(how, rng):
    x = a_sample(rng)
    t = ElasticDeform(3, 2.0, **how)
    out = t(x)
    assert out["points"].isfinite().all()  # where it folds, a landmark can have no place
    for q in (t.params, pickle.loads(pickle.dumps(t.params)), copy.deepcopy(t.params), t.params.to("cpu")):
        again = t.apply(x, q)
        assert all(torch.equal(again[k], out[k]) for k in ("image", "label", "points"))
    assert torch.equal(t.apply(x["image"]), out["image"])  # those of the last call
    assert torch.equal(t.apply({"points": x["points"]}, q)["points"], out["points"])  # of part of a sample


def test_one_seed_one_deformation(rng):
    x = torch.from_numpy(rng.normal(size=SHAPE)).float()
    t = ElasticDeform(3, 2.0, p=0.9, **U_NET)
    first = t.sample(x, generator=seeded(5))
    for other in (t.sample(SHAPE, generator=seeded(5)), t.sample([np.int64(7), 2, *SHAPE], generator=seeded(5))):
        assert torch.equal(first.displacement, other.displacement) and torch.equal(first.affine, other.affine)
    # what else is drawn makes no difference, nor does what was
    plain = ElasticDeform(3, 2.0).sample(x, generator=seeded(5))
    assert torch.equal(first.displacement, plain.displacement)
    g, state = seeded(5), seeded(5)
    t.sample(x, generator=g)
    torch.randint(2**63 - 1, (), generator=state)
    assert torch.equal(g.get_state(), state.get_state())  # one number a draw
    threads = gf.get_num_threads()
    try:
        gf.set_num_threads(1)
        one = t.apply(x, first)
    finally:
        gf.set_num_threads(threads)
    assert torch.equal(t.apply(x, first), one)


def test_sources_of_randomness(rng):
    t = ElasticDeform(3, 2.0)
    torch.manual_seed(3)
    a, b = t.sample(SHAPE), t.sample(SHAPE)
    torch.manual_seed(3)
    assert torch.equal(t.sample(SHAPE).displacement, a.displacement)
    assert not torch.equal(a.displacement, b.displacement)
    state = torch.get_rng_state()
    own = ElasticDeform(3, 2.0, generator=seeded())
    one = own.sample(SHAPE)
    assert torch.equal(torch.get_rng_state(), state)  # torch's own is left alone
    assert not torch.equal(own.sample(SHAPE).displacement, one.displacement)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    t(torch.zeros(2, *SHAPE))
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    with torch.device("meta"):  # a default device has no say
        assert torch.equal(ElasticDeform(3, 2.0, generator=seeded()).sample(SHAPE).displacement, one.displacement)


def test_pickle_and_copy_go_on_alike(rng):
    x = a_sample(rng)
    t = ElasticDeform(3, 2.0, **U_NET, generator=seeded())
    t(x)
    others = pickle.loads(pickle.dumps(t)), copy.deepcopy(t)
    for other in others:
        assert torch.equal(other.params.displacement, t.params.displacement)
    out = t(x)
    assert all(torch.equal(other(x)["image"], out["image"]) for other in others)


# ---- probability
def test_not_applied_is_the_identity(rng):
    x = a_sample(rng)
    t = ElasticDeform(p=0, **U_NET)
    out = t(x)
    assert all(out[k] is x[k] for k in x)
    assert t.params.applied is False and t(x["image"]) is x["image"]
    by_hand = gf.deform(x["image"], t.params.displacement, affine=t.params.affine.numpy(), kernel="linear")
    assert_allclose(by_hand, x["image"], atol=1e-6)  # the params say so too


# ---- batches
@pytest.mark.parametrize(("axis", "p"), [(0, 1.0), (0, 0.5), (1, 0.5)])
def test_items_of_a_batch_are_single_draws(axis, p, rng):
    shape = (5, 2, *SHAPE) if axis == 0 else (2, 5, *SHAPE)
    image = torch.from_numpy(rng.normal(size=shape)).float()
    label = torch.from_numpy(rng.integers(0, 4, (5, *SHAPE) if axis == 0 else (1, 5, *SHAPE)))
    points = torch.from_numpy(rng.uniform(4, 15, (5, 3, 2)))
    t = ElasticDeform(3, 2.0, p, **U_NET, batch_axis=axis)
    q = t.sample(image, generator=seeded(1))
    assert p == 1 or len(set(q.applied)) == 2
    out = t.apply({"image": image, "label": label, "points": points}, q)
    single, g = ElasticDeform(3, 2.0, p, **U_NET), seeded(1)
    for i in range(5):
        one = single.sample(SHAPE, generator=g)
        assert one.applied == q[i].applied
        assert torch.equal(one.displacement, q[i].displacement) and torch.equal(one.affine, q[i].affine)
        x = {"image": image.select(axis, i), "label": label.select(axis, i)}
        for y in (single.apply(x, one), t.apply(x, q[i])):
            assert all(torch.equal(y[k], out[k].select(axis, i)) for k in x)
        assert_allclose(t.apply({"points": points[i]}, q[i])["points"], out["points"][i], atol=1e-6)
    assert not torch.equal(q[0].displacement, q[1].displacement)


def test_a_batch_of_none_and_of_one(rng):
    t = ElasticDeform(3, 2.0, rotate=5, batch_axis=0, kernel="linear")
    assert t(torch.zeros(0, 3, *SHAPE)).shape == (0, 3, *SHAPE)
    assert t.params.batch == 0 and t.params.displacement.shape == (0, 2, 3, 3)
    one = torch.from_numpy(rng.normal(size=(1, 2, *SHAPE))).float()
    assert torch.equal(t(one)[0], t.apply(one[0], t.params[0]))


def test_without_batch_axis_all_alike(rng):
    x = torch.from_numpy(rng.normal(size=SHAPE)).float()
    out = ElasticDeform(3, 2.0)(x.expand(2, *SHAPE))
    assert (out == out[0]).all() and not torch.equal(out[0], x)


# ---- kinds of samples
def test_numpy_in_numpy_out(rng):
    x = a_sample(rng)
    arrays = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in x.items()}
    arrays["image"].flags.writeable = False
    t = ElasticDeform(3, 2.0, **U_NET)
    out = t(arrays)
    for key in ("image", "label", "points"):
        assert type(out[key]) is np.ndarray and out[key].dtype == arrays[key].dtype
        assert_array_equal(out[key], t.apply(x)[key])
    flipped = arrays["image"][0, ::-1].astype(">f8").astype(np.uint16)
    assert t(flipped).dtype == np.uint16


def test_tuples_lists_and_several_arguments(rng):
    x = a_sample(rng)
    image, label = x["image"], x["label"]
    t = ElasticDeform(3, 2.0, labels=1, kernel={0: "linear", 1: "label"})
    out = t(image, label, 7)
    assert type(out) is tuple and out[2] == 7
    assert torch.equal(out[1], gf.deform(label, t.params.displacement, kernel="label"))
    as_list = t.apply([image, label, 7])
    assert type(as_list) is list and torch.equal(as_list[0], out[0])
    Pair = collections.namedtuple("Pair", "x y")
    pair = t.apply(Pair(image, label))
    assert type(pair) is Pair and torch.equal(pair.y, out[1])
    image_and_class = ElasticDeform(3, 2.0)((image, torch.tensor(3)))
    assert image_and_class[1] == 3 and image_and_class[0].shape == image.shape


def test_options_of_each_item(rng):
    x = a_sample(rng) | {"depth": torch.from_numpy(rng.normal(size=SHAPE)).float()}
    t = ElasticDeform(
        3, 30.0, images=["image", "depth"], kernel={"depth": "linear"}, cval={"depth": -1.0, "label": 9}, keep="mask"
    )
    mask = torch.ones(SHAPE)
    out, u = t(x | {"mask": mask}), t.params.displacement
    assert torch.equal(out["depth"], gf.deform(x["depth"], u, kernel="linear", cval=-1))
    assert torch.equal(out["image"], gf.deform(x["image"], u))
    assert torch.equal(out["label"], gf.deform(x["label"], u, kernel="nearest", cval=9)) and (out["label"] == 9).any()
    assert out["mask"] is mask
    # a number is for images: what is beyond them is no label
    plain = ElasticDeform(3, 30.0, cval=-1000.0)
    assert plain(x | {"depth": 0})["label"].min() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.uint8, torch.int16, torch.bool])
def test_types_stay(dtype, rng):
    x = torch.from_numpy(rng.integers(0, 2, SHAPE)).to(dtype)
    t = ElasticDeform(3, 2.0, **U_NET)
    out = t(x)
    assert out.dtype == dtype and torch.equal(out, t.apply(x))
    points = torch.tensor([[5, 6], [7, 8]])
    assert t.apply({"points": points})["points"].dtype == torch.float64
    assert ElasticDeform(p=0)({"image": x, "points": points})["points"].dtype == torch.float64  # as if applied


def test_no_points(rng):
    t = ElasticDeform(3, 2.0, **U_NET)
    out = t({"image": torch.zeros(SHAPE), "points": torch.zeros(0, 2)})
    assert out["points"].shape == (0, 2)
    each = ElasticDeform(3, 2.0, batch_axis=0, kernel="linear")
    assert each({"image": torch.zeros(3, *SHAPE), "points": torch.zeros(3, 0, 2)})["points"].shape == (3, 0, 2)


def test_sigma_zero_leaves_things_where_they_are(rng):
    x = a_sample(rng)
    out = ElasticDeform(3, 0)(x)
    assert_allclose(out["image"], x["image"], atol=1e-5)
    assert torch.equal(out["label"], x["label"])


def test_gradients(rng):
    x = torch.from_numpy(rng.normal(size=(4, *SHAPE))).requires_grad_()
    t = ElasticDeform(3, 2.0, 0.5, batch_axis=0, kernel="linear")
    q = t.sample(x, generator=seeded(1))
    assert len(set(q.applied)) == 2
    ct = torch.from_numpy(rng.normal(size=x.shape))
    t.apply(x, q).backward(ct)
    for i in range(4):
        u = q[i].displacement.numpy()
        expected = gf.deform_gradient(ct[i].numpy(), x[i].detach().numpy(), u, kernel="linear")[0]
        assert_allclose(x.grad[i], expected if q[i].applied else ct[i], atol=1e-12)


class Tagged(torch.Tensor):
    """As images of torchvision and MONAI are."""


def test_subclasses_of_tensors_stay(rng):
    x = torch.zeros(2, *SHAPE).as_subclass(Tagged)
    x.tag = [1]
    out = ElasticDeform(3, 2.0)(x)
    assert type(out) is Tagged and out.tag == [1] and out.tag is not x.tag
    assert type(ElasticDeform(3, 2.0)(torch.nn.Parameter(torch.zeros(2, *SHAPE)))) is torch.Tensor


@pytest.mark.filterwarnings("ignore:gridfield has no .* kernel:UserWarning")  # the reference runs, as on a GPU
def test_on_the_device_of_each_item(rng):
    x = a_sample(rng)
    x["image"] = x["image"].to("meta")
    for t in (ElasticDeform(3, 2.0, **U_NET), ElasticDeform(3, 2.0, 0.5, **U_NET, batch_axis=0)):
        image = x["image"] if t.batch_axis is None else x["image"].expand(6, 2, *SHAPE)
        assert t(image).device.type == "meta" and t(image).shape == image.shape
        assert t.params.displacement.device.type == t.params.to("cpu").displacement.device.type == "cpu"
    out = ElasticDeform(3, 2.0, **U_NET)(x)
    assert [out[k].device.type for k in ("image", "label", "points")] == ["meta", "cpu", "cpu"]


# ---- where it is used
def test_as_a_step_of_a_network():
    net = torch.nn.Sequential(ElasticDeform(3, 2.0, batch_axis=0), torch.nn.Conv2d(2, 1, 3))
    seen = []
    net.apply(seen.append)
    assert len(seen) == 3 and len(net.state_dict()) == 2
    net(torch.zeros(2, 2, *SHAPE)).sum().backward()
    assert net.eval()[0].params.batch == 2
    assert "ElasticDeform(points=3, sigma=2.0, p=1.0, ndim=2, batch_axis=0)" in repr(net)
    assert "rotate=15, zoom=(0.9, 1.1), kernel='linear', labels=('mask',)" in repr(
        ElasticDeform(labels="mask", **U_NET)
    )


class Samples(Dataset):
    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 8

    def __getitem__(self, i):
        out = self.transform(torch.ones(8, 8))
        return {"image": out, "displacement": self.transform.params.displacement}


def drawn(transform, epochs=2, **how):
    """The displacements of each epoch."""
    loader = DataLoader(Samples(transform), batch_size=2, **how)
    return [torch.cat([b["displacement"] for b in loader]) for _ in range(epochs)]


@pytest.mark.parametrize("own", [False, True], ids=["torch's generator", "its own"])
@pytest.mark.parametrize("persistent", [False, True], ids=["anew", "persistent"])
@pytest.mark.filterwarnings("ignore:.*fork.*")  # Python warns of forks in a process with threads
def test_workers_draw_what_no_other_has_drawn(own, persistent):
    def run(seed):
        t = ElasticDeform(3, 2.0, kernel="linear", generator=seeded(7) if own else None)
        return drawn(t, num_workers=2, persistent_workers=persistent, generator=seeded(seed))

    first, again, other = run(0), run(0), run(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    every = torch.cat(first + other)
    assert len(every) == 32 and len(every.reshape(32, -1).unique(dim=0)) == 32


@pytest.mark.slow  # seconds, to import torch in new processes
def test_workers_that_are_spawned():
    def run():
        t = ElasticDeform(3, 2.0, kernel="linear", generator=seeded(7))
        return drawn(t, 1, num_workers=2, multiprocessing_context="spawn", generator=seeded())[0]

    first = run()
    assert torch.equal(first, run()) and len(first.reshape(8, -1).unique(dim=0)) == 8


def test_in_the_process_of_the_loader():
    a, b = drawn(ElasticDeform(3, 2.0, kernel="linear", generator=seeded(7)), num_workers=0)
    assert len(torch.cat([a, b]).reshape(16, -1).unique(dim=0)) == 16
    c, _ = drawn(ElasticDeform(3, 2.0, kernel="linear", generator=seeded(7)), num_workers=0)
    assert torch.equal(a, c)


@pytest.mark.slow
def test_compiled_with_given_params(rng):
    x = torch.from_numpy(rng.normal(size=(2, *SHAPE))).float()
    t = ElasticDeform(3, 2.0, **U_NET)
    q = t.sample(x)
    affine = q.affine.float()
    how = {"fullgraph": True, "backend": "aot_eager"}
    torch.compiler.reset()
    f = torch.compile(lambda x: gf.deform(x, q.displacement, affine=affine, kernel="linear") * 2, **how)
    assert_allclose(f(x), 2 * t.apply(x, q), atol=1e-5)


# ---- bad input
@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"p": 1.5}, ValueError, "p 1.5 must hold a number from 0 to 1"),
        ({"p": float("nan")}, ValueError, "p nan"),
        ({"p": "often"}, TypeError, "p 'often'"),
        ({"sigma": -1}, ValueError, "sigma -1 must hold a finite number of 0 or more"),
        ({"sigma": (1, 2, 3), "points": (3, 3)}, ValueError, "sigma has 3 values"),
        ({"points": 1}, ValueError, "points 1 must hold an integer of 2 or more"),
        ({"points": (3, 3, 3), "ndim": 2}, ValueError, "points has 3 values"),
        ({"ndim": 0}, ValueError, "ndim 0"),
        ({"batch_axis": -1}, ValueError, "batch_axis -1"),
        ({"rotate": "much"}, ValueError, "rotate must be an angle"),
        ({"rotate": (20, 10)}, ValueError, "rotate must be an angle"),
        ({"rotate": (1, 2, 3)}, ValueError, "rotate must be an angle"),
        ({"rotate": 10, "ndim": 1}, ValueError, "rotate is for 2 or 3 axes, not for 1"),
        ({"zoom": 1.2}, ValueError, r"zoom must be \(least, largest\)"),
        ({"zoom": (0, 1)}, ValueError, r"zoom must be \(least, largest\)"),
        ({"zoom": [(0.9, 1)] * 3}, ValueError, "one such pair for each of 2 axes"),
        ({"fold_free": 1}, TypeError, "fold_free must be True or False"),
        ({"spacing": 0}, ValueError, "spacing 0"),
        ({"kernel": "cubik"}, ValueError, "kernel must be one of"),
        ({"kernel": {"mask": "nearest"}}, ValueError, "kernel has the keys .'mask'., but images and labels are"),
        ({"boundary": {"image": "zeros"}}, ValueError, "boundary"),
        ({"cval": "black"}, TypeError, "cval must be a real number"),
        ({"labels": 1.5}, TypeError, "labels must be a key"),
        ({"images": "x", "labels": ["x"]}, ValueError, "name something twice"),
        ({"generator": 0}, TypeError, "generator must be a torch.Generator, got int"),
    ],
)
def test_bad_arguments(how, error, says):
    with pytest.raises(error, match=f"^gf.torch.ElasticDeform: .*{says}"):
        ElasticDeform(**how)


IMAGE, LABEL = torch.zeros(3, *SHAPE), torch.zeros(SHAPE, dtype=torch.int64)


@pytest.mark.parametrize(
    ("how", "sample", "error", "says"),
    [
        ({}, torch.zeros(5), ValueError, "must have 2 axes or more"),
        ({}, torch.zeros(0, 5), ValueError, "not empty"),
        ({}, "image.png", TypeError, "must be a tensor or a NumPy array, got str"),
        ({}, {"image": [[1.0]]}, TypeError, "images 'image' must be a tensor"),
        ({}, {"img": IMAGE}, ValueError, "nothing to deform among .'img'."),
        ({}, {}, ValueError, "nothing to deform"),
        ({}, {"points": torch.zeros(3, 2)}, ValueError, "neither an image nor a label"),
        ({}, {"image": IMAGE, "mask": LABEL}, ValueError, "'mask' has the size of the image .* is not named"),
        ({}, (IMAGE, LABEL), ValueError, "1 has the size of the image"),
        ({"labels": "mask"}, {"image": IMAGE}, ValueError, "labels names 'mask', but the sample has .'image'."),
        ({}, {"image": IMAGE, "label": torch.zeros(5, 5)}, ValueError, "the last 2 axes must be alike"),
        ({}, {"image": IMAGE[:2], "points": torch.zeros(4, 3)}, ValueError, r"must be \(\*pts, 2\)"),
        ({}, np.zeros((9, 8, 3)), ValueError, r"images 0 has the shape \(9, 8, 3\), .*: move the channels first"),
        ({}, {"image": np.zeros((2, 9, 8, 4))}, ValueError, "images 'image' .* whose last axis may be colours"),
        ({"batch_axis": 1}, IMAGE, ValueError, "leaves no batch_axis 1"),
        ({"batch_axis": 0}, {"image": IMAGE, "label": LABEL}, ValueError, "leaves no batch_axis 0"),
        ({"batch_axis": 0, "kernel": "linear"}, {"image": IMAGE, "points": torch.zeros(4, 2)}, ValueError,
         "params are of a batch of 3"),
    ],
)  # fmt: skip
def test_bad_samples(how, sample, error, says):
    with pytest.raises(error, match=f"^gf.torch.ElasticDeform: .*{says}"):
        ElasticDeform(**how)(sample)


def test_colours_last_when_it_is_meant():
    """Few rows, tensors, or a number of axes that is given."""
    for how, x in (
        ({}, np.zeros((3, 8, 3))), ({}, np.zeros((9, 3))), ({}, torch.zeros(9, 8, 3)),
        ({"ndim": 2}, np.zeros((9, 8, 3))), ({"points": (3, 3)}, np.zeros((9, 8, 3))),
    ):  # fmt: skip
        assert ElasticDeform(sigma=1.0, kernel="linear", **how)(x).shape == x.shape


def test_errors_of_deform_name_the_item():
    t = ElasticDeform(3, 2.0, kernel={"label": "label"})
    with pytest.raises(TypeError, match=r"kernel 'label' needs integers, but images\['label'\] has dtype float32"):
        t({"image": IMAGE, "label": LABEL.float()})


def test_bad_params():
    t, each = ElasticDeform(3, 2.0), ElasticDeform(3, 2.0, batch_axis=0)
    with pytest.raises(TypeError, match="params must be ElasticParams"):
        t.apply(IMAGE)
    with pytest.raises(TypeError, match="params must be ElasticParams"):
        t.apply(IMAGE, {"displacement": 0})
    with pytest.raises(ValueError, match="params are for images of shape"):
        t.apply(torch.zeros(5, 5), t.sample(IMAGE))
    with pytest.raises(ValueError, match="params are of a batch of 3 along axis 0"):
        each.apply(torch.zeros(2, *SHAPE), each.sample(IMAGE))
    with pytest.raises(ValueError, match="params are of a batch of 3, but there is no batch_axis"):
        t.apply(IMAGE, each.sample(IMAGE))
    with pytest.raises(ValueError, match="but ndim is 2"):
        t.apply(IMAGE, ElasticDeform(ndim=3).sample(IMAGE))
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, got int"):
        t.sample(IMAGE, generator=0)
    with pytest.raises(TypeError, match="of one deformation"):
        t.sample(IMAGE)[0]
    assert isinstance(each.sample(IMAGE)[2], ElasticParams)
