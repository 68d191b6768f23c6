"""Feature stages of Spark ML: from their folders to stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.spark import attributes
from martlet.formats.spark.columns import Columns
from martlet.formats.spark.disk import Saved, matrix, number, vector
from martlet.formats.stages import categories, numbers, scaling, shaping, sql
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Kind, Port, Stage

Reader = Callable[[Saved, Columns], list[Stage]]


# From here on a VectorIndexer's schema counts the index of what was not seen.
_COUNTS_THE_UNKNOWN = (4, 3)
# What Spark's schema calls the index of what no label stands for.
_UNKNOWN = ["__unknown"]


def _invalid(saved: Saved, default: str = "error") -> Invalid:
    return Invalid.named(saved.text("handleInvalid", default), saved.name)


def in_out(saved: Saved) -> tuple[str, str]:
    """Return the columns of a stage that has one each."""
    return saved.text("inputCol"), saved.text("outputCol", f"{saved.uid}__output")


def _select_in_out(saved: Saved) -> tuple[str, str]:
    return saved.text("featuresCol"), saved.text("outputCol", f"{saved.uid}__output")


def string_indexer(saved: Saved, columns: Columns) -> list[Stage]:
    """Spark 2 keeps one list of labels, Spark 3 and later one a column."""
    row = saved.row()
    labels = row["labelsArray"] if "labelsArray" in row else [row["labels"]]
    inputs, outputs = saved.inputs(), saved.outputs()
    invalid = _invalid(saved)
    if len(labels) != len(inputs):
        raise UnsupportedModel(f"{saved.name}: {len(labels)} lists of labels, {len(inputs)} inputs")
    for output, each in zip(outputs, labels, strict=False):
        attributes.index(columns, output, [*each, *_UNKNOWN[: invalid is Invalid.KEEP]])
    return [categories.string_indexer(saved.name, inputs, outputs, labels, invalid)]


def index_to_string(saved: Saved, columns: Columns) -> list[Stage]:
    source, output = in_out(saved)
    labels = saved.param("labels") or attributes.labels(columns, source)
    if not labels:
        raise UnsupportedModel(
            f"{saved.name} keeps no labels, and no StringIndexer before it makes {source!r}: it "
            "took them from its training data's schema, which is not saved; set labels before "
            "saving"
        )
    return [categories.index_to_string(saved.name, source, output, labels)]


def one_hot_model(saved: Saved, columns: Columns) -> list[Stage]:
    sizes = [int(size) for size in saved.row()["categorySizes"]]
    drop_last = bool(saved.param("dropLast", True))
    return [_one_hot(saved, columns, sizes, drop_last, _invalid(saved))]


def _one_hot(
    saved: Saved, columns: Columns, sizes: list[int], drop_last: bool, invalid: Invalid
) -> Stage:
    inputs, outputs = saved.inputs(), saved.outputs()
    stage = categories.one_hot(saved.name, inputs, outputs, sizes, drop_last, invalid)
    for source, port in zip(inputs, stage.outputs, strict=True):
        attributes.one_hot(columns, source, port.name, port.width)
    return stage


def one_hot_spark2(saved: Saved, columns: Columns) -> list[Stage]:
    """Spark 2's encoder keeps no size: it took that from its input's labels."""
    source, _ = in_out(saved)
    size = columns.categories(source)
    if size is None:
        raise UnsupportedModel(
            f"{saved.name} keeps no number of categories, and no StringIndexer before it "
            f"makes {source!r}"
        )
    drop_last = bool(saved.param("dropLast", True))
    return [_one_hot(saved, columns, [size], drop_last, Invalid.ERROR)]


def target_encoder(saved: Saved, columns: Columns) -> list[Stage]:
    """Each row of the data has a column's categories; the one past int32 stands for all."""
    everything = float(2**31 - 1)
    smoothing = saved.number("smoothing", 0.0)
    binary = saved.text("targetType", "binary") == "binary"
    tables, others, nulls = [], [], []
    for row in sorted(saved.rows(), key=lambda row: row["index"]):
        found = dict(
            zip(row["categories"], zip(row["counts"], row["stats"], strict=True), strict=True)
        )
        total, overall = found[everything]
        prior = overall / total if binary else overall

        def encoded(count: float, stat: float, prior: float = prior) -> float:
            if count <= 0:
                return prior
            weight = count / (count + smoothing)
            return weight * (stat / count if binary else stat) + (1 - weight) * prior

        known = {k: encoded(*v) for k, v in found.items() if k != everything}
        nulls.append(known.pop(-1.0, math.nan))
        tables.append(known)
        others.append(prior)
    return [
        categories.target_encoder(
            saved.name, saved.inputs(), saved.outputs(), tables, others, nulls, _invalid(saved)
        )
    ]


def vector_assembler(saved: Saved, columns: Columns) -> list[Stage]:
    inputs, output = saved.inputs(), saved.text("outputCol", f"{saved.uid}__output")
    ports = [columns.port(name) for name in inputs]
    attributes.assembled(columns, inputs, output)
    return [shaping.assembler(saved.name, inputs, output, ports, _invalid(saved))]


def bucketizer(saved: Saved, columns: Columns) -> list[Stage]:
    splits = saved.param("splitsArray") or [saved.param("splits")]
    edges = [[number(v, f"{saved.name}: splits") for v in each] for each in splits]
    for output, each in zip(saved.outputs(), edges, strict=False):
        attributes.buckets(columns, output, each)
    return [numbers.bucketizer(saved.name, saved.inputs(), saved.outputs(), edges, _invalid(saved))]


def binarizer(saved: Saved, columns: Columns) -> list[Stage]:
    inputs = saved.inputs()
    limits = saved.numbers("thresholds")
    if limits is None or "inputCols" not in saved.params:
        limits = [saved.number("threshold", 0.0)] * len(inputs)
    widths = [columns.width(name) if columns.is_vector(name) else None for name in inputs]
    if not any(map(columns.made, inputs)) and len(inputs) == 1:
        # A raw column: a number, or a vector that only the caller knows to be one.
        stage = numbers.binarizer(saved.name, inputs, saved.outputs(), limits, widths)
        return [_either(stage)]
    return [numbers.binarizer(saved.name, inputs, saved.outputs(), limits, widths)]


def _either(stage: Stage) -> Stage:
    return Stage(
        stage.name,
        tuple(Port(port.name, Kind.ANY) for port in stage.inputs),
        tuple(Port(port.name, Kind.ANY) for port in stage.outputs),
        stage.run,
    )


def imputer(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    inputs = saved.inputs()
    return [
        numbers.imputer(
            saved.name,
            inputs,
            saved.outputs(),
            [number(row[name], f"{saved.name}: {name}") for name in inputs],
            saved.number("missingValue", math.nan),
        )
    ]


def standard_scaler(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    mean = vector(row["mean"], saved.name) if saved.param("withMean", False) else None
    std = vector(row["std"], saved.name) if saved.param("withStd", True) else None
    return [scaling.standard_scaler(saved.name, *in_out(saved), mean, std)]


def min_max_scaler(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    low, high = vector(row["originalMin"], saved.name), vector(row["originalMax"], saved.name)
    to = saved.number("min", 0.0), saved.number("max", 1.0)
    return [scaling.min_max_scaler(saved.name, *in_out(saved), low, high, *to)]


def max_abs_scaler(saved: Saved, columns: Columns) -> list[Stage]:
    size = vector(saved.row()["maxAbs"], saved.name)
    factors = 1.0 / np.where(size == 0, 1.0, size)
    return [scaling.scaler(saved.name, *in_out(saved), factors)]


def robust_scaler(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    median = vector(row["median"], saved.name) if saved.param("withCentering", False) else None
    span = vector(row["range"], saved.name) if saved.param("withScaling", True) else None
    return [scaling.standard_scaler(saved.name, *in_out(saved), median, span)]


def normalizer(saved: Saved, columns: Columns) -> list[Stage]:
    return [scaling.normalizer(saved.name, *in_out(saved), saved.number("p", 2.0))]


def elementwise_product(saved: Saved, columns: Columns) -> list[Stage]:
    factors = vector(saved.param("scalingVec"), f"{saved.name}: scalingVec")
    return [scaling.scaler(saved.name, *in_out(saved), factors)]


def vector_indexer(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    maps = {int(column): dict(table) for column, table in dict(row["categoryMaps"]).items()}
    (source, output), width, invalid = in_out(saved), int(row["numFeatures"]), _invalid(saved)
    counted = invalid is Invalid.KEEP and saved.spark >= _COUNTS_THE_UNKNOWN
    attributes.vector_indexed(columns, source, output, width, maps, counted)
    return [scaling.vector_indexer(saved.name, source, output, width, maps, invalid)]


def selector(saved: Saved, columns: Columns) -> list[Stage]:
    """The indices are kept sorted, as Spark applies them."""
    chosen = sorted(int(i) for i in saved.row()["selectedFeatures"])
    source, output = _select_in_out(saved)
    width = saved.extra.get("numFeatures", columns.width(source))
    attributes.chosen(columns, source, output, chosen)
    return [shaping.slicer(saved.name, source, output, chosen, int(width))]


def vector_slicer(saved: Saved, columns: Columns) -> list[Stage]:
    """The elements chosen by name follow those chosen by index."""
    source, output = in_out(saved)
    chosen = [int(i) for i in saved.param("indices", [])]
    width = columns.width(source)
    if named := saved.param("names", []):
        chosen += attributes.places(columns, source, named, saved.name)
        width = len(columns.attributes(source) or ())
    attributes.chosen(columns, source, output, chosen)
    return [shaping.slicer(saved.name, source, output, chosen, width)]


def pca(saved: Saved, columns: Columns) -> list[Stage]:
    components = matrix(saved.row()["pc"], saved.name)
    return [shaping.projection(saved.name, *in_out(saved), components)]


def polynomial_expansion(saved: Saved, columns: Columns) -> list[Stage]:
    source, output = in_out(saved)
    degree = int(saved.number("degree", 2))
    return [shaping.polynomial_expansion(saved.name, source, output, degree, columns.width(source))]


def dct(saved: Saved, columns: Columns) -> list[Stage]:
    return [shaping.dct(saved.name, *in_out(saved), bool(saved.param("inverse", False)))]


def interaction(saved: Saved, columns: Columns) -> list[Stage]:
    """An element of a vector that is an index is spread out too, as an index column is."""
    ports: list[Port] = []
    sizes: list[int | shaping.Elements | None] = []
    for name in saved.inputs():
        port = columns.port(name) if columns.made(name) else Port(name, Kind.NUMBER)
        if port.kind is Kind.VECTOR:
            found = attributes.elements(columns, name, saved.spark)
            sizes.append(found)
            ports.append(port if found is None else replace(port, width=len(found.sizes)))
        else:
            sizes.append(columns.categories(name))
            ports.append(port)
    return [shaping.interaction(saved.name, ports, saved.text("outputCol"), sizes)]


def size_hint(saved: Saved, columns: Columns) -> list[Stage]:
    column, size = saved.text("inputCol"), int(saved.number("size"))
    if (known := columns.attributes(column)) is not None and len(known) == size:
        columns.describe(column, lambda: known)
    return [shaping.size_hint(saved.name, column, size)]


def idf(saved: Saved, columns: Columns) -> list[Stage]:
    return [scaling.scaler(saved.name, *in_out(saved), vector(saved.row()["idf"], saved.name))]


def sql_transformer(saved: Saved, columns: Columns) -> list[Stage]:
    """A column that is passed on by another name is asked for by its own."""
    found = sql.select(saved.name, saved.text("statement"), columns.found)
    called = columns.caller()
    columns.rename(found.renamed)
    return [called(stage) for stage in found.stages]


def nothing(saved: Saved, columns: Columns) -> list[Stage]:
    """A stage that only names columns, or drops some: there is nothing to compute."""
    return []


READERS: Mapping[str, Reader] = {
    "StringIndexerModel": string_indexer,
    "IndexToString": index_to_string,
    "OneHotEncoderModel": one_hot_model,
    "OneHotEncoder": one_hot_spark2,
    "TargetEncoderModel": target_encoder,
    "VectorAssembler": vector_assembler,
    "Bucketizer": bucketizer,
    "QuantileDiscretizer": bucketizer,
    "Binarizer": binarizer,
    "ImputerModel": imputer,
    "StandardScalerModel": standard_scaler,
    "MinMaxScalerModel": min_max_scaler,
    "MaxAbsScalerModel": max_abs_scaler,
    "RobustScalerModel": robust_scaler,
    "Normalizer": normalizer,
    "ElementwiseProduct": elementwise_product,
    "VectorIndexerModel": vector_indexer,
    "ChiSqSelectorModel": selector,
    "UnivariateFeatureSelectorModel": selector,
    "VarianceThresholdSelectorModel": selector,
    "VectorSlicer": vector_slicer,
    "PCAModel": pca,
    "PolynomialExpansion": polynomial_expansion,
    "DCT": dct,
    "Interaction": interaction,
    "VectorSizeHint": size_hint,
    "IDFModel": idf,
    "SQLTransformer": sql_transformer,
    "VectorAttributeRewriter": nothing,
    "ColumnPruner": nothing,
}
