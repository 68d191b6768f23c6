"""What a ``.tflite`` file says of itself, and a check that what its parts point to is there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.flatbuffers import Table

MAGIC = b"TFL3"
# Fields by number.
_CODES, _SUBGRAPHS, _BUFFERS, _SIGNATURES = 1, 2, 4, 7  # of a Model
_FEW_KINDS, _CUSTOM_CODE, _KIND = 0, 1, 3  # of an OperatorCode
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3  # of a SubGraph
_SHAPE, _TYPE, _BUFFER, _IS_VARIABLE, _HAS_RANK, _EXTERNAL = 0, 1, 2, 5, 8, 10  # of a Tensor
_QUANTISATION, _SPARSITY = 4, 6
_SCALES, _ZEROS = 2, 3  # of QuantizationParameters
_ORDER, _BLOCKS, _DIMENSIONS = 0, 1, 2  # of SparsityParameters
_FORM, _DENSE, _STARTS, _PLACES = 0, 1, 3, 5  # of a DimensionMetadata
_VECTORS = {1: "<i4", 2: "<u2", 3: "u1"}  # of SparseIndexVector
_DATA, _OFFSET = 0, 1  # of a Buffer
_CODE, _TAKES, _GIVES = 0, 1, 2  # of an Operator
_GIVEN, _TOLD, _SUBGRAPH = 0, 1, 4  # of a SignatureDef
_NUMBER = 1  # of a TensorMap
_FLEX = b"Flex"
_STRING = 5  # of TensorType
# Of TensorType, those that scales are kept for: what they hold.
_QUANTISED: dict[int, np.iinfo[Any]] = {
    3: np.iinfo(np.uint8),
    7: np.iinfo(np.int16),
    9: np.iinfo(np.int8),
}
_ADD, _SQUARED_DIFFERENCE = 0, 99  # of BuiltinOperator
_ABSENT = -1  # in an operator's inputs: one that is left out
# Of BuiltinOperator, those that may leave an input out (a bias, gates of an LSTM), and CUSTOM.
_LEAVE_OUT = {3, 4, 9, 16, 24, 27, 32, 35, 44, 46, 52, 67, 132, 141}


@dataclass(frozen=True, slots=True)
class Outline:
    """
    What a file holds, beside what LiteRT tells.

    Args:
        remembers: Whether a run changes what the next one begins with.
        unranked: By subgraph, the numbers of the tensors of any rank.
        flex: TensorFlow's own operators that it uses, which LiteRT does not have.
    """

    remembers: bool
    unranked: list[set[int]]
    flex: list[str]


def outline_of(content: bytes) -> Outline:
    """
    Return the outline of a TFLite model whose parts point to what is there.

    Raises:
        ValueError, struct.error: it is damaged.

    Source:
        TensorFlow ``tensorflow/compiler/mlir/lite/schema/schema.fbs``.
    """
    if content[4:8] != MAGIC:
        raise ValueError("its header is not that of a TFLite model")
    model = Table.root(content)
    subgraphs = model.tables(_SUBGRAPHS)
    if not subgraphs:
        raise ValueError("it has no graph")
    tensors = [each.tables(_TENSORS) for each in subgraphs]
    codes, buffers = model.tables(_CODES), model.tables(_BUFFERS)
    kinds = [max(each.number(_KIND, "i", 0), each.number(_FEW_KINDS, "b", 0)) for each in codes]
    for number, (subgraph, own) in enumerate(zip(subgraphs, tensors, strict=True)):
        _check_graph(f"graph {number}", subgraph, own, kinds, buffers)
    for each in model.tables(_SIGNATURES):
        number = each.number(_SUBGRAPH, "I", 0)
        if number >= len(subgraphs):
            raise ValueError(f"a signature is of graph {number}, which is not there")
        maps = [*each.tables(_GIVEN), *each.tables(_TOLD)]
        numbers = np.array([named.number(_NUMBER, "I", 0) for named in maps], np.int64)
        _check_within("a signature", numbers, len(tensors[number]))
    customs = [bytes(each.array(_CUSTOM_CODE, "u1")) for each in codes]
    return Outline(
        any(tensor.number(_IS_VARIABLE, "b", 0) for own in tensors for tensor in own),
        [{n for n, tensor in enumerate(own) if _is_unranked(tensor)} for own in tensors],
        [c.removeprefix(_FLEX).decode(errors="replace") for c in customs if c.startswith(_FLEX)],
    )


def _check_graph(
    name: str, graph: Table, tensors: list[Table], kinds: list[int], buffers: list[Table]
) -> None:
    """Check that every tensor that is asked for is there, and gets its value from somewhere."""
    inputs, outputs = graph.array(_INPUTS, "<i4"), graph.array(_OUTPUTS, "<i4")
    _check_within(name, inputs, len(tensors))
    _check_within(name, outputs, len(tensors))
    valued = {int(n) for n in inputs}
    for at, tensor in enumerate(tensors):
        if tensor.number(_BUFFER, "I", 0) >= max(len(buffers), 1):
            raise ValueError(f"tensor {at} of {name} has a buffer that is not there")
        _check_quantised(f"tensor {at} of {name}", tensor)
        sparsity = tensor.table(_SPARSITY)
        if sparsity is not None:
            shape = tensor.array(_SHAPE, "<i4").tolist()
            _check_sparsity(f"tensor {at} of {name}", sparsity, shape)
        if _is_constant(f"tensor {at} of {name}", tensor, buffers):
            valued.add(at)
    asked = [(name, outputs)]
    for at, operator in enumerate(graph.tables(_OPERATORS)):
        called = f"operator {at} of {name}"
        if operator.number(_CODE, "I", 0) >= len(kinds):
            raise ValueError(f"{called} is of a kind that is not there")
        kind = kinds[operator.number(_CODE, "I", 0)]
        takes, gives = operator.array(_TAKES, "<i4"), operator.array(_GIVES, "<i4")
        given = takes[takes != _ABSENT] if kind in _LEAVE_OUT else takes
        _check_within(called, given, len(tensors))
        _check_within(called, gives, len(tensors))
        if kind in (_ADD, _SQUARED_DIFFERENCE):
            _check_factor(called, kind, [tensors[n] for n in (*given, *gives)])
        asked.append((called, given))
        valued.update(map(int, gives))
    for who, numbers in asked:
        for number in numbers:
            if number not in valued:
                raise ValueError(f"{who} has tensor {number}, which has no value")


def _is_constant(name: str, tensor: Table, buffers: list[Table]) -> bool:
    """Return whether *tensor* has its value without being computed: from the file, or none."""
    shape = tensor.array(_SHAPE, "<i4")
    if tensor.number(_IS_VARIABLE, "b", 0) or tensor.number(_EXTERNAL, "I", 0) or 0 in shape:
        return True
    if not buffers:
        return False
    buffer = buffers[tensor.number(_BUFFER, "I", 0)]
    if buffer.number(_OFFSET, "Q", 0) > 1:  # of a file of more than 2 GiB: behind the flatbuffer
        return True
    content = buffer.array(_DATA, "u1")
    if len(content) and tensor.number(_TYPE, "b", 0) == _STRING:
        _check_strings(name, content.tobytes(), math.prod(map(int, shape)))
    return len(content) > 0


def _check_quantised(name: str, tensor: Table) -> None:
    """Check what a stored number stands for: LiteRT makes no operator of another, and runs it."""
    dtype, told = tensor.number(_TYPE, "b", 0), tensor.table(_QUANTISATION)
    if told is None or dtype not in _QUANTISED:
        return
    scales, zeros = told.array(_SCALES, "<f4"), told.array(_ZEROS, "<i8")
    if not np.all(np.isfinite(scales) & (scales >= np.finfo(np.float32).tiny)):
        raise ValueError(f"{name} has a scale that is no positive number")
    held = _QUANTISED[dtype]
    if np.any((zeros < held.min) | (zeros > held.max)):
        raise ValueError(f"{name} has a zero point that is no {held.dtype}")


def _check_factor(name: str, kind: int, parts: list[Table]) -> None:
    """
    Check that what a quantised sum or difference is brought to its own scale by is below 1.

    Source:
        TensorFlow ``tensorflow/lite/kernels/add.cc`` and ``squared_difference.cc``, which end the
        process where it is not.
    """
    if len(parts) != 3:
        raise ValueError(f"{name} does not make one tensor of two")
    held = _QUANTISED.get(parts[-1].number(_TYPE, "b", 0))
    if held is None or held.bits > 8:
        return
    told = [each.table(_QUANTISATION) for each in parts]
    scales = [[] if each is None else each.array(_SCALES, "<f4").tolist() for each in told]
    if not all(scales):
        raise ValueError(f"{name} has a tensor without a scale")
    *terms, own = (each[0] for each in scales)
    most = 2 * max(terms)
    if (most >= 2**20 * own) if kind == _ADD else (most**2 >= 2**14 * own):
        raise ValueError(f"{name} has scales that do not go together")


def _check_sparsity(name: str, sparsity: Table, shape: list[int]) -> None:
    """
    Check that what a sparse tensor lists lies within its dense shape.

    Source:
        TensorFlow ``schema.fbs``, SparsityParameters; the format is TACO's
        (http://tensor-compiler.org/kjolstad-oopsla17-tensor-compiler.pdf).
    """
    order = sparsity.array(_ORDER, "<i4").tolist()
    blocks = sparsity.array(_BLOCKS, "<i4").tolist()
    parts = sparsity.tables(_DIMENSIONS)
    if sorted(order) != list(range(len(parts))) or len(parts) != len(shape) + len(blocks):
        raise ValueError(f"{name} is sparse in other dimensions than it has")
    sizes = shape + [
        parts[order.index(len(shape) + n)].number(_DENSE, "i", 0) for n in range(len(blocks))
    ]
    for axis, size in zip(blocks, sizes[len(shape) :], strict=True):
        if not 0 <= axis < len(shape) or size < 1 or sizes[axis] % size:
            raise ValueError(f"{name} is sparse in blocks that do not fit")
        sizes[axis] //= size
    count = 1
    for axis, part in zip(order, parts, strict=True):
        if part.number(_FORM, "b", 0) == 0:
            fits, count = part.number(_DENSE, "i", 0) == sizes[axis], count * sizes[axis]
        else:
            starts, places = (_numbers(part, field) for field in (_STARTS, _PLACES))
            fits = len(starts) == count + 1 and starts[0] == 0 and starts[-1] == len(places)
            fits = fits and bool(np.all(np.diff(starts) >= 0))
            fits = fits and bool(np.all((places >= 0) & (places < sizes[axis])))
            count = len(places)
        if not fits:
            raise ValueError(f"{name} is sparse beyond its shape {shape}")


def _numbers(part: Table, field: int) -> NDArray[np.int64]:
    """Return a union of vectors of 32, 16 or 8 bits; its kind is the field before."""
    kind, vector = part.number(field - 1, "B", 0), part.table(field)
    if vector is None or kind not in _VECTORS:
        raise ValueError("a sparse tensor lists nothing")
    return vector.array(0, _VECTORS[kind]).astype(np.int64)


def _check_strings(name: str, content: bytes, count: int) -> None:
    """Check texts as TFLite keeps them: how many, where each begins and the last ends, bytes."""
    found = int.from_bytes(content[:4], "little", signed=True)
    if found != count or len(content) < 4 * (count + 2):
        raise ValueError(f"{name} holds {found} texts, and should {count}")
    bounds = np.frombuffer(content, "<i4", count + 1, 4)
    if bounds[0] < 4 * (count + 2) or bounds[-1] > len(content) or np.any(np.diff(bounds) < 0):
        raise ValueError(f"a text of {name} lies outside of it")


def _check_within(name: str, numbers: NDArray[np.integer], tensors: int) -> None:
    outside = numbers[(numbers < 0) | (numbers >= tensors)]
    if len(outside):
        raise ValueError(f"{name} has tensor {outside[0]}, of {tensors}")


def _is_unranked(tensor: Table) -> bool:
    return not tensor.number(_HAS_RANK, "b", 0) and not len(tensor.array(_SHAPE, "<i4"))
