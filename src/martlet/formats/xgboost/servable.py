"""XGBoost's models (``.json``, ``.ubj``, the old binary), run by XGBoost's C library."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel, first_line
from martlet.formats import LoadOptions
from martlet.formats.lightgbm.forest import hard_rows
from martlet.formats.links import Chosen, Link, identity, likeliest, sigmoid, softmax
from martlet.formats.tabular import Categories, Rows
from martlet.formats.trees.forest import Grown, TreeSum
from martlet.formats.xgboost.file import XGBoostFile
from martlet.formats.xgboost.forest import sums_of
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Spec, Tensor, Tensors

_UNNAMED = re.compile(r"f?\d+")


class XGBoostServable:
    """
    One Booster, all of its trees (XGBoost's own default, whatever ``best_iteration`` says).

    Rows come as `Rows` says; XGBoost rounds them to float32. ``serving_default`` gives
    ``predict`` and ``margin`` (before the objective's link) from one walk of the trees;
    ``leaf`` gives the leaf of each tree, ``[rows, trees]``.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        file = XGBoostFile.read(path)
        import xgboost

        self._failed = xgboost.core.XGBoostError
        try:
            self._booster = xgboost.Booster(
                {"nthread": options.threads, "verbosity": 0}, model_file=bytearray(file.content)
            )
            # A linear booster has no call for rows in place.
            self._predict = _Predict(self._booster) if file.trees else self._table_margin
            found = self._predict(np.zeros((1, file.features)))
        except (self._failed, UnicodeDecodeError) as exc:  # a message may quote damaged bytes
            raise UnsupportedModel(
                f"{path} is not an XGBoost model that loads: {first_line(exc)}"
            ) from exc
        self._link = _LINKS.get(file.objective)
        self._sum = self._proved(file)
        self.features, self.trees = file.features, file.trees
        self._rows = _rows(file)
        width = found.shape[1:]
        predicted = self._linked(found, np.zeros((1, file.features))).shape[1:]
        ways = {
            DEFAULT_SIGNATURE: [
                Spec("predict", DType.FLOAT32, (-1, *predicted)),
                Spec("margin", DType.FLOAT32, (-1, *width)),
            ]
        }
        if self.trees:
            ways["leaf"] = [Spec("leaf", DType.INT32, (-1, self.trees))]
        self._width = width
        self.signatures = self._rows.signatures(ways)

    @property
    def grown(self) -> Grown | None:
        """Its trees and what becomes of their sums, for who writes them down otherwise."""
        if self._sum is None or self._link is None:
            return None
        return Grown(self._sum, "margin", {"predict": self._link})

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Score the rows."""
        rows = self._rows.matrix(inputs, signature_name)
        if signature_name.startswith("leaf"):
            return {"leaf": self.leaves(rows)}
        predicted, margin = self.scores(rows)
        return {"predict": predicted, "margin": margin}

    def scores(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what it predicts for *rows* [rows, features], and the margins."""
        try:
            margin = self._margin(rows)
        except self._failed as exc:
            raise _translated(exc) from exc
        return self._linked(margin, rows), margin

    def leaves(self, rows: Tensor) -> Tensor:
        """Return the leaf of each row in each tree, int32 [rows, trees]."""
        try:
            return self._leaves(rows)
        except self._failed as exc:
            raise _translated(exc) from exc

    def up_to_best(self) -> bytes | None:
        """Return the model of the rounds up to the best one; None: no early stop has named it."""
        best = self._booster.attr("best_iteration")
        if best is None or int(best) + 1 >= self._booster.num_boosted_rounds():
            return None
        return bytes(self._booster[: int(best) + 1].save_raw("json"))

    def _linked(self, margin: Tensor, rows: Tensor) -> Tensor:
        if self._link is not None:
            return self._link(margin)
        # An objective that came after this was written: XGBoost walks the trees once more.
        return np.asarray(self._booster.predict(self._table(rows))) if len(rows) else margin

    def _proved(self, file: XGBoostFile) -> TreeSum | None:
        """Return the trees as martlet's own forest, if it adds up to the very same numbers."""
        for found in sums_of(file):
            rows = hard_rows(found.forest)
            if np.array_equal(found(rows).ravel(), self._predict(rows).ravel()):
                return found
        return None

    def _margin(self, rows: Tensor) -> Tensor:
        if self._sum is not None:
            return self._sum(rows).astype(np.float32).reshape(len(rows), *self._width)
        return self._predict(rows) if len(rows) else np.empty((0, *self._width), np.float32)

    def _table(self, rows: Tensor) -> Any:
        import xgboost

        names, types = self._booster.feature_names, self._booster.feature_types
        return xgboost.DMatrix(
            rows, feature_names=names, feature_types=types, enable_categorical=True
        )

    def _table_margin(self, rows: Tensor) -> Tensor:
        return np.asarray(self._booster.predict(self._table(rows), output_margin=True))

    def _leaves(self, rows: Tensor) -> Tensor:
        if not len(rows):
            return np.empty((0, self.trees), np.int32)
        found = self._booster.predict(self._table(rows), pred_leaf=True)
        return np.asarray(found).reshape(len(rows), self.trees).astype(np.int32)

    def close(self) -> None:
        """Free the trees."""
        del self._booster, self._predict, self._sum


def _translated(exc: Exception) -> InvalidInput | ServableFailed:
    text = first_line(exc)
    if "inf" in text and "Input data" in str(exc):
        return InvalidInput(f"XGBoost takes no infinities: {text}")
    return ServableFailed(f"XGBoost failed: {text}")


def _rows(file: XGBoostFile) -> Rows:
    names = list(file.learner.get("feature_names") or map(str, range(file.features)))
    named = not all(_UNNAMED.fullmatch(name) for name in names)
    known = {names[i]: Categories(values) for i, values in file.categories.items()}
    return Rows(names, named=named, categories=known)


_LINKS: dict[str, Link] = {
    "binary:logistic": sigmoid,
    "reg:logistic": sigmoid,
    "binary:hinge": Chosen(np.array([0, 1], np.float32), 0.0),
    "multi:softmax": likeliest,
    "multi:softprob": softmax,
    **dict.fromkeys(
        ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft"), np.exp
    ),
    **dict.fromkeys(
        (
            *("binary:logitraw", "reg:squarederror", "reg:squaredlogerror", "reg:linear"),
            *("reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror"),
            *("rank:pairwise", "rank:ndcg", "rank:map"),
        ),
        identity,
    ),
}


class _Predict:
    """
    The margins of dense rows: the call beneath ``Booster.inplace_predict``, made up beforehand.

    Python's own wrapper spends some 40 microseconds a call on asking what it was given.
    Source: XGBoost ``include/xgboost/c_api.h``, XGBoosterPredictFromDense.
    """

    def __init__(self, booster: Any) -> None:
        import xgboost
        from xgboost.libpath import find_lib_path

        self._booster = booster  # keeps the handle alive
        self._error = xgboost.core.XGBoostError
        library = ctypes.CDLL(find_lib_path()[0])
        # By item, not by attribute: function objects of our own, whose types nobody shares.
        pointer, text = ctypes.c_void_p, ctypes.c_char_p
        self._call = library["XGBoosterPredictFromDense"]
        self._call.argtypes = (pointer, text, text, *[pointer] * 4)
        self._last_error = library["XGBGetLastError"]
        self._last_error.restype = text
        # type 1: the margin; iterations 0 to 0: all of them.
        self._settings = (
            b'{"type":1,"training":false,"iteration_begin":0,"iteration_end":0,'
            b'"missing":NaN,"strict_shape":false,"cache_id":0}'
        )

    def __call__(self, rows: Tensor) -> Tensor:
        count, features = rows.shape
        strides = "null" if rows.flags.c_contiguous else f"[{rows.strides[0]},{rows.strides[1]}]"
        described = (
            f'{{"data":[{rows.ctypes.data},true],"shape":[{count},{features}],'
            f'"strides":{strides},"typestr":"<f8","version":3}}'
        )
        shape, axes = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64()
        values = ctypes.POINTER(ctypes.c_float)()
        failed = self._call(
            self._booster.handle,
            described.encode(),
            self._settings,
            None,
            ctypes.byref(shape),
            ctypes.byref(axes),
            ctypes.byref(values),
        )
        if failed:
            raise self._error(self._last_error().decode(errors="replace"))
        # The library owns the buffer and reuses it in this thread's next call.
        found = np.empty(tuple(shape[: axes.value]), np.float32)
        ctypes.memmove(found.ctypes.data, values, found.nbytes)
        return found
