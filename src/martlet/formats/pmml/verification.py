"""ModelVerification: records that the file's producer gave, with the answers it had for them.

They are scored when the file loads: a model that does not answer as its producer says is not
served. Source: PMML 4.4.1, ModelVerification.
"""

from __future__ import annotations

import math

import numpy as np

from martlet.formats.pmml.document import Element
from martlet.servable import DEFAULT_SIGNATURE, Servable, signature_of
from martlet.tensors import Tensor

_PRECISION = 1e-6
_ZERO = 1e-16
_ALONE = 3


def verify(model: Element, servable: Servable) -> None:
    """
    Score the records of *model*'s ModelVerification, if it has them.

    Raises:
        UnsupportedModel: an answer is not the producer's.
    """
    found = model.child("ModelVerification")
    if found is None:
        return
    fields = found.need_child("VerificationFields").all("VerificationField")
    rows = found.need_child("InlineTable").all("row")
    if not rows:
        return
    if any(each.get("usageType") == "group" for each in model.need_child("MiningSchema").children):
        return  # one record is several rows there, and its items are compared by no cell
    columns = {each.need("field"): _cells(each, rows) for each in fields}
    names = signature_of(servable, DEFAULT_SIGNATURE).inputs
    inputs = {name: _tensor(columns[name]) for name in names if name in columns}
    answered = [each for each in fields if each.need("field") not in names]
    _compare(rows, answered, columns, servable.predict(inputs))
    for row in range(min(len(rows), _ALONE)):
        # One record takes a path of its own, which is to be proved too.
        at = slice(row, row + 1)
        alone = {name: cells[at] for name, cells in columns.items()}
        answers = servable.predict({name: values[at] for name, values in inputs.items()})
        _compare(rows[at], answered, alone, answers)


def _compare(
    rows: list[Element],
    fields: list[Element],
    columns: dict[str, list[str | None]],
    answers: dict[str, Tensor],
) -> None:
    for each in fields:
        name = each.need("field")
        if name not in answers:
            continue
        for row, wanted in enumerate(columns[name]):
            # A model without inputs answers once, whatever the records.
            at = row % len(answers[name])
            came = answers[name][at]
            if wanted is None or _agrees(each, wanted, came):
                continue
            why = answers["_reason"][at]
            shown = repr(came) if why is None else f"nothing ({why})"
            raise rows[row].error(
                f"of the file's own verification is answered {shown} for {name!r}; "
                f"its producer answered {wanted!r}"
            )


def _cells(field: Element, rows: list[Element]) -> list[str | None]:
    column = (field.get("column") or field.need("field")).rpartition(":")[2]
    found: list[str | None] = []
    for row in rows:
        cell = row.child(column)
        found.append(None if cell is None else cell.text)
    return found


def _tensor(cells: list[str | None]) -> Tensor:
    values = np.empty(len(cells), dtype=object)
    values[:] = cells
    return values


def _agrees(field: Element, wanted: str, answer: object) -> bool:
    """Whether *answer* is *wanted*, within the field's precision and zeroThreshold."""
    precision = field.number("precision", _PRECISION)
    zero = field.number("zeroThreshold", _ZERO)
    try:
        number = float(wanted)
        came = float(answer)  # type: ignore[arg-type] # what is no number raises
    except (TypeError, ValueError):
        return answer is not None and str(answer).lower() == wanted.strip().lower()
    if math.isnan(came):
        return False
    if abs(number) <= zero:
        return abs(came) <= max(zero, precision)
    return abs(came - number) <= max(precision * abs(number), 8 * _spacing(answer, number))


def _spacing(answer: object, number: float) -> float:
    """Return the step between neighbours of *number* in the type that answered."""
    if isinstance(answer, np.floating) and answer.dtype == np.float32:
        return float(np.spacing(np.float32(abs(number))))
    return 0.0
