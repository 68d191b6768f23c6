"""CatBoost's models (``.cbm``, JSON), run by CatBoost."""

from __future__ import annotations

import json
import re
import struct
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet.errors import ServableFailed, UnsupportedModel, brief
from martlet.formats import LoadOptions
from martlet.formats.catboost import file
from martlet.formats.catboost.content import Content, read
from martlet.formats.catboost.embeddings import dimensions
from martlet.formats.catboost.forest import Walk, walk_of
from martlet.formats.catboost.pool import Pools
from martlet.formats.links import Chosen, Link, sigmoid, softmax, two_classes
from martlet.formats.tabular import Rows
from martlet.formats.trees.forest import Grown
from martlet.formats.trial import survives
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Spec, Tensor, Tensors

RAW, PROBABILITY, CLASS, EXPONENT = "RawFormulaVal", "Probability", "Class", "Exponent"
UNCERTAINTY = "RMSEWithUncertainty"  # the name of a loss, too
_BINARY = ("Logloss", "CrossEntropy")
_MULTILABEL = ("MultiLogloss", "MultiCrossEntropy")
_EXPONENTIAL = ("Poisson", "Tweedie")
_DAMAGE = (ValueError, TypeError, KeyError, IndexError, AttributeError)

# A call of CatBoost costs some 80 microseconds, and then each row and tree an eighth of what
# a walk costs martlet's forest. Rows times their cost up to here are the forest's.
_FEW_WALKS = 10_000


class CatBoostServable:
    """
    One model. Outputs bear CatBoost's names of prediction types.

    Rows come as `Rows` says; categorical and text features are strings, embedding features
    ``[rows, size]``, by column. Every model gives ``RawFormulaVal``; a classifier ``Probability``
    (a column a class) and ``Class`` too; Poisson and Tweedie ``Exponent``, RMSEWithUncertainty a
    mean and variance of that name: all from one walk of the trees. ``leaf`` gives the leaf of each
    tree, ``[rows, trees]``. A category that training did not see is scored as CatBoost does; NaN is
    a missing number; a category cannot be missing.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        import catboost

        self._failed = catboost.CatBoostError
        self._threads = options.threads
        with path.open("rb") as opened:
            kind = "cbm" if opened.read(len(file.MAGIC)) == file.MAGIC else "json"
        self._model: Any = catboost.CatBoost()
        self._sum: Walk | None = None
        try:
            content = path.read_bytes()
            if kind == "json":
                orjson.loads(content)  # bounded in depth, which CatBoost's reader is not
            else:
                file.check(content)
            known = read(content)
            open_ = partial(self._open, path, kind, content)
            checked = kind == "cbm" and file.has_numbers_alone(content)
            if not checked and not survives(open_):
                raise ValueError("it ends the process that loads it")
            open_()
            self._sum = self._proved(known)
        except (*_DAMAGE, self._failed, struct.error, RuntimeError, ServableFailed) as exc:
            raise UnsupportedModel(
                f"{path} is not a CatBoost model that loads: {brief(exc)}"
            ) from exc
        raw = (-1,) if self._width == 1 else (-1, self._width)
        specs = [Spec(RAW, DType.FLOAT64, raw)]
        if self._link is not None:
            specs.insert(0, Spec(PROBABILITY, DType.FLOAT64, (-1, max(self._width, 2))))
            label = DType.of(self._labels.dtype)
            specs.insert(1, Spec(CLASS, label, raw if self._many else (-1,)))
        elif self._exponential:
            specs.insert(0, Spec(EXPONENT, DType.FLOAT64, raw))
        elif self._uncertain:
            specs.insert(0, Spec(UNCERTAINTY, DType.FLOAT64, raw, description="mean, variance"))
        self.signatures = self._rows.signatures(
            {
                DEFAULT_SIGNATURE: specs,
                "leaf": [Spec("leaf", DType.INT32, (-1, self._model.tree_count_))],
            }
        )

    def _open(self, path: Path, kind: str, content: bytes) -> None:
        self._model.load_model(str(path), format=kind)
        self._read_inputs(content)
        self._read_objective()
        self._raw(self._sample(), 1)  # a damaged model may load, and fail on its first row

    def _read_inputs(self, content: bytes) -> None:
        texts = self._model.get_cat_feature_indices() + self._model.get_text_feature_indices()
        vectors = self._model.get_embedding_feature_indices()
        sizes = dict(zip(vectors, dimensions(content) if vectors else (), strict=True))
        # CatBoost calls a feature without a name by its number, which may be another's name.
        told = self._model.feature_names_
        often = Counter(told)
        names = [
            f"feature {i}" if name == str(i) and often[name] > 1 else name or str(i)
            for i, name in enumerate(told)
        ]
        named = not all(re.fullmatch(r"\d+", name) for name in names)
        self._rows = Rows(
            names,
            named=named,
            texts=[names[i] for i in texts],
            vectors={names[i]: size for i, size in sizes.items()},
            takes_numbers=True,
        )
        self._texts, self._sizes = frozenset(texts), sizes
        self._pools = Pools(self._model, names, self._threads) if texts or vectors else None

    def _read_objective(self) -> None:
        metadata = self._model.get_metadata()
        told = {k: metadata[k] for k in metadata.keys()}  # noqa: SIM118 (it is no dict)
        loss = json.loads(told.get("params") or "{}").get("loss_function", {}).get("type", "")
        self._scale, bias = self._model.get_scale_and_bias()
        self._width = len(bias) if isinstance(bias, list) else 1
        self._bias = np.asarray(bias, np.float64)
        classes = self._model.classes_
        self._labels = np.asarray(classes if classes is not None else [])
        if self._labels.dtype.kind in "SU":
            self._labels = self._labels.astype(object)
        self._many = loss in _MULTILABEL
        if self._many:
            self._labels = np.array([0, 1])
        # Where the probability passes this, the answer is the second class.
        chance = float(told.get("binclass_probability_threshold", 0.5))
        threshold = float(np.log(chance / (1 - chance))) if 0 < chance < 1 else 0.0
        self._exponential = loss in _EXPONENTIAL
        self._uncertain = loss == UNCERTAINTY
        self._link: Link | None = None
        if self._many or loss == "MultiClassOneVsAll":
            self._link = sigmoid
        elif len(self._labels) and self._width > 1:
            self._link = softmax
        elif len(self._labels) == 2 or loss in _BINARY:
            self._link = two_classes
            self._labels = self._labels if len(self._labels) == 2 else np.array([0, 1])
        two = self._width == 1 or self._many
        self._class = Chosen(self._labels, threshold if two else None)

    @property
    def grown(self) -> Grown | None:
        """Its trees and what becomes of their sums, for who writes them down otherwise."""
        if self._sum is None or self._sum.ctrs is not None or self._uncertain:
            return None
        links: dict[str, Link] = {EXPONENT: np.exp} if self._exponential else {}
        if self._link is not None:
            links = {PROBABILITY: self._link, CLASS: self._class}
        return Grown(self._sum.trees, RAW, links, self._scale, self._bias, float32=True)

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Score the rows."""
        rows, count = self._table(inputs, signature_name)
        if signature_name.startswith("leaf"):
            return {"leaf": self._leaves(rows, count)}
        raw = self._raw(rows, count)
        if self._link is not None:
            return {PROBABILITY: self._link(raw), CLASS: self._class(raw), RAW: raw}
        if self._exponential:
            return {EXPONENT: np.exp(raw), RAW: raw}
        if self._uncertain:  # the trees give a mean and the logarithm of a deviation
            both = np.stack([raw[:, 0], np.exp(2 * raw[:, 1])], axis=1)
            return {UNCERTAINTY: both, RAW: raw}
        return {RAW: raw}

    def _table(self, inputs: Tensors, signature_name: str) -> tuple[Any, int]:
        """Return the rows, as a matrix where all are numbers, else as columns; and how many."""
        if self._pools is None:
            rows = self._rows.matrix(inputs, signature_name)
            return rows, len(rows)
        columns = self._rows.columns(inputs, signature_name)
        return columns, len(columns[0])

    def _sample(self) -> Any:
        every = range(len(self._rows.names))
        if self._pools is None:
            return np.zeros((1, len(every)), np.float32)
        return [
            np.zeros((1, self._sizes[at]))
            if at in self._sizes
            else np.array(["" if at in self._texts else 0.0], object)
            for at in every
        ]

    def _proved(self, content: Content | None) -> Walk | None:
        """Return martlet's own walk of the trees, if it gives the very same numbers."""
        values = self._model.get_leaf_values()
        if content is None or len(content.sizes) > _FEW_WALKS or len(values) % self._width:
            return None
        walk = walk_of(content, values.reshape(-1, self._width), len(self._rows.names))
        if walk is None:
            return None
        rows = walk.probes(content)
        sums = walk(rows)
        same = sums is not None and np.array_equal(self._scaled(sums), self._asked(rows))
        return walk if same else None

    def _scaled(self, sums: Tensor) -> Tensor:
        if self._scale != 1:
            sums *= self._scale
        sums += self._bias
        return sums[:, 0] if self._width == 1 else sums

    def _raw(self, rows: Any, count: int) -> Tensor:
        if not count:
            return np.empty((0,) if self._width == 1 else (0, self._width))
        if self._sum is not None and count * self._sum.cost <= _FEW_WALKS:
            sums = self._sum(rows)
            if sums is not None:
                return self._scaled(sums)
        return self._asked(rows)

    def _asked(self, rows: Any) -> Tensor:
        if self._pools is None:
            # By columns, as CatBoost keeps them: it takes them in half the time.
            rows = np.asarray(rows, np.float32, order="F")
        else:
            rows = self._pools.of(rows)
        try:
            found = self._model.predict(rows, prediction_type=RAW, thread_count=self._threads)
        except self._failed as exc:
            raise ServableFailed(f"CatBoost failed: {exc}") from exc
        return np.asarray(found)

    def _leaves(self, rows: Any, count: int) -> Tensor:
        if not count:
            return np.empty((0, self._model.tree_count_), np.int32)
        import catboost

        pool = catboost.Pool(rows) if self._pools is None else self._pools.of(rows)
        found = self._model.calc_leaf_indexes(pool, thread_count=self._threads)
        return np.asarray(found).astype(np.int32)

    def close(self) -> None:
        """Free the trees."""
        del self._model, self._sum  # what is freed cannot be asked
