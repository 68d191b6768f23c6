"""Whether two answers agree, and the differences that are meant to be."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pmml_random.ours import Answer

STEP = 1e-8
STEP32 = 2e-5
KINDER = re.compile(
    r"Expected org\.jpmml\.evaluator\.Has"  # an output that the model has nothing for is empty
    r"|NotImplementedException"
    r"|Required attribute (Node|RuleSet|TargetValue|AssociationRule)@\w+ is not defined"
    r"|UnsupportedAttributeException: Attribute with value TextIndex@localTermWeights"
    r"|Element (InlineTable|KNNInput|ClusteringField|NearestNeighborModel) is not valid"
    r"|No PMML data type for (the intersection|Java data type java.util.ArrayList)"
    r'|Function "formatNumber" cannot accept "pattern" value'  # %d of a whole double
    r"|Expected integer value, got (double|float) value"  # Poisson's, of what is no count
    r"|MissingFieldException: Field"  # a shared field that only an inner schema names
    r"|(compareFunction|multipleModelMethod|normalizationMethod)=\w+ is not valid"
    r"|Expected false or true, got"  # binary similarities of other numbers
    r"|Expected \w+ value, got null value"  # a list of answers, one of them none
    r"|Empty classification"  # votes for nothing
    r"|(cannot be ordered|Categorical value cannot be used in comparison)"
    r"|Field \"d\" cannot accept invalid value -?\d+$"  # a moment given as its count
    # Trees that vote among other models; a regression that answers for a chain that classifies.
    r"|(Tree|Regression)Model@functionName=regression is not valid"
    r'|Function "if" returned invalid value'  # a refused value that is taken as it is
    r'|Function "formatDatetime" cannot accept "pattern" value'  # the day of a time
    r"|ArithmeticException: Integer overflow"  # the next integer after an infinity, if asMissing
)
"""What the reference refuses rows for, and martlet answers: the standard has an answer, or none."""


def difference(ours: Answer, theirs: Answer, step: float = STEP) -> str | None:
    """Return how *ours* differs from *theirs*; None: it does not."""
    if isinstance(ours, str) or isinstance(theirs, str):
        if isinstance(ours, str) and isinstance(theirs, str):
            return None
        return f"ours {_shown(ours)}, theirs {_shown(theirs)}"
    for name, wanted in theirs.items():
        if name not in ours:
            return f"{name} is not among ours"
        if not same(ours[name], wanted, step):
            return f"{name}: ours {ours[name]!r}, theirs {wanted!r}"
    return None


def departure(ours: Answer, theirs: Answer, step: float = STEP) -> str | None:
    """Return why *theirs*, which differs, is known to depart from the standard; None: it is not."""
    if isinstance(theirs, str):
        if KINDER.search(theirs):
            return "refused by the reference alone"
        has_none = isinstance(ours, dict) and ours.get("y", "") is None
        if has_none and theirs.endswith("UndefinedResultException: Undefined result"):
            return "a combination of no answers: none here, an error there"
        return None
    told = {name: each for name, each in theirs.items() if not _is_nan(each)}
    if difference(ours, told, step) is None:
        return "exp(x) / exp(x), which overflows there"
    if "_target" in told and "_target" not in ours:
        # The link that answers for a chain names no target: the chain's own is meant.
        told["y"] = told.pop("_target")
        if difference(ours, told, step) is None:
            return "a chain's answer without its name"
    return None


def lazier(ours: Answer, theirs: Answer, text: str) -> str | None:
    """Return which field one side does not ask for, that the other refuses the row for, or None."""
    if isinstance(ours, str) and isinstance(theirs, dict):
        if 'missingPredictionTreatment="returnMissing"' in text and theirs.get("y", "") is None:
            return "after a segment without an answer no other is asked there"
    elif isinstance(ours, dict) and isinstance(theirs, str):
        settles = "<TreeModel" in text and re.search(r'booleanOperator="(and|or)"', text)
        if settles and re.search(r'Field "\w+" cannot accept invalid value', theirs):
            return "a tree asks no more of an and, or that is settled"
    return None


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _shown(answer: Answer) -> str:
    return f"refuses ({answer})" if isinstance(answer, str) else f"answers {answer}"


def same(ours: Any, theirs: Any, step: float = STEP) -> bool:
    """Whether two cells are the same: numbers within *step*, lists by their members."""
    ours, theirs = _opened(ours), _opened(theirs)
    if isinstance(theirs, list):
        return (
            isinstance(ours, list)
            and len(ours) == len(theirs)
            and all(same(a, b, step) for a, b in zip(ours, theirs, strict=True))
        )
    if isinstance(ours, list):
        return False
    one, other = _number(ours), _number(theirs)
    if one is None or other is None:
        return _text(ours) == _text(theirs)
    if math.isnan(other) or math.isnan(one):
        return math.isnan(other) and (ours is None or math.isnan(one))
    if math.isinf(one) or math.isinf(other):
        return one == other
    return abs(one - other) <= step * max(1.0, abs(other))


def _opened(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value


def _text(value: Any) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value) if not isinstance(value, str) or re.match(r"[-+\d.]", value) else None
    except ValueError:
        return None
