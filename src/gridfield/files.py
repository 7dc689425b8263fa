"""Files of fields: safetensors, with the coefficients as its one tensor and all else as JSON in its metadata."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from typing import Any, NoReturn

import numpy as np

from .extras import needs
from .spline import Spline

VERSION = 1  # of what is written; raised when an older reader would misunderstand it
KEY = "gridfield"  # of the JSON, in the metadata of a file and in the attributes of a labelled array
TENSOR = "coefficients"
PARAMETER = "parameter"  # of a constrained field: what its coefficients are worked out from
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
HEADER = 100_000_000  # bytes: the longest header that the format allows

Array = np.ndarray[Any, Any]


# ---- what a field is, beside its coefficients
def describe(spline: Spline, dtype: str, arguments: dict[str, Any]) -> str:
    """As JSON; floats come back to the bit, as Python writes the shortest digits that do."""
    extra = {name: value for name, value in arguments.items() if value}  # a field without constraints is one anywhere
    return json.dumps({"version": VERSION, "dtype": dtype, "arguments": extra} | spline.to_json(), allow_nan=False)


def understand(text: Any, cls: Any, where: str, what: str) -> tuple[Spline, str, dict[str, Any]]:
    """The spline, the type of the coefficients and further arguments of the class; `what` is what was read."""
    try:
        given = json.loads(text)
        version, arguments = given["version"], dict(given.get("arguments", {}))
        if version == VERSION:
            how = Spline.from_json(given)
            spline = Spline.of(how["shape"], how["kernel"], None, how["boundary"], cls._name)
            spline = spline.labelled(given.get("labels", ()))
            dtype = str(given["dtype"])
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{where}: {what} does not describe a field ({type(error).__name__}: {error})") from None
    if version != VERSION:
        raise ValueError(
            f"{where}: {what} has version {version!r} of the format, but this gridfield reads version {VERSION}: "
            "install a newer one"
        )
    if foreign := [f"{name}={value!r}" for name, value in arguments.items() if name not in cls._stored]:
        raise ValueError(
            f"{where}: {what} describes a field with {', '.join(foreign)}, which {cls._name} does not have"
        )
    return spline, dtype, arguments


# ---- safetensors
def save(field: Any, path: Any) -> None:
    """Write a field's file, whole or not at all."""
    where = f"{field._name}.save"
    path = _path(path, where)
    coefficients, dtype = field._read(where)
    with needs("files"):
        import safetensors.numpy

        if dtype == "bfloat16":
            import ml_dtypes

            coefficients = coefficients.astype(ml_dtypes.bfloat16)  # exact: it was one before it was a float32
    tensors = {TENSOR: np.ascontiguousarray(coefficients)}
    if (parameter := field._parameter()) is not None:
        tensors[PARAMETER] = np.ascontiguousarray(field._face.numpy(parameter), coefficients.dtype)
    arguments = {name: getattr(field, name) for name in field._stored}
    text = describe(field.spline, dtype, arguments)
    data = safetensors.numpy.save(tensors, {KEY: text})
    try:
        _write(path, data)
    except OSError as error:
        _fail(error, where, path)


def load(cls: Any, path: Any, options: dict[str, Any]) -> Any:
    """The field of a file."""
    where = f"{cls._name}.load"
    path = _path(path, where)
    try:
        with open(path, "rb") as file:
            text, data = _parts(file, where, path)
    except OSError as error:
        _fail(error, where, path)
    spline, _, arguments = understand(text, cls, where, path)
    if taken := sorted(
        options.keys() & {"shape", "channels", "kernel", "bounds", "boundary", "periodic", *cls._stored}
    ):
        raise TypeError(f"{where}: {', '.join(taken)} is what the file says, and cannot be given")
    tensors, dtype = _tensors(data, where, path)
    coefficients = tensors[TENSOR]
    if coefficients.shape[1:] != spline.grid.shape or len(coefficients) == 0:
        raise ValueError(
            f"{where}: {path} holds coefficients of shape {coefficients.shape}, which must be (channels, "
            f"*{spline.grid.shape}) by its metadata"
        )
    field = cls._made(spline, coefficients, **(arguments | {"dtype": dtype} | options))
    if PARAMETER in tensors and tensors[PARAMETER].shape == coefficients.shape:
        field._set_parameter(tensors[PARAMETER])
    return field


def _parts(file: Any, where: str, path: str) -> tuple[str, bytes]:
    """Our metadata, and all bytes; of a foreign file no more than its header is read."""
    first = file.read(8)
    size = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= size <= HEADER or (header := file.read(size))[:1] != b"{":
        raise ValueError(f"{where}: {path} is not a safetensors file" + ("" if first else ", but empty"))
    try:
        found = json.loads(header)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{where}: {path} is cut short or damaged: its header cannot be read")
    metadata = found.get("__metadata__")
    if not isinstance(metadata, dict) or KEY not in metadata:
        tensors = ", ".join(sorted(found.keys() - {"__metadata__"})[:5])
        raise ValueError(
            f"{where}: {path} is a safetensors file of something else ({tensors or 'no tensors'}): its metadata has no "
            f"{KEY!r}, which SplineField.save writes"
        )
    return metadata[KEY], first + header + file.read()


def _tensors(data: bytes, where: str, path: str) -> tuple[dict[str, Array], str]:
    """The tensors, and the name of the coefficients' type; bfloat16, which NumPy has not, as float32."""
    with needs("files"):
        import safetensors
    try:
        tensors = dict(safetensors.deserialize(data))
    except safetensors.SafetensorError:
        raise ValueError(f"{where}: {path} is cut short or damaged: its coefficients cannot be read") from None
    if TENSOR not in tensors or not set(tensors) <= {TENSOR, PARAMETER}:
        raise ValueError(f"{where}: {path} must hold one tensor, {TENSOR!r}, but holds {sorted(tensors)}")
    for tensor in tensors.values():
        if tensor["dtype"] not in DTYPES:
            raise ValueError(
                f"{where}: {path} holds coefficients of type {tensor['dtype']}, which must be one of "
                f"{', '.join(DTYPES)}"
            )
    return {name: _decoded(tensor) for name, tensor in tensors.items()}, DTYPES[tensors[TENSOR]["dtype"]]


def _decoded(tensor: dict[str, Any]) -> Array:
    dtype = DTYPES[tensor["dtype"]]
    little = np.frombuffer(tensor["data"], np.dtype("u2" if dtype == "bfloat16" else dtype).newbyteorder("<"))
    native = little.astype(little.dtype.newbyteorder("="))
    if dtype == "bfloat16":
        native = (native.astype(np.uint32) << 16).view(np.float32)
    return native.reshape(tensor["shape"])


def _path(path: Any, where: str) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"{where}: path must be a str or os.PathLike, got {type(path).__name__}") from None


def _fail(error: OSError, where: str, path: str) -> NoReturn:
    """The same error about the user's path, whatever the name that failed."""
    raise OSError(error.errno, f"{where}: {error.strerror}", path) from None


def _write(path: str, data: bytes) -> None:
    """In a file beside it, which then takes its place: a reader sees the old one or the new, never half of one."""
    path = os.path.realpath(path)  # a link stays one
    with contextlib.suppress(FileNotFoundError):
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            if stat.S_ISDIR(mode):
                raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
            raise OSError(errno.EINVAL, "Not a regular file")
    partial = os.path.join(os.path.dirname(path), f".gridfield-{secrets.token_hex(8)}.part")
    try:
        with open(partial, "xb") as file:  # not tempfile, whose files nobody else may read
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(partial)
        raise
