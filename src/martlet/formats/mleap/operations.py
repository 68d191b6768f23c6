"""MLeap's feature operations: from nodes to stages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.mleap.bundle import Node, Shape, Tensor
from martlet.formats.stages import categories, hashing, numbers, scaling, shaping, text
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.plan import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats

Reader = Callable[[Node, Mapping[str, Port]], list[Stage]]


def _inputs(node: Node) -> list[str]:
    """Return the columns at ``input``, or at ``input0``, ``input1`` ... in that order."""
    return _ordered(node.inputs, "input")


def _outputs(node: Node) -> list[str]:
    return _ordered(node.outputs, "output")


def _ordered(sockets: Sequence[tuple[str, str]], word: str) -> list[str]:
    numbered = [
        (int(port[len(word) :] or 0), name)
        for port, name in sockets
        if port.startswith(word) and (port[len(word) :] or "0").isdigit()
    ]
    return [name for _, name in sorted(numbered)]


def _in_out(node: Node) -> tuple[str, str]:
    sources, outputs = _inputs(node), _outputs(node)
    if len(sources) != 1 or len(outputs) != 1:
        raise UnsupportedModel(f"{node.label} has {len(sources)} inputs, {len(outputs)} outputs")
    return sources[0], outputs[0]


def _invalid(node: Node) -> Invalid:
    return Invalid.named(str(node.get("handle_invalid") or "error"), node.label)


def _width(node: Node, known: Mapping[str, Port]) -> int:
    source = _inputs(node)[0]
    return known[source].width if source in known else -1


def string_indexer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """MLeap for Spark 3 keeps a list of labels a column; before that there was one."""
    count = node.get("labels_length")
    if count is None:
        labels = [node.need("labels")]
    else:
        labels = [node.need(f"labels_array_{i}") for i in range(min(int(count), 10_000))]
    sources, outputs = _inputs(node), _outputs(node)
    return [categories.string_indexer(node.label, sources, outputs, labels, _invalid(node))]


def reverse_string_indexer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [categories.index_to_string(node.label, *_in_out(node), node.need("labels"))]


def one_hot_encoder(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """Early encoders keep the width of their vector (``size``), later ones the categories."""
    sources, outputs = _inputs(node), _outputs(node)
    drop_last = bool(node.get("drop_last", True))
    if node.get("size") is not None:
        size = int(node.get("size")) + drop_last
        return [categories.one_hot(node.label, sources, outputs, [size], drop_last, Invalid.ERROR)]
    sizes = [int(each) for each in node.need("category_sizes")]
    return [categories.one_hot(node.label, sources, outputs, sizes, drop_last, _invalid(node))]


def vector_assembler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    sources = _inputs(node)
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
    return [shaping.assembler(node.label, sources, _outputs(node)[0], ports, _invalid(node))]


def standard_scaler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    mean = node.vector("mean") if node.get("mean") is not None else None
    std = node.vector("std") if node.get("std") is not None else None
    return [scaling.standard_scaler(node.label, *_in_out(node), mean, std)]


def min_max_scaler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    low, high = node.vector("min"), node.vector("max")
    to = float(node.get("min_value", 0.0)), float(node.get("max_value", 1.0))
    return [scaling.min_max_scaler(node.label, *_in_out(node), low, high, *to)]


def max_abs_scaler(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    size = node.vector("maxAbs", "max_abs")
    return [scaling.scaler(node.label, *_in_out(node), 1.0 / np.where(size == 0, 1.0, size))]


def normalizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [scaling.normalizer(node.label, *_in_out(node), float(node.need("p_norm")))]


def elementwise_product(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [scaling.scaler(node.label, *_in_out(node), node.vector("scaling_vec"))]


def idf(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [scaling.scaler(node.label, *_in_out(node), node.vector("idf"))]


def vector_indexer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    maps = {}
    for key in node.need("keys"):
        values = node.need(f"key_{int(key)}_values")
        maps[int(key)] = dict(zip(node.need(f"key_{int(key)}_keys"), map(int, values), strict=True))
    width = int(node.need("num_features"))
    return [scaling.vector_indexer(node.label, *_in_out(node), width, maps, _invalid(node))]


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
    return [numbers.bucketizer(node.label, _inputs(node), _outputs(node), lists, _invalid(node))]


def binarizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    source, output = _in_out(node)
    limit = [float(node.need("threshold"))]
    shapes: list[Shape] = node.get("input_shapes") or node.get("input_shape") or []
    width: int | None = None
    if source in known and known[source].kind is Kind.VECTOR:
        width = known[source].width
    elif shapes and shapes[0].base == "tensor":
        width = shapes[0].dimensions[0] if len(shapes[0].dimensions) == 1 else -1
    return [numbers.binarizer(node.label, [source], [output], limit, [width])]


def imputer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    source, output = _in_out(node)
    value = float(node.need("surrogate_value", "imputeValue", "impute_value"))
    missing = node.get("missing_value", node.get("missingValue"))
    missing = float("nan") if missing is None else float(missing)
    return [numbers.imputer(node.label, [source], [output], [value], missing)]


def pca(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [shaping.projection(node.label, *_in_out(node), node.matrix("principal_components"))]


def polynomial_expansion(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    degree = int(node.need("degree"))
    return [shaping.polynomial_expansion(node.label, *_in_out(node), degree, _width(node, known))]


def dct(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [shaping.dct(node.label, *_in_out(node), bool(node.get("inverse")))]


def vector_slicer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """Names that the file resolved (``named_indices``) follow the indices."""
    chosen = [
        int(i) for i in [*(node.get("indices") or []), *(node.get("named_indices_indices") or [])]
    ]
    return [shaping.slicer(node.label, *_in_out(node), chosen, _width(node, known))]


def chi_sq_selector(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    chosen = sorted(int(i) for i in node.need("filter_indices"))
    return [shaping.slicer(node.label, *_in_out(node), chosen, _width(node, known))]


def interaction(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """The file says of each input how many values each of its elements has: 1 is a number."""
    sources = _inputs(node)
    ports, sizes = [], []
    for i, name in enumerate(sources):
        spec = [int(v) for v in node.need(f"num_features{i}")]
        if len(spec) == 1:
            ports.append(known.get(name, Port(name, Kind.NUMBER)))
            sizes.append(spec[0] if spec[0] > 1 else None)
        else:
            if any(v != 1 for v in spec):
                raise UnsupportedModel(
                    f"{node.label}: {name!r} is a vector with categories, which is not supported"
                )
            ports.append(known.get(name, Port(name, Kind.VECTOR, len(spec))))
            sizes.append(None)
    return [shaping.interaction(node.label, ports, _outputs(node)[0], sizes)]


def tokenizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [text.tokenizer(node.label, *_in_out(node))]


def regex_tokenizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [
        text.regex_tokenizer(
            node.label,
            *_in_out(node),
            str(node.need("regex")),
            bool(node.get("match_gaps", True)),
            int(node.get("token_min_length", 1)),
            bool(node.get("lowercase_text", True)),
        )
    ]


def stopwords_remover(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    sensitive = bool(node.get("case_sensitive", False))
    sources, outputs = _inputs(node), _outputs(node)
    return [
        text.stop_words_remover(node.label, sources, outputs, node.need("stop_words"), sensitive)
    ]


def ngram(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [text.ngram(node.label, *_in_out(node), int(node.need("n")))]


def word_filter(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    least = int(node.get("length", 3))
    return [text.length_filter(node.label, *_in_out(node), least)]


def hashing_term_frequency(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """Version 1 of the hash is Spark 2's, and what a file that names none was written with."""
    legacy = int(node.get("hashUnsafeBytesVersion", 1)) == 1
    return [
        hashing.hashing_tf(
            node.label, *_in_out(node), _places(node), bool(node.get("binary", False)),
            legacy=legacy,
        )
    ]  # fmt: skip


def _places(node: Node) -> int:
    width = int(node.need("num_features"))
    if not 0 < width <= 1 << 31:
        raise UnsupportedModel(f"{node.label}: num_features is {width}")
    return width


def feature_hasher(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    categorical = node.get("categorical_cols") or []
    sources = _inputs(node)
    names = node.get("input_names") or sources
    if list(names) != sources:
        raise UnsupportedModel(f"{node.label}: its columns are not named as when it was trained")
    return [
        hashing.feature_hasher(node.label, sources, _outputs(node)[0], _places(node), categorical)
    ]


def count_vectorizer(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    return [
        text.count_vectorizer(
            node.label,
            *_in_out(node),
            node.need("vocabulary"),
            bool(node.get("binary", False)),
            float(node.get("min_tf", 1.0)),
        )
    ]


def word_to_vector(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    words = list(node.need("words"))
    flat = node.vector("word_vectors")
    if not words or len(flat) % len(words):
        raise UnsupportedModel(f"{node.label}: {len(flat)} numbers for {len(words)} words")
    table = flat.reshape(len(words), -1)
    indices = [int(i) for i in node.get("indices") or range(len(words))]
    if sorted(indices) != list(range(len(words))):
        raise UnsupportedModel(f"{node.label}: its indices do not number its words")
    kernel = str(node.get("kernel") or "default")
    if kernel not in ("default", "sqrt"):
        raise UnsupportedModel(f"{node.label}: the kernel {kernel!r} is not supported")
    return [
        text.mean_vector(node.label, *_in_out(node), words, table[indices], root=kernel == "sqrt")
    ]


def random_projection(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    directions = np.stack(node.vectors("random_unit_vectors")).T.copy()
    length = float(node.need("bucket_length"))
    return [hashing.random_projection(node.label, *_in_out(node), directions, length)]


def min_hash(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    a = [int(v) for v in node.need("random_coefficients_a")]
    b = [int(v) for v in node.need("random_coefficients_b")]
    return [hashing.min_hash(node.label, *_in_out(node), list(zip(a, b, strict=True)))]


_UNARY: Mapping[str, Callable[[Floats], Floats]] = {
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "log": np.log, "exp": np.exp, "abs": np.abs,
    "sqrt": np.sqrt, "logit": lambda x: -np.log(1.0 / x - 1.0),
}  # fmt: skip
_BINARY: Mapping[str, Callable[[Floats, Floats], Floats]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "rem": np.fmod, "logn": lambda x, base: np.log(x) / np.log(base), "pow": np.power,
    "min": np.minimum, "max": np.maximum,
}  # fmt: skip


def _quiet(function: Callable[..., Floats]) -> Callable[..., Floats]:
    def run(*columns: Floats) -> Floats:
        with np.errstate(all="ignore"):
            return np.asarray(function(*columns))

    return run


def math_unary(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    name = str(node.need("operation"))
    if name not in _UNARY:
        raise UnsupportedModel(f"{node.label}: the operation {name!r} is not supported")
    source, output = _in_out(node)
    return [
        Stage(
            node.label,
            (Port(source, Kind.NUMBER),),
            (Port(output, Kind.NUMBER),),
            _quiet(_UNARY[name]),
        )
    ]


def math_binary(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """Either side may be a constant of the file."""
    name = str(node.need("operation"))
    if name not in _BINARY:
        raise UnsupportedModel(f"{node.label}: the operation {name!r} is not supported")
    function = _BINARY[name]
    left, right = node.port("input_a"), node.port("input_b")
    sides: list[str | float] = [left or float(node.need("da")), right or float(node.need("db"))]
    columns = [each for each in sides if isinstance(each, str)]
    if not columns:
        raise UnsupportedModel(f"{node.label} has no input")

    def run(*given: Floats) -> Floats:
        rest = list(given)
        both = [rest.pop(0) if isinstance(each, str) else np.float64(each) for each in sides]
        return function(np.asarray(both[0]), np.asarray(both[1]))

    return [
        Stage(
            node.label,
            tuple(Port(each, Kind.NUMBER) for each in columns),
            (Port(_outputs(node)[0], Kind.NUMBER),),
            _quiet(run),
        )
    ]


def coalesce(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    sources = _inputs(node)

    def run(*columns: Floats) -> Floats:
        found = columns[-1]
        for each in reversed(columns[:-1]):
            found = np.where(np.isnan(each), found, each)
        return found

    return [
        Stage(
            node.label,
            tuple(Port(each, Kind.NUMBER) for each in sources),
            (Port(_outputs(node)[0], Kind.NUMBER),),
            run,
        )
    ]


def string_map(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    values = [float(v) for v in node.need("values")]
    table = dict(zip(node.need("labels"), values, strict=True))
    source, output = _in_out(node)
    keep = _invalid(node) is Invalid.KEEP
    default = float(node.get("default_value") or 0.0)

    def run(column: Any) -> Floats:
        find = table.get
        found = [find(v, default if keep else None) for v in column.tolist()]
        if None in found:
            value = column[found.index(None)]
            raise InvalidInput(f"column {source!r} holds {value!r}, which the map lacks")
        return np.array(found, dtype=np.float64)

    return [Stage(node.label, (Port(source, Kind.TEXT),), (Port(output, Kind.NUMBER),), run)]


def sklearn_polynomial(node: Node, known: Mapping[str, Port]) -> list[Stage]:
    """
    Each product is spelled out: ``x0``, ``x0^2``, ``x0 x1``; ``1`` is the constant.

    The exponents are read from the text; nothing in it is run.
    """
    terms = [_exponents(node, each) for each in _terms(node)]
    source, output = _in_out(node)

    def run(column: Any) -> Dense:
        values = column.dense()
        out = np.ones((len(values), len(terms)))
        for j, term in enumerate(terms):
            for element, exponent in term:
                if element >= values.shape[1]:
                    raise InvalidInput(f"column {source!r} has no element {element}")
                out[:, j] *= values[:, element] ** exponent
        return Dense(out)

    return [
        Stage(
            node.label,
            (Port(source, Kind.VECTOR),),
            (Port(output, Kind.VECTOR, len(terms)),),
            run,
        )
    ]


def _terms(node: Node) -> list[str]:
    found = node.need("combinations")
    listed = found if isinstance(found, list) else str(found).strip("[]").split(",")
    return [str(each).strip().strip("'\"") for each in listed]


def _exponents(node: Node, term: str) -> list[tuple[int, int]]:
    found = []
    for factor in term.split():
        if factor == "1":
            continue
        name, _, power = factor.partition("^")
        if not (name.startswith("x") and name[1:].isdigit() and (power or "1").isdigit()):
            raise UnsupportedModel(f"{node.label}: {term!r} is no product of elements")
        found.append((int(name[1:]), int(power or 1)))
    return found


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
    "tokenizer": tokenizer,
    "regex_tokenizer": regex_tokenizer,
    "stopwords_remover": stopwords_remover,
    "ngram": ngram,
    "word_filter": word_filter,
    "hashing_term_frequency": hashing_term_frequency,
    "feature_hasher": feature_hasher,
    "count_vectorizer": count_vectorizer,
    "word_to_vector": word_to_vector,
    "bucketed_random_projection_lsh": random_projection,
    "min_hash_lsh": min_hash,
    "math_unary": math_unary,
    "math_binary": math_binary,
    "coalesce": coalesce,
    "string_map": string_map,
    "sklearn_binarizer": binarizer,
    "sklearn_polynomial_expansion": sklearn_polynomial,
}
