"""Kernels on disk: found again, never stale, never another's; only where the user alone can write; else not at all."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import gridfield
from gridfield.cpu import cache

SOURCE = Path(gridfield.__file__).parent
posix = pytest.mark.skipif(os.name != "posix", reason="owner and mode are notions of POSIX")

# Samples and splats with kernels of its own, each made of a number, and checks the results by the definition; prints
# the cache folder and how many kernels were compiled. Arguments: a number, code to run after it, more numbers.
PROBE = """
import sys
import numpy as np
import numba.core.event as event
import gridfield as gf
from gridfield.cpu import cache

recorder = event.RecordingListener()
event.register("numba:compile", recorder)


def check(number):
    kernel = gf.Kernel([[0.5, -0.25 * number], [0.25, number]], name=f"kernel {number}")
    values, points = np.linspace(0, 1, 300) ** 2, np.linspace(0.1, 298.9, 20)[:, None]
    weights = kernel(points - np.arange(300))
    got = gf.sample(values, points, kernel=kernel, boundary="grid-constant", prefilter=False)
    np.testing.assert_allclose(got, weights @ values, atol=1e-12)
    grid = gf.splat(got, points, gf.Grid.pixels(300), kernel=kernel, boundary="grid-constant")
    np.testing.assert_allclose(grid, got @ weights, atol=1e-12)


first, middle, *rest = sys.argv[1:]
check(float(first))
exec(middle)
for number in rest:
    check(float(number))
names = {event.data["dispatcher"].py_func.__qualname__ for _, event in recorder.buffer}
print(cache.folder(), sum(name.startswith(("_sample", "_splat")) for name in names))
"""


def start(folder, *numbers, middle="", **environment):
    environment = {**os.environ, "GRIDFIELD_CACHE_DIR": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROBE, str(numbers[0]), middle, *map(str, numbers[1:])],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process):
    """(cache folder or "None", number of functions compiled)."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert err == ""
    folder, compiled = out.rsplit(maxsplit=1)
    return folder, int(compiled)


def run(folder, *numbers, **more):
    return finish(start(folder, *numbers, **more))


def files(folder):
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in Path(folder).rglob("*") if p.is_file()}


def test_a_second_process_compiles_nothing(tmp_path):
    place, compiled = run(tmp_path / "cache", 1)
    assert compiled == 2 and Path(place).parent == tmp_path / "cache"
    before = files(place)
    assert len(before) >= 4
    # a kernel that differs in one number is another kernel
    assert run(tmp_path / "cache", 1, 2) == (place, 2)
    after = files(place)
    assert {path: after[path] for path in before} == before and len(after) > len(before)
    if os.name == "posix":
        assert {stat.S_IMODE(os.stat(p).st_mode) for p in (place, tmp_path / "cache")} == {0o700}


@pytest.mark.slow
def test_sources_that_changed_have_another_folder(tmp_path):
    copy = tmp_path / "package" / "gridfield"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    path = {"PYTHONPATH": os.pathsep.join([str(copy.parent), os.environ.get("PYTHONPATH", "")])}
    first, compiled = run(tmp_path / "cache", 1, **path)
    assert compiled > 0
    with (copy / "cpu" / "taps.py").open("a") as f:
        f.write("# another version\n")
    second, compiled = run(tmp_path / "cache", 1, **path)
    assert second != first and Path(second).parent == Path(first).parent
    assert compiled > 0


@pytest.mark.parametrize(
    "turn", [pytest.param(k, marks=pytest.mark.slow) for k in range(11)], ids=lambda k: f"round {k}"
)
def test_processes_that_start_cold_at_once(turn, tmp_path):
    """All make the same folder and write different kernels into it, one of them the same for all."""
    numbers = [(k + 10 * turn, 5) for k in range(3)]
    for process in [start(tmp_path / "cache", *n) for n in numbers]:
        folder, _ = finish(process)
        assert Path(folder).parent == tmp_path / "cache"
    # and what they left is whole, and right
    everything = {n for row in numbers for n in row}
    assert run(tmp_path / "cache", *everything) == (folder, 0)


# ---- where kernels are not kept --------------------------------------------------------------------------------------
@pytest.fixture
def folder(monkeypatch):
    """cache.folder as a new process would find it."""

    def find(chosen):
        monkeypatch.setenv("GRIDFIELD_CACHE_DIR", str(chosen))
        return cache.folder.__wrapped__()

    return find


def test_a_folder_is_made(tmp_path, folder):
    place = folder(tmp_path / "some" / "where")
    assert place == folder(tmp_path / "some" / "where") and place.parent == tmp_path / "some" / "where"
    assert place.is_dir() and not list(place.iterdir())


@posix
@pytest.mark.parametrize("mode", (0o777, 0o770, 0o702, 0o720))
def test_a_folder_others_can_write_is_refused(mode, tmp_path, folder):
    place = folder(tmp_path / "cache")
    for open_one in (tmp_path / "cache", place):
        open_one.chmod(mode)
        assert folder(tmp_path / "cache") is None
        open_one.chmod(0o755)
        assert folder(tmp_path / "cache") == place


@posix
def test_a_folder_below_one_that_others_can_write_is_refused(tmp_path, folder):
    """They could put another in its place; but not where the sticky bit is set, as in /tmp."""
    above = tmp_path / "above"
    above.mkdir()
    above.chmod(0o777)
    assert folder(above / "cache") is None
    above.chmod(0o1777)
    assert folder(above / "other") is not None


@posix
def test_folders_on_the_way_are_made_for_the_user_alone(tmp_path, folder):
    before = os.umask(0)
    try:
        assert folder(tmp_path / "a" / "b" / "cache") is not None
    finally:
        os.umask(before)
    assert not stat.S_IMODE(os.stat(tmp_path / "a").st_mode) & 0o022


def test_a_symlink_is_refused(tmp_path, folder):
    real = tmp_path / "real"
    place = folder(real)
    (tmp_path / "cache").symlink_to(real)
    assert folder(tmp_path / "cache") is None
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert folder(real) is None


@posix
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can give files away")
def test_a_folder_of_another_user_is_refused(tmp_path, folder):
    place = folder(tmp_path / "cache")
    os.chown(place, 12345, 12345)
    assert folder(tmp_path / "cache") is None


def test_a_folder_that_cannot_be_made(tmp_path, folder):
    (tmp_path / "file").write_text("not a folder")
    for chosen in (tmp_path / "file", tmp_path / "file" / "below"):
        assert folder(chosen) is None


@posix
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path, folder):
    (tmp_path / "cache").mkdir(mode=0o500)
    assert folder(tmp_path / "cache") is None


@pytest.mark.slow
@posix
def test_without_a_folder_everything_works(tmp_path):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert run(shared, 1) == ("None", 2)
    assert not files(shared)


# ---- when the disk is not what it was --------------------------------------------------------------------------------
@pytest.mark.slow
def test_a_folder_that_breaks_while_in_use(tmp_path):
    """Gone, then a file in its place: the next kernel works, kept or not."""
    gone = "import shutil; shutil.rmtree(cache.folder()); "
    run(tmp_path / "cache", 1, 3, middle=gone + "check(2.0); " + gone + "open(cache.folder(), 'w').close()")


@pytest.mark.slow
def test_files_that_are_damaged(tmp_path):
    """A full disk, a crash: what cannot be read is compiled anew, and replaced."""
    place, _ = run(tmp_path / "cache", 1)
    for damage in (lambda b: b"", lambda b: b[: len(b) // 2], lambda b: bytes(len(b))):
        for path in Path(place).glob("taps*"):
            path.write_bytes(damage(path.read_bytes()))
        assert run(tmp_path / "cache", 1) == (place, 2)
    assert run(tmp_path / "cache", 1) == (place, 0)


@pytest.mark.slow
def test_a_relative_folder_does_not_move_with_the_process(tmp_path, monkeypatch):
    """Else a folder of that name in whatever directory the process visits would be trusted, pickles and all."""
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run("relative", 1, 2, middle=f"import os; os.chdir({str(elsewhere)!r})")
    assert not files(elsewhere)


def test_the_usual_places(tmp_path, monkeypatch):
    monkeypatch.setenv("GRIDFIELD_CACHE_DIR", str(tmp_path / "mine"))
    assert cache._user_folder() == tmp_path / "mine"
    monkeypatch.delenv("GRIDFIELD_CACHE_DIR")
    if sys.platform == "linux":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        assert cache._user_folder() == tmp_path / "xdg" / "gridfield"
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert cache._user_folder() == tmp_path / ".cache" / "gridfield"
