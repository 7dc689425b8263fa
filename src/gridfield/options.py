"""The options of the command line: what they are called, how they are read, and which go together."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

BOUNDARIES = ("natural", "nearest", "mirror", "reflect", "wrap", "constant", "grid-constant")
FAR = 1e9  # pixels; beyond, numbers of single precision would overflow
ABOUT = """\
Deform an image elastically: control points on a regular lattice are displaced at random, the pixels between them by
cubic B-splines. Rotation and zoom, about the centre of the result, come on top of that, or alone.
"""
MORE = """\
files:
  .png .jpg .bmp .tif .nii .nii.gz .npy; the extension of OUT says what is written. Type of the numbers, palette,
  resolution, affine map and scaling of the file are kept. Others than .npy need: pip install "gridfield[io]".

axes:
  Deformed are rows and columns of a picture; Z, Y and X of a TIFF that names them; the first three axes of a NIfTI;
  both axes of a .npy of two. All else - channels, times, unnamed pages of a TIFF - is deformed alike, one item
  after the other. --axes says otherwise: by the letters -v shows ("--axes YX": every slice of a stack alike), or by
  numbers from 0 ("--axes 0,1", as a .npy of three axes or more needs). Options that take a number for each axis take
  them in the order of the file (rows before columns; X before Y before Z in a NIfTI).

examples:
  gridfield deform in.png out.png --points 3 --sigma 25 --seed 0
  gridfield deform t1.nii.gz out.nii.gz --sigma 4 --physical --fold-free --label seg.nii.gz seg_out.nii.gz
  gridfield deform stack.tif out.tif --axes YX --rotate 10 --boundary mirror
  gridfield deform in.png out.png --displacement u.npy --crop 10:200,:
"""


class Usage(Exception):
    """A command line that cannot be meant."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise Usage(f"{message} (see {self.prog} --help)")


def _numbers(what: str, allowed: Callable[[float], bool], kind: Any = float) -> Callable[[str], list[Any]]:
    def read(text: str) -> list[Any]:
        try:
            values = [kind(part) for part in text.split(",")]
            if all(abs(v) < float("inf") and allowed(v) for v in values):
                return values
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"must be {what}, or one per axis separated by commas, got {text!r}")

    return read


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number, got {text!r}") from None


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise argparse.ArgumentTypeError(f"must be an integer of 0 or more, got {text!r}")
    return int(text)


def _crop(text: str) -> list[slice]:
    parts = [re.fullmatch(r"\s*(-?\d*)\s*:\s*(-?\d*)\s*", part) for part in text.split(",")]
    if not all(parts):
        raise argparse.ArgumentTypeError(f"must be one slice per axis, as 10:200,: , got {text!r}")
    ends = [[int(end) if end else None for end in part.groups()] for part in parts if part]
    return [slice(*pair) for pair in ends]


def joined(argv: list[str]) -> list[str]:
    """``--rotate -30,5,0`` as one word: argparse would take the numbers for an option."""
    out: list[str] = []
    for word in argv:
        if re.fullmatch(r"-[\d.:][-\d.,:eE+]*", word) and out and re.fullmatch(r"--[a-z-]+", out[-1]):
            out[-1] += f"={word}"
        else:
            out.append(word)
    return out


def parser(deform: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    """What reads the arguments; `deform` is what the command of that name runs."""
    top = _Parser(prog="gridfield", description="Fields on grids, from the command line.")
    top.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    p = commands.add_parser(
        "deform",
        help="deform an image and its labels",
        description=ABOUT,
        epilog=MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    p.set_defaults(run=deform)
    p.add_argument("input", metavar="IN", help="the image")
    p.add_argument("output", metavar="OUT", help="where it goes, deformed")
    g = p.add_argument_group("displacement")
    points = _numbers("an integer of 2 or more", lambda v: v >= 2, int)
    g.add_argument("--points", type=points, metavar="N", help="control points along each axis (default: 3)")
    sigma = _numbers(f"a number from 0 to {FAR:g}", lambda v: 0 <= v <= FAR)
    g.add_argument("--sigma", type=sigma, metavar="S", help="standard deviation of their displacement, in pixels")
    g.add_argument("--physical", action="store_true", help="sigma is in the units of the file (mm in a NIfTI)")
    g.add_argument("--seed", type=_seed, metavar="N", help="the same seed, the same result (default: drawn, and shown)")
    g.add_argument("--fold-free", action="store_true", help="scale it down where need be, until nothing folds")
    g.add_argument("--fixed-border", action="store_true", help="leave the border where it is")
    g.add_argument("--displacement", metavar="U.npy", help="of control points or pixels, in pixels, instead of a draw")
    g.add_argument("--save-displacement", metavar="U.npy", help="keep that of the control points, in pixels")
    g = p.add_argument_group("rotation, zoom, crop")
    real = _numbers("a finite number", lambda v: True)
    g.add_argument(
        "--rotate", type=real, metavar="DEG", help="degrees; in 3-D about each axis, A,B,C; in physical space"
    )
    positive = _numbers("a number from 1e-6 to 1e6", lambda v: 1e-6 <= v <= 1e6)
    g.add_argument("--zoom", type=positive, metavar="Z", help="2 makes everything twice as large")
    g.add_argument(
        "--crop", type=_crop, metavar="A:B,...", help="the part of the result to keep, a slice for each axis"
    )
    g = p.add_argument_group("interpolation")
    g.add_argument("--order", type=int, choices=range(6), default=3, help="of the B-spline; 0: nearest (default: 3)")
    g.add_argument("--boundary", choices=BOUNDARIES, default="constant", help="beyond the image (default: constant)")
    g.add_argument("--cval", type=_number, metavar="V", help="the constant of it (default: 0)")
    g.add_argument("--axes", metavar="AXES", help="the deformed ones, as letters or numbers; see below")
    g = p.add_argument_group("labels")
    g.add_argument(
        "--label", nargs=2, action="append", default=[], metavar=("MASK", "OUT"),
        help="deform this alike, without new values; may be given again",
    )  # fmt: skip
    g.add_argument(
        "--label-kernel", choices=("nearest", "label"), default="nearest",
        help="label: the label whose linearly deformed mask is largest, for smoother edges (default: nearest)",
    )  # fmt: skip
    g.add_argument("--label-cval", type=_number, metavar="V", help="label beyond (default: 0)")
    g = p.add_argument_group("output")
    g.add_argument("--preview", metavar="GRID.png", help="draw before, after, grid and determinant (gridfield[plot])")
    g.add_argument("--overwrite", action="store_true", help="write over files that exist")
    loud = g.add_mutually_exclusive_group()
    loud.add_argument("-v", "--verbose", action="store_true", help="say what is done; errors with their traceback")
    loud.add_argument("-q", "--quiet", action="store_true", help="say nothing but errors, show no progress")
    return top


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"gridfield {importlib.import_module('gridfield').__version__}")
        parser.exit()


def check_consistent(o: argparse.Namespace) -> None:
    """What can be said without opening a file."""
    from . import images

    if o.sigma is None and o.displacement is None and o.rotate is None and o.zoom is None:
        raise Usage("nothing to do: give one of --sigma, --displacement, --rotate, --zoom")
    random = {"--points": o.points, "--seed": o.seed, "--fold-free": o.fold_free, "--fixed-border": o.fixed_border}
    random |= {"--physical": o.physical}
    given = [name for name, value in random.items() if value is not None and value is not False]
    if o.sigma is None and given:
        raise Usage(f"{given[0]} is for random displacements, so it needs --sigma")
    if o.sigma is not None and o.displacement is not None:
        raise Usage("--sigma and --displacement exclude each other")
    if o.save_displacement and o.sigma is None:
        raise Usage("--save-displacement needs --sigma")
    try:
        for path in (o.input, o.output, *(p for pair in o.label for p in pair)):
            images.extension(path)
        for path in (o.displacement, o.save_displacement):
            if path is not None and images.extension(path) != ".npy":
                raise ValueError(f"{path}: a displacement is kept in .npy")
    except ValueError as error:
        raise Usage(str(error)) from None
    for _, path in o.label:
        if images.extension(path) in images.LOSSY:
            raise Usage(f"{path}: JPEG would change labels; write .png")
    if o.preview and not Path(o.preview).suffix:
        raise Usage(f"{o.preview}: the preview needs an extension, as .png")
    written = outputs(o)
    if len({Path(path).resolve() for path in written}) < len(written):
        raise Usage("two of the files to write are the same")
    for path in written:
        folder = Path(path).resolve().parent
        if not folder.is_dir():
            raise FileNotFoundError(f"{path}: there is no folder {folder}")
        if Path(path).is_dir():
            raise IsADirectoryError(f"{path}: is a folder")
        if Path(path).exists() and not o.overwrite:
            raise FileExistsError(f"{path}: exists; --overwrite writes over it")


def outputs(o: argparse.Namespace) -> list[str]:
    """All files that will be written."""
    return [p for p in (o.output, *(out for _, out in o.label), o.save_displacement, o.preview) if p is not None]
