"""The catalogue: every item there is, as the item inputs of a ranking model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from martlet.convert.asking.rows import read_rows
from martlet.errors import InvalidInput
from martlet.stores.features import KIND, Features
from martlet.stores.tablefile import kind_of
from martlet.tensors import DType, Signature, Spec, Tensor


def read_catalogue(
    path: Path, signature: Signature, user_inputs: Collection[str]
) -> dict[str, Tensor]:
    """
    Return the items in the file at *path* as inputs of *signature*, one row each.

    Args:
        path: Rows (CSV, JSON lines, Parquet) with a column for each item input; or a feature
            table, whose keys are the integer input that no column of it has the name of.
        user_inputs: The inputs that are none of the item's.

    Raises:
        ModelNotFound: there is no such file.
        InvalidInput: an item input is in no column, or does not fit.
    """
    specs = [spec for name, spec in signature.inputs.items() if name not in user_inputs]
    if not specs:
        raise InvalidInput("every input is the user's: there is nothing to read of the items")
    if path.is_file() and kind_of(path) == KIND:
        return _of_table(path, specs)
    logged = read_rows(path, most=None)
    own = Signature.of(specs, list(signature.outputs.values()))
    return dict(logged.probe(own).inputs)


def _of_table(path: Path, specs: Sequence[Spec]) -> dict[str, Tensor]:
    table = Features(path)
    keyed = [each for each in specs if each.name not in table.columns]
    if len(keyed) != 1 or not (keyed[0].dtype.is_integer or keyed[0].dtype is DType.STRING):
        missing = ", ".join(each.name for each in keyed) or "none"
        raise InvalidInput(
            f"{path} has no columns for the inputs {missing}; its keys can fill one, an id, and "
            f"its columns are {', '.join(table.columns)}"
        )
    rows = np.arange(len(table))
    found = {keyed[0].name: _fitted(keyed[0], np.asarray(table.keys.at(rows)))}
    columns = table.take(rows, [each.name for each in specs if each is not keyed[0]])
    return found | {
        each.name: _fitted(each, columns[each.name]) for each in specs if each.name in columns
    }


def _fitted(spec: Spec, values: Tensor) -> Tensor:
    shape = [len(values), *(spec.shape or (-1,))[1:]]
    try:
        made: Tensor = values.astype(spec.dtype.numpy).reshape(shape)
    except (ValueError, TypeError) as exc:
        raise InvalidInput(f"the column for {spec.name!r} does not fit {spec}: {exc}") from None
    if spec.dtype.is_integer and (made != values.reshape(made.shape)).any():
        raise InvalidInput(f"the column for {spec.name!r} has values that {spec.dtype.value} lacks")
    return made
