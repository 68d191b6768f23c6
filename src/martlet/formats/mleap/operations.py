"""MLeap's feature operations: from nodes to stages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from martlet.formats.mleap.bundle import Node, Shape, Tensor
from martlet.formats.mleap.ports import Reader, in_out, inputs, invalid, outputs, width
from martlet.formats.stages import categories, numbers, scaling, shaping
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Kind, Port, Stage


def string_indexer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """
    MLeap for Spark 3 keeps a list of labels a column; before that there was one.

    The lists are asked for by the columns: MLeap writes a ``labels_length`` of 1 for several.
    """
    sources, targets = inputs(node), outputs(node)
    if node.get("labels_length") is None:
        labels = [node.need("labels")]
    else:
        labels = [node.need(f"labels_array_{i}") for i in range(len(sources))]
    return [categories.string_indexer(node.label, sources, targets, labels, invalid(node))]


def reverse_string_indexer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [categories.index_to_string(node.label, *in_out(node), node.need("labels"))]


def one_hot_encoder(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """
    Early encoders keep the width of their vector (``size``), later ones the categories.

    MLeap's Python package writes ``size`` too, with what becomes of other indices: of the
    categories, of which it drops none that is known.
    """
    sources, targets = inputs(node), outputs(node)
    drop_last = bool(node.get("drop_last", True))
    if node.get("size") is not None and node.get("handle_invalid"):
        sizes = [int(node.get("size"))]
        return [categories.one_hot(node.label, sources, targets, sizes, drop_last, invalid(node))]
    if node.get("size") is not None:
        size = int(node.get("size")) + drop_last
        return [categories.one_hot(node.label, sources, targets, [size], drop_last, Invalid.ERROR)]
    sizes = [int(each) for each in node.need("category_sizes")]
    return [categories.one_hot(node.label, sources, targets, sizes, drop_last, invalid(node))]


def vector_assembler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    sources = inputs(node)
    shapes: list[Shape] = node.get("input_shapes") or []
    ports = []
    for i, name in enumerate(sources):
        if name in known:
            ports.append(known[name])
        elif i >= len(shapes):
            ports.append(Port(name, Kind.ANY))
        elif shapes[i].base == "scalar":
            ports.append(Port(name, Kind.NUMBER))
        else:
            sizes = shapes[i].dimensions
            ports.append(Port(name, Kind.VECTOR, sizes[0] if len(sizes) == 1 else -1))
    return [shaping.assembler(node.label, sources, outputs(node)[0], ports, invalid(node))]


def standard_scaler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    mean = node.vector("mean") if node.get("mean") is not None else None
    std = node.vector("std") if node.get("std") is not None else None
    return [scaling.standard_scaler(node.label, *in_out(node), mean, std)]


def min_max_scaler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    low, high = node.vector("min"), node.vector("max")
    to = float(node.get("min_value", 0.0)), float(node.get("max_value", 1.0))
    return [scaling.min_max_scaler(node.label, *in_out(node), low, high, *to)]


def max_abs_scaler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    size = node.vector("maxAbs", "max_abs")
    return [scaling.scaler(node.label, *in_out(node), 1.0 / np.where(size == 0, 1.0, size))]


def normalizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [scaling.normalizer(node.label, *in_out(node), float(node.need("p_norm")))]


def elementwise_product(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [scaling.scaler(node.label, *in_out(node), node.vector("scaling_vec"))]


def idf(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [scaling.scaler(node.label, *in_out(node), node.vector("idf"))]


def vector_indexer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    maps = {}
    for key in node.need("keys"):
        values = node.need(f"key_{int(key)}_values")
        maps[int(key)] = dict(zip(node.need(f"key_{int(key)}_keys"), map(int, values), strict=True))
    width = int(node.need("num_features"))
    return [scaling.vector_indexer(node.label, *in_out(node), width, maps, invalid(node))]


def bucketizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """One column, or (``splits_array``) several; the outermost splits stand for infinities."""
    splits = node.get("splits_array")
    if splits is None:
        lists = [[float(v) for v in node.need("splits")]]
    else:
        lists = [
            (each.array() if isinstance(each, Tensor) else np.asarray(each, float)).tolist()
            for each in splits
        ]
    return [numbers.bucketizer(node.label, inputs(node), outputs(node), lists, invalid(node))]


def binarizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    source, output = in_out(node)
    limit = [float(node.need("threshold"))]
    shapes: list[Shape] = node.get("input_shapes") or node.get("input_shape") or []
    width: int | None = None
    if source in known and known[source].kind is Kind.VECTOR:
        width = known[source].width
    elif shapes and shapes[0].base == "tensor":
        width = shapes[0].dimensions[0] if len(shapes[0].dimensions) == 1 else -1
    return [numbers.binarizer(node.label, [source], [output], limit, [width])]


def imputer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    source, output = in_out(node)
    value = float(node.need("surrogate_value", "imputeValue", "impute_value"))
    missing = node.get("missing_value", node.get("missingValue"))
    missing = float("nan") if missing is None else float(missing)
    return [numbers.imputer(node.label, [source], [output], [value], missing)]


def pca(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [shaping.projection(node.label, *in_out(node), node.matrix("principal_components"))]


def polynomial_expansion(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    degree = int(node.need("degree"))
    return [shaping.polynomial_expansion(node.label, *in_out(node), degree, width(node, known))]


def dct(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [shaping.dct(node.label, *in_out(node), bool(node.get("inverse")))]


def vector_slicer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """The places of elements chosen by name (``named_indices``) follow the indices."""
    chosen = [int(i) for i in [*(node.get("indices") or []), *(node.get("named_indices") or [])]]
    return [shaping.slicer(node.label, *in_out(node), chosen, width(node, known))]


def chi_sq_selector(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    chosen = sorted(int(i) for i in node.need("filter_indices"))
    return [shaping.slicer(node.label, *in_out(node), chosen, width(node, known))]


def interaction(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """The file says of each input how many values each of its elements has: 1 is a number."""
    sources = inputs(node)
    ports: list[Port] = []
    sizes: list[int | shaping.Elements | None] = []
    for i, name in enumerate(sources):
        spec = [int(v) for v in node.need(f"num_features{i}")]
        if len(spec) == 1:
            ports.append(known.get(name, Port(name, Kind.NUMBER)))
            sizes.append(spec[0] if spec[0] > 1 else None)
        else:
            sizes.append(shaping.Elements(tuple(spec), name in known) if max(spec) > 1 else None)
            ports.append(known.get(name, Port(name, Kind.VECTOR, len(spec))))
    return [shaping.interaction(node.label, ports, outputs(node)[0], sizes)]


READERS: Mapping[str, Reader] = {
    "string_indexer": string_indexer,
    "reverse_string_indexer": reverse_string_indexer,
    "one_hot_encoder": one_hot_encoder,
    "vector_assembler": vector_assembler,
    "standard_scaler": standard_scaler,
    "min_max_scaler": min_max_scaler,
    "max_abs_scaler": max_abs_scaler,
    "normalizer": normalizer,
    "elementwise_product": elementwise_product,
    "idf": idf,
    "vector_indexer": vector_indexer,
    "bucketizer": bucketizer,
    "binarizer": binarizer,
    "imputer": imputer,
    "pca": pca,
    "polynomial_expansion": polynomial_expansion,
    "dct": dct,
    "vector_slicer": vector_slicer,
    "chi_sq_selector": chi_sq_selector,
    "interaction": interaction,
    "sklearn_binarizer": binarizer,
}
