"""LightGBM's text model (``model.txt``), run by LightGBM's C library."""

from __future__ import annotations

import ctypes
import re
import weakref
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import ServableFailed, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.lightgbm.forest import Walk, walk_of
from martlet.formats.lightgbm.text import LightGBMText
from martlet.formats.links import Link, identity, sigmoid, softmax
from martlet.formats.tabular import Categories, Rows
from martlet.formats.trees.forest import Grown
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Spec, Tensor, Tensors

_UNNAMED = re.compile(r"Column_\d+|f?\d+")
_FLOAT64 = 1  # C_API_DTYPE_FLOAT64
_NORMAL, _RAW_SCORE, _LEAF = 0, 1, 2  # C_API_PREDICT_*


class LightGBMServable:
    """
    One Booster, all of its trees.

    Rows come as `Rows` says; a column that was a pandas category takes its values, as text or
    number, and an unknown one is missing. ``serving_default`` gives ``predict`` (probability,
    expected value or score) and ``raw_score`` (before the objective's link) from one walk of the
    trees; ``leaf`` gives each tree's leaf, ``[rows, trees]``.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        text = LightGBMText.read(path)
        self._link = identity if text.converted else _link(text.objective)
        self._averaged = text.averaged
        if self._link is not None and text.averaged:
            self._link = partial(
                _of_average, self._link, len(text.trees) // text.trees_per_iteration
            )
        self._library = _Library()
        self._booster = self._library.load(path, text.content)
        self._classes = text.trees_per_iteration
        self.features, self.trees = len(text.features), len(text.trees)
        self._parameters = f"num_threads={options.threads}".encode()
        self._one_row = self._library.one_row(self._booster, self.features, self._parameters)
        self._sum = self._proved(text) if self._link is not None else None
        self._free = weakref.finalize(self, self._library.free, self._booster, self._one_row)
        named = not all(_UNNAMED.fullmatch(name) for name in text.features)
        known = {name: Categories(values) for name, values in text.categories.items()}
        self._rows = Rows(text.features, named=named, categories=known)
        shape = (-1,) if self._classes == 1 else (-1, self._classes)
        self.signatures = self._rows.signatures(
            {
                DEFAULT_SIGNATURE: [
                    Spec(n, DType.FLOAT64, shape) for n in ("predict", "raw_score")
                ],
                "leaf": [Spec("leaf", DType.INT32, (-1, self.trees))],
            }
        )

    @property
    def grown(self) -> Grown | None:
        """Its trees and what becomes of their sums, for who writes them down otherwise."""
        if self._sum is None or self._link is None or self._averaged:
            return None
        if self._sum.zeros.size or self._sum.coded.size:
            return None
        return Grown(self._sum.trees, "raw_score", {"predict": self._link})

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Score the rows."""
        rows = self._rows.matrix(inputs, signature_name)
        if signature_name.startswith("leaf"):
            return {"leaf": self.leaves(rows)}
        predicted, raw = self.scores(rows)
        return {"predict": predicted, "raw_score": raw}

    def scores(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return what it predicts for *rows* [rows, features], and the raw scores."""
        raw = self._score(rows, _RAW_SCORE)
        return (self._score(rows, _NORMAL) if self._link is None else self._link(raw)), raw

    def leaves(self, rows: Tensor) -> Tensor:
        """Return the leaf of each row in each tree, int32 [rows, trees]."""
        leaves = self._library.predict(self._booster, rows, _LEAF, self.trees, self._parameters)
        return leaves.reshape(len(rows), self.trees).astype(np.int32)

    def _proved(self, text: LightGBMText) -> Walk | None:
        """Return the trees as martlet's own forest, if it adds up to the very same numbers."""
        found = walk_of(text.trees, len(text.features), self._classes)
        if found is None:
            return None
        rows = found.probes()
        theirs = self._library.predict(
            self._booster, rows, _RAW_SCORE, self._classes, self._parameters
        )
        return found if np.array_equal(found(rows).ravel(), theirs) else None

    def _score(self, rows: Tensor, kind: int) -> Tensor:
        if self._sum is not None and kind == _RAW_SCORE:
            sums: Tensor = self._sum(rows)
            return sums if self._classes > 1 else sums[:, 0]
        if len(rows) == 1 and kind == _RAW_SCORE:
            found = self._library.predict_one(self._one_row, rows, self._classes)
        else:
            found = self._library.predict(
                self._booster, rows, kind, self._classes, self._parameters
            )
        return found.reshape(len(rows), self._classes) if self._classes > 1 else found

    def close(self) -> None:
        """Free the trees."""
        self._free()
        del self._booster, self._one_row, self._sum  # what is freed cannot be asked


def _of_average(link: Link, iterations: int, raw: Tensor) -> Tensor:
    return link(raw / iterations)


def _of_square(link: Link, raw: Tensor) -> Tensor:
    return link(np.copysign(raw * raw, raw))


def _link(objective: list[str]) -> Link | None:
    """Return what turns raw scores into predictions; None for an objective we do not know."""
    name, *rest = objective or ["none"]
    parameters = {name: value for name, _, value in (each.partition(":") for each in rest)}
    slope = float(parameters.get("sigmoid", 1))
    if "sqrt" in parameters:
        # With poisson so wrote 2.0 alone, which squared the logarithm too.
        link = _LINKS.get(name)
        return None if link is None else partial(_of_square, link)
    if name in ("binary", "multiclassova"):
        return sigmoid if slope == 1 else partial(sigmoid, slope=slope)
    if name in ("cross_entropy_lambda", "xentlambda"):
        return lambda raw: np.log1p(np.exp(raw))
    return _LINKS.get(name)


_LINKS: dict[str, Link] = {
    "multiclass": softmax,
    **dict.fromkeys(("cross_entropy", "xentropy"), sigmoid),
    **dict.fromkeys(("poisson", "gamma", "tweedie"), np.exp),
    **dict.fromkeys(
        ("none", "regression", "regression_l1", "huber", "fair", "quantile", "mape"), identity
    ),
    **dict.fromkeys(("lambdarank", "rank_xendcg", "custom"), identity),
}


class _Library:
    """
    The few calls of LightGBM's C interface that scoring needs, each with its argument types.

    Python's ``Booster.predict`` spends some 40 microseconds a call before it reaches them.
    Source: LightGBM ``include/LightGBM/c_api.h``.
    """

    def __init__(self) -> None:
        import lightgbm

        home = Path(lightgbm.__file__).parent
        library = ctypes.CDLL(str(next(home.glob("**/lib_lightgbm.*"))))
        pointer, integer, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
        self._load = self._function(
            library, "LGBM_BoosterLoadModelFromString", text, pointer, pointer
        )
        self._predict = self._function(
            library,
            "LGBM_BoosterPredictForMat",
            *(pointer, pointer, integer, ctypes.c_int32, ctypes.c_int32, integer),
            *(integer, integer, integer, text, pointer, pointer),
        )
        self._one_row = self._function(
            library,
            "LGBM_BoosterPredictForMatSingleRowFastInit",
            *(pointer, integer, integer, integer, integer, ctypes.c_int32, text, pointer),
        )
        self._predict_one = self._function(
            library, "LGBM_BoosterPredictForMatSingleRowFast", *[pointer] * 4
        )
        self._free_one_row = self._function(library, "LGBM_FastConfigFree", pointer)
        self._free = self._function(library, "LGBM_BoosterFree", pointer)
        self._last_error = self._function(library, "LGBM_GetLastError")
        self._last_error.restype = text

    @staticmethod
    def _function(library: ctypes.CDLL, name: str, *types: Any) -> Any:
        # By item, not by attribute: a function object of our own, whose types nobody shares.
        function = library[name]
        function.argtypes = types
        return function

    def error(self) -> str:
        return str(self._last_error().decode(errors="replace"))

    def load(self, path: Path, content: bytes) -> ctypes.c_void_p:
        booster, iterations = ctypes.c_void_p(), ctypes.c_int()
        if self._load(content, ctypes.byref(iterations), ctypes.byref(booster)):
            raise UnsupportedModel(f"{path} is not a LightGBM model that loads: {self.error()}")
        return booster

    def one_row(self, booster: ctypes.c_void_p, features: int, parameters: bytes) -> Any:
        """Return what scores one row with everything but the row settled; threads may share it."""
        settled = ctypes.c_void_p()
        if self._one_row(
            booster, _RAW_SCORE, 0, -1, _FLOAT64, features, parameters, ctypes.byref(settled)
        ):
            raise ServableFailed(f"LightGBM failed: {self.error()}")
        return settled

    def predict_one(self, settled: Any, row: Tensor, width: int) -> Tensor:
        found, written = np.empty(width), ctypes.c_int64()
        if self._predict_one(settled, row.ctypes.data, ctypes.byref(written), found.ctypes.data):
            raise ServableFailed(f"LightGBM failed: {self.error()}")
        return found

    def predict(
        self, booster: ctypes.c_void_p, rows: Tensor, kind: int, width: int, parameters: bytes
    ) -> Tensor:
        count, features = rows.shape
        found, written = np.empty(count * width), ctypes.c_int64()
        if count and self._predict(
            booster,
            rows.ctypes.data,
            _FLOAT64,
            count,
            features,
            rows.flags.c_contiguous,
            kind,
            0,
            -1,
            parameters,
            ctypes.byref(written),
            found.ctypes.data,
        ):
            raise ServableFailed(f"LightGBM failed: {self.error()}")
        return found

    def free(self, booster: ctypes.c_void_p, one_row: Any) -> None:
        self._free_one_row(one_row)
        self._free(booster)
