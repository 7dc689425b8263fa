"""Compiling kernels, and keeping them on disk: one file per specialisation, in a folder only the user can write.

Numba's own `cache=True` has one index file per function. Processes that start cold at once and add different
signatures to it were seen to load *wrong code, silently* (4 of 25 rounds); with one file per specialisation and
one signature in it: 0 of 30. It also does not notice edits in helper files, so what a file is valid for is a hash of
all sources of this folder, which is part of the folder's name. The files are pickles: whoever can write them runs code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import stat
import sys
import tempfile
import types as pytypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import njit, types
from numba.core import config
from numba.core.caching import FunctionCache, _CacheLocator
from numba.core.compiler_lock import global_compiler_lock

from ..cached import held_over_fork

held_over_fork(global_compiler_lock)

SOURCES = hashlib.sha256(
    b"".join(p.read_bytes() for p in sorted(Path(__file__).parent.glob("*.py")))
    + f"{numba.__version__} {llvmlite.__version__} {sys.version}".encode()
).hexdigest()


def _user_folder() -> Path:
    """Where caches of this user go on this system; GRIDFIELD_CACHE_DIR goes first."""
    if chosen := os.environ.get("GRIDFIELD_CACHE_DIR"):
        return Path(chosen).absolute()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "gridfield" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gridfield"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gridfield"


def _private(folder: Path) -> bool:
    """Whether the folder is a real one of this user's that nobody else can write, or put another in the place of.

    POSIX: by owner and mode, of the folders above too: who can write one of those can rename what is in it, unless
    its sticky bit is set.
    """
    info = os.lstat(folder)
    if not stat.S_ISDIR(info.st_mode):
        return False
    if not hasattr(os, "getuid"):
        return True
    above = (os.stat(parent) for parent in folder.resolve().parents)
    return (
        info.st_uid == os.getuid()
        and not info.st_mode & 0o022
        and all(not up.st_mode & 0o022 or up.st_mode & stat.S_ISVTX for up in above)
    )


@functools.cache
def folder() -> Path | None:
    """The cache folder, made if need be; None if there is none that only the user can write."""
    try:
        root = _user_folder()
        for parent in reversed(root.parents):  # mkdir(parents=True) makes those by the umask alone
            parent.mkdir(mode=0o755, exist_ok=True)
        root.mkdir(mode=0o700, exist_ok=True)
        place = root / SOURCES[:20]
        place.mkdir(mode=0o700, exist_ok=True)
        if not (_private(root) and _private(place)):
            return None
        with tempfile.TemporaryFile(dir=place):
            return place
    except (OSError, RuntimeError):  # RuntimeError: no home directory
        return None


class _Locator(_CacheLocator):
    """Tells Numba where a function's files are and what they are valid for."""

    def __init__(self, py_func: Callable[..., Any], py_file: str) -> None:
        pass

    def get_cache_path(self) -> str:
        return str(folder())

    def get_source_stamp(self) -> str:
        return SOURCES

    def get_disambiguator(self) -> str:
        return ""

    @classmethod
    def from_function(cls, py_func: Callable[..., Any], py_file: str) -> _Locator | None:
        return cls(py_func, py_file) if folder() else None


class _Cache(FunctionCache):
    """A file that is damaged, gone or not writable is no reason to fail: compile, and go on."""

    class _impl_class(FunctionCache._impl_class):
        _locator_classes = (_Locator,)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled function, or None."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            with contextlib.suppress(OSError):
                os.unlink(self._cache_file._index_path)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep it, if that can be done."""
        with contextlib.suppress(Exception):
            super().save_overload(sig, data)


def compiled(f: Callable[..., Any], label: str, signature: Any, contract: bool = False) -> Callable[..., Any]:
    """f compiled for one signature, from disk where it is there; calling it skips Numba's dispatch (3 us -> 1 us).

    contract: a*b + c of plain code may be one instruction (machine.FLAGS).

    Arrays of any layout may be passed where the signature has layout "A"; other mistakes are not checked.
    """
    if config.DISABLE_JIT:
        return f
    own = pytypes.FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, f.__closure__)
    own.__module__, own.__qualname__ = f.__module__, f"{f.__name__}_{label}"
    dispatcher = njit(
        nogil=True, error_model="numpy", boundscheck=False, fastmath={"contract", "nsz"} if contract else False
    )(own)
    if folder():
        dispatcher._cache = _Cache(own)
    dispatcher.compile(signature)
    return dispatcher.get_overload(signature)


def array(dtype: Any, ndim: int, layout: str = "A") -> types.Array:
    """The Numba type of an array argument; read-only arrays are passed as writable views by the caller."""
    return types.Array(numba.from_dtype(np.dtype(dtype)), ndim, layout)
