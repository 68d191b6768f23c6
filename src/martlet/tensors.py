"""Named arrays, and the signature that says which of them a model takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.errors import InvalidInput

Tensor = NDArray[Any]
"""One array. Strings are an object array of ``str`` or UTF-8 ``bytes`` (``None``: missing)."""

Tensors = Mapping[str, Tensor]


class DType(Enum):
    """What a tensor's elements are; the value is the name that messages and the API use."""

    BOOL = "bool"
    INT8 = "int8"
    INT16 = "int16"
    INT32 = "int32"
    INT64 = "int64"
    UINT8 = "uint8"
    UINT16 = "uint16"
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT16 = "float16"
    FLOAT32 = "float32"
    FLOAT64 = "float64"
    COMPLEX64 = "complex64"
    COMPLEX128 = "complex128"
    STRING = "string"

    # Enum's own is computed in Python at every look-up; members are themselves alone.
    __hash__ = object.__hash__

    numpy: np.dtype[Any]
    """The numpy dtype that holds it."""

    def __init__(self, text: str) -> None:
        # An attribute, not a look-up: it is read for every input of every request.
        self.numpy = np.dtype(object if text == "string" else text)

    @property
    def is_float(self) -> bool:
        """Whether NaN and the infinities are among its values."""
        return str(self.value).startswith("float")

    @property
    def is_integer(self) -> bool:
        """Whether it is signed or unsigned, of any width."""
        return str(self.value).startswith(("int", "uint"))

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> DType:
        """
        Return the DType that *dtype* holds.

        Raises:
            InvalidInput: none does (dates, records).
        """
        known = _OF.get(dtype)
        if known is not None:
            return known
        if dtype.kind in "OSU":
            return cls.STRING
        try:
            return cls(dtype.name)
        except ValueError:
            raise InvalidInput(
                f"arrays of {dtype} are not supported; use one of "
                + ", ".join(each.value for each in cls)
            ) from None


_OF: dict[np.dtype[Any], DType] = {each.numpy: each for each in DType}

_SAFE = frozenset(
    (came, wanted)
    for came in _OF
    for wanted in _OF
    if came.kind != "O" != wanted.kind and np.can_cast(came, wanted, "safe")
)
"""Casts that change no value, told beforehand: to ask numpy costs more than a small cast does."""

Shape = tuple[int, ...] | None
"""Sizes by axis: -1 is any size; None is any rank."""


@dataclass(frozen=True, slots=True)
class Spec:
    """
    What one input or output is.

    Args:
        name: Its name in the signature.
        dtype: Of its elements.
        shape: Its sizes; -1 is any, None is any rank.
        required: Whether it must be given. An optional one that is absent stays absent.
        nullable: Whether single values may be missing: NaN in floats, None in strings.
        description: For people: the field's valid values, unit or default.
        enforced: Whether another shape is refused here. False where the model's own code
            judges: TensorFlow takes what its operators take, whatever the file declares.
        takes_numbers: Whether a STRING input takes numbers too, as they are: categories that
            were learnt from text or from numbers (the id 1005 or "1005").
    """

    name: str
    dtype: DType
    shape: Shape
    required: bool = True
    nullable: bool = False
    description: str = ""
    enforced: bool = True
    takes_numbers: bool = False

    def check(self, value: ArrayLike) -> Tensor:
        """
        Return *value* as an array of this dtype and a shape that fits.

        A cast happens only where no value can change (int32 to int64, float32 to float64).

        Raises:
            InvalidInput: the dtype or shape does not fit; says what came and what is wanted.
        """
        array = value if isinstance(value, np.ndarray) else self._array(value)
        came, wanted = array.dtype, self.dtype.numpy
        if came != wanted:
            safe = (came, wanted) in _SAFE
            array = array.astype(wanted) if safe else self._cast(array, wanted)
        shape = self.shape
        if shape is not None and self.enforced:
            if len(shape) != array.ndim:
                raise self._misfit(array)
            for size, found in zip(shape, array.shape, strict=True):
                if size != found and size != -1:
                    raise self._misfit(array)
        return array

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        shape = None if self.shape is None else list(self.shape)
        return {**asdict(self), "dtype": self.dtype.value, "shape": shape}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Spec:
        """
        Return what ``to_json`` gave.

        Raises:
            KeyError, TypeError, ValueError: it is no such thing.
        """
        shape = None if told["shape"] is None else tuple(told["shape"])
        return cls(**{**told, "dtype": DType(told["dtype"]), "shape": shape})

    def _array(self, value: ArrayLike) -> Tensor:
        """Return Python values, which have no width of their own, as an array of this dtype."""
        try:
            found = np.asarray(value, dtype=object if self.dtype is DType.STRING else None)
        except (ValueError, OverflowError) as exc:
            raise InvalidInput(f"input {self.name!r} is not an array: {exc}") from None
        if self.dtype is DType.STRING:
            kinds = (str, bytes, int, float) if self.takes_numbers else (str, bytes)
            for each in found.flat:
                if not (isinstance(each, kinds) or (each is None and self.nullable)):
                    raise InvalidInput(
                        f"input {self.name!r} holds {type(each).__name__}; {self} is wanted"
                    )
            return found
        if hasattr(value, "dtype") or found.dtype.kind not in "iuf" or found.size == 0:
            return found if found.size else found.astype(self.dtype.numpy)
        return self._narrowed(found)

    def _narrowed(self, found: Tensor) -> Tensor:
        wanted = self.dtype
        if wanted.is_integer and found.dtype.kind in "iu":
            limits = np.iinfo(wanted.numpy)
            fits = found.min() >= limits.min and found.max() <= limits.max
        elif wanted.is_float:
            with np.errstate(over="ignore"):
                cast = found.astype(wanted.numpy)
            fits = bool((np.isfinite(cast) == np.isfinite(found)).all())
        else:
            return found
        if not fits:
            raise InvalidInput(f"input {self.name!r} holds a value beyond {wanted.value}")
        return found.astype(wanted.numpy)

    def _cast(self, array: Tensor, wanted: np.dtype[Any]) -> Tensor:
        if self.dtype is DType.STRING:
            if array.dtype.kind in ("SUbiuf" if self.takes_numbers else "SU"):
                return array.astype(object)
        elif array.dtype.kind not in "OSU" and np.can_cast(array.dtype, wanted, "safe"):
            return array.astype(wanted)
        elif array.dtype.kind == "O" and self.nullable and self.dtype.is_float:
            # Numbers of which some are missing, as rows read from JSON have them.
            rest = [each for each in array.flat if each is not None]
            if all(type(each) in (int, float) for each in rest):
                return np.array(array, dtype=wanted)  # None is NaN
        found = "string" if array.dtype.kind in "OSU" else array.dtype
        raise InvalidInput(f"input {self.name!r} is {found}; {self} is wanted")

    def _misfit(self, array: Tensor) -> InvalidInput:
        return InvalidInput(
            f"input {self.name!r} has shape {list(array.shape)}; {self} is wanted (-1 is any size)"
        )

    def __str__(self) -> str:
        shape = "of any shape" if self.shape is None else list(self.shape)
        return f"{self.dtype.value} {shape}"


def repeated(row: Tensor, count: int) -> Tensor:
    """
    Return the one row of *row* [1, ...] as often as *count* says; not to be written to.

    A long row is stored once and seen *count* times (its first stride is 0): nothing is copied, and
    a model that computes the user's part once can tell that all rows are one.
    """
    # Below some 64 bytes the copies cost less than the view.
    if row.nbytes < _VIEWED_BYTES:
        return np.repeat(row, count, axis=0)
    return np.broadcast_to(row, (count, *row.shape[1:]))


_VIEWED_BYTES = 64

_Quick = tuple[str, "np.dtype[Any]", int, tuple[tuple[int, int], ...]]
"""An input's name, dtype, rank (-1: any) and the sizes of its fixed axes."""


def _quick(spec: Spec) -> _Quick:
    if spec.shape is None or not spec.enforced:
        return spec.name, spec.dtype.numpy, -1, ()
    fixed = tuple((axis, size) for axis, size in enumerate(spec.shape) if size != -1)
    return spec.name, spec.dtype.numpy, len(spec.shape), fixed


@dataclass(frozen=True, slots=True)
class Signature:
    """Named inputs and outputs of one way to call a model. Their order is the file's."""

    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]
    method: str = field(default="predict")
    """What a call of it is, in TensorFlow's words: ``predict``, ``classify`` or ``regress``."""
    definition: bytes = b""
    """The file's own words for it, where a protocol hands them on: a serialized SignatureDef."""
    also: str = ""
    """The signature that takes the same rows by other names: asked where exactly those come."""

    _quick: tuple[_Quick, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_quick", tuple(map(_quick, self.inputs.values())))

    @classmethod
    def of(
        cls, inputs: list[Spec], outputs: list[Spec], method: str = "predict", also: str = ""
    ) -> Signature:
        """Index the specs by their names."""
        return cls({s.name: s for s in inputs}, {s.name: s for s in outputs}, method, also=also)

    def check(self, tensors: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
        """
        Return *tensors* in the signature's order, each an array that fits its Spec.

        Raises:
            InvalidInput: one is missing, unknown, or does not fit.
        """
        if self.fits(tensors):
            return tensors
        checked: dict[str, Tensor] = {}
        for name, spec in self.inputs.items():
            if name in tensors:
                checked[name] = spec.check(tensors[name])
            elif spec.required:
                raise InvalidInput(f"input {name!r} is missing; {self._wanted()}")
        if len(checked) != len(tensors):
            unknown = next(name for name in tensors if name not in self.inputs)
            raise InvalidInput(f"no input is named {unknown!r}; {self._wanted()}")
        return checked

    def fits(self, tensors: Mapping[str, ArrayLike]) -> TypeGuard[dict[str, Tensor]]:
        """Whether *tensors* need no ``check``: every input came, as it should, and no other."""
        if len(tensors) != len(self._quick) or type(tensors) is not dict:
            return False
        get, ndarray = tensors.get, np.ndarray
        for name, dtype, rank, sizes in self._quick:
            array = get(name)
            if type(array) is not ndarray or array.ndim != rank != -1:
                return False
            # Identity first: it is checked in less time than equality.
            if array.dtype is not dtype and array.dtype != dtype:
                return False
            for axis, size in sizes:
                if array.shape[axis] != size:
                    return False
        return True

    def _wanted(self) -> str:
        return "the inputs are " + ", ".join(f"{n!r} ({s})" for n, s in self.inputs.items())
