"""XGBoost and LightGBM models as their Spark packages save them: from folders to stages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from martlet.errors import UnsupportedModel
from martlet.formats.spark.columns import Columns
from martlet.formats.spark.disk import Saved, text_lines
from martlet.formats.spark.features import Reader
from martlet.formats.spark.models import names
from martlet.formats.stages import boosters, shaping
from martlet.formats.stages.boosters import Boosted, Missing
from martlet.formats.stages.classes import (
    Chooser,
    argmax_choice,
    likeliest_choice,
    threshold_choice,
)
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.xgboost.binary import is_binary

_MAX_BYTES = 4 << 30


def _chooser(saved: Saved, plain: Chooser) -> Chooser:
    thresholds = saved.numbers("thresholds")
    return plain if thresholds is None else threshold_choice(saved.name, thresholds)


def _content(saved: Saved, folder: str, *named: str) -> bytes:
    """Return the bytes of the first file of *named* that lies below *folder*."""
    for name in named:
        path = saved.path / folder / name
        if path.is_file() and not path.is_symlink():
            if path.stat().st_size > _MAX_BYTES:
                raise UnsupportedModel(f"{path} is larger than {_MAX_BYTES} bytes")
            return path.read_bytes()
    raise UnsupportedModel(f"{saved.name}: there is no {named[0]} in {folder}")


def _refuse(saved: Saved, **neutral: object) -> None:
    """Refuse what changes the answers in a way that is not computed here."""
    for name, value in neutral.items():
        found = saved.params.get(name)
        if found not in (None, "", value):
            raise UnsupportedModel(f"{saved.name}: {name}={found!r} is not supported")


# -- XGBoost4J-Spark: a booster in a file of its own ---------------------------------------------


def _from_java(saved: Saved) -> tuple[Boosted, Missing]:
    """
    Versions before 1.7 put the number of classes before a classifier's booster.

    A row that Spark keeps sparse lacks what it leaves out. XGBoost4J-Spark refuses such rows
    where ``missing`` is another number than 0, unless told to allow it.
    """
    _refuse(saved, treeLimit=0, baseMarginCol="")
    content = _content(saved, "data", saved.kind, "model")
    if content[:1] != b"{" and not is_binary(content[:1024]) and is_binary(content[4:1028]):
        content = content[4:]
    number = saved.number("missing", float("nan"))
    absent = number != 0 and bool(saved.param("allowNonZeroForMissing", False))
    return boosters.xgboost(saved.name, content), Missing(number, absent, saved.spark)


def java_classifier(saved: Saved, columns: Columns) -> list[Stage]:
    booster, missing = _from_java(saved)
    choose = _chooser(saved, likeliest_choice)
    leaf = saved.text("leafPredictionCol", "")
    return [boosters.boosted_classifier(saved.name, booster, names(saved), missing, choose, leaf)]


def java_regressor(saved: Saved, columns: Columns) -> list[Stage]:
    booster, missing = _from_java(saved)
    leaf = saved.text("leafPredictionCol", "")
    features, prediction = saved.text("featuresCol"), saved.text("predictionCol")
    return [boosters.boosted_regressor(saved.name, booster, features, prediction, missing, leaf)]


# -- xgboost.spark, of XGBoost's Python package: JSON in lines ------------------------------------


def _from_python(saved: Saved) -> tuple[Boosted, Missing, str, list[Stage]]:
    """Columns may come one by one instead of as a vector; the answers are of the best round."""
    _refuse(saved, base_margin_col="")
    content = "".join(text_lines(saved.path / "model")).encode()
    booster = boosters.xgboost(saved.name, content, best=True)
    missing = Missing(saved.number("missing", float("nan")))
    several = saved.param("features_cols", [])
    if not several:
        return booster, missing, saved.text("featuresCol"), []
    column = f"{saved.uid}__features"
    ports = [Port(str(each), Kind.NUMBER) for each in several]
    return booster, missing, column, [
        shaping.assembler(saved.name, [p.name for p in ports], column, ports, Invalid.KEEP)
    ]  # fmt: skip


def python_classifier(saved: Saved, columns: Columns) -> list[Stage]:
    booster, missing, features, before = _from_python(saved)
    given = replace(names(saved), features=features)
    return [
        *before,
        boosters.boosted_classifier(saved.name, booster, given, missing, likeliest_choice),
    ]


def python_regressor(saved: Saved, columns: Columns) -> list[Stage]:
    booster, missing, features, before = _from_python(saved)
    prediction = saved.text("predictionCol")
    return [
        *before,
        boosters.boosted_regressor(saved.name, booster, features, prediction, missing),
    ]


# -- SynapseML and MMLSpark: LightGBM's text inside an object that Java has written ---------------

_STRING, _LONG_STRING = b"t", b"|"  # TC_STRING and TC_LONGSTRING of Java's object streams
_MARK = re.compile(rb"(t..|\|\0{4}....)(tree\r?\n(?:version|num_class)=)", re.DOTALL)


def lightgbm_text(stream: bytes, where: str) -> bytes:
    """
    Return LightGBM's text of the serialised Java object *stream*, of which nothing is run.

    Java writes a string as its length (16 bits, or 64) and modified UTF-8, which is plain for
    the characters of a model.

    Raises:
        UnsupportedModel: there is none, or it is cut short.

    Source: Java Object Serialization Specification, section 6.4.
    """
    found = _MARK.search(stream)
    if not stream.startswith(b"\xac\xed\x00\x05") or found is None:
        raise UnsupportedModel(f"{where} holds no model of LightGBM")
    size = int.from_bytes(found[1][1:], "big")
    text = stream[found.start(2) : found.start(2) + size]
    if len(text) < size:
        raise UnsupportedModel(f"{where} is cut short")
    return text


def _from_synapse(saved: Saved) -> Boosted:
    _refuse(saved, startIteration=0)
    stream = _content(saved, "complexParams", "lightGBMBooster", "model")
    booster = boosters.lightgbm(saved.name, lightgbm_text(stream, f"{saved.name}: its booster"))
    _refuse(saved, numIterations=-1)
    return booster


def synapse_classifier(saved: Saved, columns: Columns) -> list[Stage]:
    leaf = saved.text("leafPredictionCol", "")
    plain = argmax_choice if saved.text("rawPredictionCol") else likeliest_choice
    return [
        boosters.boosted_classifier(
            saved.name, _from_synapse(saved), names(saved), Missing(), _chooser(saved, plain), leaf
        )
    ]


def synapse_regressor(saved: Saved, columns: Columns) -> list[Stage]:
    """Regressors and rankers."""
    leaf = saved.text("leafPredictionCol", "")
    features, prediction = saved.text("featuresCol"), saved.text("predictionCol")
    return [
        boosters.boosted_regressor(
            saved.name, _from_synapse(saved), features, prediction, Missing(), leaf
        )
    ]


READERS: Mapping[str, Reader] = {
    "XGBoostClassificationModel": java_classifier,
    "XGBoostRegressionModel": java_regressor,
    "XGBoostRankerModel": java_regressor,
    "SparkXGBClassifierModel": python_classifier,
    "SparkXGBRegressorModel": python_regressor,
    "SparkXGBRankerModel": python_regressor,
    "LightGBMClassificationModel": synapse_classifier,
    "LightGBMRegressionModel": synapse_regressor,
    "LightGBMRankerModel": synapse_regressor,
}
