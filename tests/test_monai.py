"""RandElasticDeformd in MONAI's own pipelines, on the volumes that nibabel ships."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, set_track_meta
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, OneOf, RandFlipd, ScaleIntensityd
from monai.utils import set_determinism
from nibabel.testing import data_path
from numpy.testing import assert_allclose, assert_array_equal

import gridfield as gf
from gridfield.monai import RandElasticDeformd

VOLUME = Path(data_path) / "anatomical.nii"  # (33, 41, 25) voxels
KEYS = ["image", "label"]


@pytest.fixture
def label(tmp_path):
    """The labels of the volume, in a file of their own."""
    volume = nibabel.load(VOLUME)
    values = np.asarray(volume.dataobj)
    labels = np.digitize(values, np.quantile(values, [0.5, 0.8])).astype(np.uint8)
    path = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, volume.affine), path)
    return path


def deform(**how):
    return RandElasticDeformd(KEYS, **{"sigma": 3.0, "prob": 1.0, "mode": ["bilinear", "nearest"]} | how)


def pipeline(*steps):
    return Compose([LoadImaged(KEYS), EnsureChannelFirstd(KEYS), *steps])


def test_a_real_volume(label):
    data = {"image": VOLUME, "label": label}
    plain = pipeline()(data)
    step = deform(rotate=10, zoom=(0.9, 1.1), spacing="pixdim")
    out = pipeline(step, ScaleIntensityd("image"), RandFlipd(KEYS, prob=1.0, spatial_axis=0))(data)
    out = Compose([RandFlipd(KEYS, prob=1.0, spatial_axis=0)])(out)  # back
    assert isinstance(out["image"], MetaTensor) and out["image"].shape == plain["image"].shape == (1, 33, 41, 25)
    for key in KEYS:
        assert out[key].meta["filename_or_obj"] == plain[key].meta["filename_or_obj"]
        assert_allclose(out[key].affine, plain[key].affine)
    q = step.params
    assert_allclose(q.spacing, nibabel.load(VOLUME).header.get_zooms(), rtol=1e-6)
    how = {"affine": q.affine.numpy(), "spacing": q.spacing}
    image = gf.deform(plain["image"].numpy(), q.displacement.numpy(), kernel="linear", **how)
    assert_allclose(out["image"], (image - image.min()) / (image.max() - image.min()), atol=1e-5)
    by_hand = gf.deform(plain["label"].numpy(), q.displacement.numpy(), kernel="nearest", **how)
    assert_array_equal(out["label"], by_hand)
    assert set(np.unique(by_hand)) == {0, 1, 2} and (by_hand != plain["label"].numpy()).mean() > 0.05


def test_its_random_state(label):
    data = pipeline()({"image": VOLUME, "label": label})

    def drawn(t, count=3):
        return [t(data)["image"].numpy().copy() for _ in range(count)]

    first = drawn(Compose([deform()]).set_random_state(seed=1))
    again = drawn(Compose([deform()]).set_random_state(seed=1))
    assert_array_equal(first, again)
    assert not any(np.array_equal(first[i], first[j]) for i, j in ((0, 1), (0, 2), (1, 2)))
    state = np.random.RandomState(5)
    a, b = (deform().set_random_state(state=s) for s in (state, np.random.RandomState(5)))
    assert_array_equal(drawn(a, 1), drawn(b, 1))
    assert not np.array_equal(drawn(deform().set_random_state(2), 1), first[:1])


def test_probability():
    data = {"image": torch.ones(1, 6, 7), "label": torch.ones(1, 6, 7)}
    never = deform(prob=0.0)
    out = never(data)
    assert all(out[k] is data[k] for k in KEYS) and never.params.applied is False
    t = deform(prob=0.3, points=2).set_random_state(0)
    happened = []
    for _ in range(400):
        t(data)
        happened.append(t.params.applied)
    assert abs(np.mean(happened) - 0.3) < 0.07
    t = OneOf([deform(), deform(prob=0.0)], weights=[1.0, 0.0])
    assert t(data)["image"].shape == (1, 6, 7) and t.transforms[0].params.applied


@pytest.mark.filterwarnings("ignore:.*fork.*")  # Python warns of forks in a process with threads
def test_in_the_workers_of_its_loader():
    items = [{"image": np.ones((1, 8, 9), np.float32)} for _ in range(6)]

    def run(seed):
        set_determinism(seed)
        try:
            t = RandElasticDeformd("image", sigma=2.0, prob=1.0, mode="bilinear")
            data = CacheDataset(items, t, progress=False, num_workers=None)
            loader = DataLoader(data, batch_size=2, num_workers=2)
            return torch.cat([b["image"] for _ in range(2) for b in loader])
        finally:
            set_determinism(None)

    first, again = run(0), run(0)
    assert torch.equal(first, again)
    assert len(first.reshape(12, -1).unique(dim=0)) == 12


def test_kinds_of_items(rng):
    image = rng.normal(size=(2, 8, 9)).astype("f4")
    data = {"image": image, "label": torch.ones(1, 8, 9, dtype=torch.int64), "name": "cell"}
    t = deform(padding_mode=["border", "zeros"], cval=[0.0, 7])
    out = t(data)
    assert type(out["image"]) is np.ndarray and type(out["label"]) is torch.Tensor and out["name"] == "cell"
    u = t.params.displacement.numpy()
    assert_array_equal(out["image"], gf.deform(image, u, kernel="linear", boundary="nearest"))
    assert_array_equal(out["label"], gf.deform(data["label"].numpy(), u, kernel="nearest", cval=7))
    assert data["image"] is image
    missing = deform(allow_missing_keys=True)
    assert set(missing({"label": data["label"]})) == {"label"} and missing({"other": 1}) == {"other": 1}
    t = RandElasticDeformd("image", sigma=2.0, prob=1.0, mode="bicubic", padding_mode="reflection")
    out = t({"image": image})["image"]
    u = t.params.displacement.numpy()
    assert_array_equal(out, gf.deform(image, u, kernel="catmull_rom", boundary="reflect"))
    set_track_meta(False)
    try:
        assert type(t({"image": torch.from_numpy(image)})["image"]) is torch.Tensor
    finally:
        set_track_meta(True)


def test_labels_that_were_loaded_as_floats(label):
    """Of whole numbers, whose largest deformed indicator wins; they come back as they were."""
    data = pipeline()({"image": VOLUME, "label": label})
    assert data["label"].dtype == torch.float32
    t = deform(mode=["linear", "label"])
    out = t(data)["label"]
    assert isinstance(out, MetaTensor) and out.dtype == torch.float32
    assert out.meta["filename_or_obj"] == data["label"].meta["filename_or_obj"]
    whole = data["label"].numpy().astype(np.int16)
    assert_array_equal(out, gf.deform(whole, t.params.displacement.numpy(), kernel="label"))
    arrays = {"image": data["image"].numpy(), "label": whole.astype(np.float64)}
    again = t(arrays)["label"]
    assert again.dtype == np.float64 and type(again) is np.ndarray
    assert_array_equal(again, gf.deform(whole, t.params.displacement.numpy(), kernel="label"))
    for broken in (0.5, np.nan, np.inf, 1e300):
        with pytest.raises(ValueError, match=r"^gf.monai.RandElasticDeformd: 'label' has dtype .* not only whole"):
            t(arrays | {"label": np.full_like(arrays["label"], broken)})


def test_one_module_for_all_calls(monkeypatch):
    """For each number of axes; also where keys are missing, and any hashable may be one."""
    built = []
    whole = gf.monai._Deform.__init__
    monkeypatch.setattr(gf.monai._Deform, "__init__", lambda self, **how: built.append(how) or whole(self, **how))
    t = RandElasticDeformd(["image", ("a", 1)], sigma=1.0, prob=1.0, mode="linear", allow_missing_keys=True)
    for data in ({"image": IMAGE, ("a", 1): IMAGE}, {("a", 1): IMAGE}, {"image": IMAGE}):
        assert set(t(data)) == set(data)
    assert [how["ndim"] for how in built] == [2]
    t({"image": IMAGE[None]})
    assert [how["ndim"] for how in built] == [2, 3]
    t = RandElasticDeformd("image", sigma=1.0, prob=1.0, mode="linear", spacing="pixdim")
    for size in (1.0, 2.0):
        t({"image": MetaTensor(IMAGE[None], affine=torch.diag(torch.tensor([size, 1, 1, 1])))})
        assert t.params.spacing == (size, 1, 1)


@pytest.mark.parametrize(
    ("how", "error", "says"),
    [
        ({"sigma": -1.0}, ValueError, "sigma -1.0 must hold"),
        ({"points": 1}, ValueError, "points 1 must hold"),
        ({"mode": "foo"}, ValueError, "kernel must be one of"),
        ({"padding_mode": "foo"}, ValueError, "boundary must be one of"),
        ({"cval": "black"}, TypeError, "cval must be a real number"),
        ({"rotate": "much"}, ValueError, "rotate must be an angle"),
        ({"spacing": (1, 2), "sigma": (1, 2, 3)}, ValueError, "spacing has 2 values"),
    ],
)
def test_bad_arguments(how, error, says):
    with pytest.raises(error, match=f"^gf.monai.RandElasticDeformd: .*{says}"):
        RandElasticDeformd("image", **how)


def test_arguments_for_one_number_of_axes():
    for how in ({"rotate": (1, 2, 3)}, {"zoom": [(1, 2)] * 3}, {"sigma": (1, 2, 3)}, {"points": 3}):
        RandElasticDeformd("image", **how)


IMAGE = torch.zeros(1, 8, 9)


@pytest.mark.parametrize(
    ("how", "data", "error", "says"),
    [
        ({"prob": 2}, None, ValueError, "prob must be a number from 0 to 1, got 2"),
        ({"mode": ["linear"]}, None, ValueError, "mode has 1 items, but there are 2 keys"),
        ({"spacing": "mm"}, None, ValueError, "spacing must be numbers or 'pixdim', got 'mm'"),
        ({"sigma": -1}, {"image": IMAGE, "label": IMAGE}, ValueError, "sigma -1 must hold"),
        ({"mode": "smooth"}, {"image": IMAGE, "label": IMAGE}, ValueError, "kernel must be one of"),
        ({"spacing": "pixdim"}, {"image": IMAGE, "label": IMAGE}, TypeError, "'image' is a Tensor, not a MetaTensor"),
        ({}, {"image": IMAGE, "label": IMAGE[:, 1:]}, ValueError, "'label' has the shape .* all axes but the first"),
        ({}, {"image": IMAGE, "label": "a.nii"}, ValueError, "'label' must be an array .*, got str"),
        ({}, {"image": torch.zeros(5), "label": IMAGE}, ValueError, "'image' must be an array .*, got shape"),
    ],
)
def test_bad_input(how, data, error, says):
    with pytest.raises(error, match=f"^gf.monai.RandElasticDeformd: .*{says}"):
        deform(**how)(data)


def test_a_missing_key():
    with pytest.raises(KeyError, match="label"):
        deform()({"image": IMAGE})
