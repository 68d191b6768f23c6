"""A scikit-learn model that begins with a ColumnTransformer, walked without a data frame.

To make a data frame, to cut it, to check each piece again and to glue the results costs
scikit-learn some milliseconds a call. Here the columns go as they come to what each piece does to
them, and what follows gets the one matrix that it gets there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from martlet.formats.sklearn import linear, quick, shared
from martlet.formats.sklearn.columns import columns_of
from martlet.formats.sklearn.pieces import NotKnownHere, Piece, piece_of, stacked
from martlet.formats.sklearn.trials import equal, outcomes
from martlet.tensors import Tensor

Columns = Mapping[str, Tensor]
Walk = Callable[[Columns, Sequence[str]], "list[Any] | None"]
"""From columns (numbers as float64, text as ``str`` objects) and methods to what each gives."""

_COUNTS = (1, 2, 7, 200)  # BLAS sums few rows in another order than many
_MISSING = 0.1


def proved(
    model: Any,
    methods: Sequence[str],
    names: Sequence[str],
    texts: frozenset[str],
    frame: Callable[[Columns], Any],
) -> Walk | None:
    """
    Return what answers *methods* as *model* does, to the last bit; None where nothing here does.

    The walk gives None for rows that are scikit-learn's to judge: unknown, missing, infinite.

    Args:
        names: The columns that the model takes, *texts* those of text.
        frame: From the columns to the data frame that the model takes.
    """
    try:
        before, after = _split(model)
        walk = _Walk(before, after, names, texts)
    except (NotKnownHere, AttributeError, ImportError, KeyError, TypeError, ValueError):
        return None  # of another version, or of pieces that scikit-learn alone can do
    return walk if _is_proved(walk, model, methods, frame) else None


def _split(model: Any) -> tuple[Any, Any]:
    """Return the ColumnTransformer that *model* begins with, and the one model of the rest."""
    while hasattr(model, "best_estimator_"):  # of a search
        model = model.best_estimator_
    if type(model).__name__ == "ColumnTransformer":
        return model, None
    steps = [step for _, step in getattr(model, "steps", [(None, model)])]
    if type(model).__name__ != "Pipeline" or type(steps[0]).__name__ != "ColumnTransformer":
        raise NotKnownHere(type(model).__name__)
    return steps[0], model[1:] if len(steps) > 2 else steps[1] if len(steps) == 2 else None


class _Walk:
    def __init__(
        self, before: Any, after: Any, names: Sequence[str], texts: frozenset[str]
    ) -> None:
        self.names, self.texts = names, texts
        self.pieces: list[tuple[Piece, list[str]]] = []
        for transformer, where in columns_of(before, list(names), passed=True):
            if where:
                chosen = [names[i] for i in where]
                piece = piece_of(transformer, [name in texts for name in chosen])
                self.pieces.append((piece, chosen))
        if not self.pieces:
            raise NotKnownHere("no columns")
        self._after = after
        self._sparse: Callable[..., Any] | None = None
        self._quick: Callable[[Any], dict[str, Tensor] | None] | None
        if before.sparse_output_:
            import scipy.sparse

            self._sparse = scipy.sparse.csr_matrix
            self._quick = _finite(linear.answers_of(after))
        else:
            self._quick = None if after is None else quick.answers_of(after)
        self._both = {
            scores: shared.both_of(after, scores)
            for scores in ("predict_proba", "decision_function")
            if hasattr(after, scores) and hasattr(after, "predict")
        }

    def __call__(self, columns: Columns, methods: Sequence[str]) -> list[Any] | None:
        try:
            with np.errstate(all="ignore"):
                return self._told(columns, methods)
        except Exception:
            return None  # asked in its own way, scikit-learn says what is wrong

    def _told(self, columns: Columns, methods: Sequence[str]) -> list[Any] | None:
        blocks = []
        for piece, names in self.pieces:
            block = piece.block([columns[name] for name in names])
            if block is None:
                return None
            blocks.append(block)
        rows = stacked(blocks, self._sparse)
        if self._after is None:
            return [rows]
        quick = self._quick(rows) if self._quick is not None else None
        if quick is not None and quick.keys() >= set(methods):
            return [quick[name] for name in methods]
        both = self._both.get(methods[1]) if len(methods) == 2 else None
        if both is not None:
            return list(both(rows))
        return [getattr(self._after, name)(rows) for name in methods]


def _finite(answers: Any) -> Any:
    if answers is None:
        return None
    return lambda rows: answers(rows) if np.isfinite(rows.data).all() else None


def _is_proved(
    walk: _Walk, model: Any, methods: Sequence[str], frame: Callable[[Columns], Any]
) -> bool:
    dice = np.random.default_rng(0)
    pairs = [("predict", m) for m in methods if m in ("predict_proba", "decision_function")]
    asked = [*((m,) for m in methods), *(pair for pair in pairs if "predict" in methods)]
    walked = False
    for missing in (0.0, _MISSING):
        for count in _COUNTS:
            columns = _drawn(walk, dice, count, missing)
            told = {each: walk(columns, each) for each in asked}
            if all(each is None for each in told.values()):
                continue
            walked = True
            ways = [getattr(model, method) for method in methods]
            own = dict(zip(methods, outcomes(ways, [frame(columns)]), strict=True))
            for each, values in told.items():
                if values is not None and not equal(values, [own[method] for method in each]):
                    return False
    return walked


def _drawn(walk: _Walk, dice: np.random.Generator, count: int, missing: float) -> dict[str, Tensor]:
    """Return *count* rows: numbers of many sizes, categories known and, once in a while, not."""
    columns: dict[str, Tensor] = {}
    for name in walk.names:
        if name in walk.texts:
            columns[name] = np.full(count, "a text", object)
        else:
            numbers = dice.normal(size=count) * 10.0 ** dice.integers(-2, 2, size=count)
            columns[name] = np.where(dice.random(count) < missing, np.nan, numbers)
    for piece, names in walk.pieces:
        for name, known in zip(names, piece.known, strict=False):
            chosen = dice.integers(0, len(known), size=count)
            if count == 7:
                chosen[0] = -1  # one that is not known
            text = name in walk.texts
            other = "a text" if text else float(max(known)) + 1.0
            values = [other if i < 0 else known[i] for i in chosen.tolist()]
            columns[name] = np.array(values, object if text else np.float64)
    return columns
