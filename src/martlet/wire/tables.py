"""Keys and vectors in binary, as the body of a request and back: ``.npy`` after ``.npy``, or npz.

A body is two arrays as ``numpy.save`` writes them, the keys [n] and then the vectors [n, dim]; or
an ``.npz`` with ``keys`` and ``vectors``.
"""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput

CONTENT_TYPE = b"application/x-npy"

_NPY, _ZIP = b"\x93NUMPY", b"PK"


def is_binary(body: bytes) -> bool:
    """Whether *body* begins as one of the two forms does."""
    return body.startswith((_NPY, _ZIP))


def read_arrays(body: bytes, most_bytes: int) -> tuple[NDArray[Any], ...]:
    """
    Return the arrays of *body*: one, the keys; or keys and vectors. They are not copied.

    Args:
        most_bytes: That an npz may hold once it is unpacked.

    Raises:
        InvalidInput: it is neither form, or is cut short.
    """
    if not body.startswith(_ZIP):
        keys, end = _array(body, 0, "the first array")
        if end == len(body):
            return (keys,)
        vectors, end = _array(body, end, "the second array")
        if end != len(body):
            raise InvalidInput(f"{len(body) - end} bytes follow the two arrays")
        return keys, vectors
    try:
        with zipfile.ZipFile(io.BytesIO(body)) as file:
            if sum(each.file_size for each in file.infolist()) > most_bytes:
                raise InvalidInput(f"the npz holds more than {most_bytes} bytes")
            names = [name for name in ("keys", "vectors") if f"{name}.npy" in file.namelist()]
            if not names or names[0] != "keys":
                raise InvalidInput("the npz holds no 'keys'")
            return tuple(_array(file.read(f"{name}.npy"), 0, repr(name))[0] for name in names)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError) as exc:
        raise InvalidInput(f"the body is not an npz: {exc}") from None


def write_arrays(*arrays: NDArray[Any]) -> bytes:
    """Return *arrays* one after the other, as ``numpy.save`` writes each."""
    out = io.BytesIO()
    for array in arrays:
        if array.dtype == object:
            array = np.array([str(each) for each in array.tolist()])
        np.save(out, array, allow_pickle=False)
    return out.getvalue()


def _array(body: bytes, start: int, what: str) -> tuple[NDArray[Any], int]:
    stream = io.BytesIO(body)
    stream.seek(start)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise ValueError(f"version {version} of the format is not read")
        shape, fortran, dtype = read(stream)
        if dtype.hasobject or dtype.kind not in "iufUS" or (fortran and len(shape) > 1):
            raise ValueError(f"{dtype} is not a plain array of rows")
        count, at = int(np.prod(shape, dtype=object)), stream.tell()
        found = np.frombuffer(body, dtype, count, at).reshape(shape)
    except (ValueError, SyntaxError, TypeError, OverflowError, EOFError) as exc:
        raise InvalidInput(f"{what} is not an array as numpy.save writes it: {exc}") from None
    return found, at + found.nbytes
