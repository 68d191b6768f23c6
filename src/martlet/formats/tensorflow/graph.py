"""What a TensorFlow graph would do beside computing: files it would read or write, code to call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

# Operators that touch files or call Python. A checkpoint's restoring and a vocabulary's reading
# are TensorFlow's own, from files of the model.
_OUTSIDE = re.compile(
    r"(Read|Write)File|MatchingFiles|Save(V2|Slices)?|MergeV2Checkpoints|(Eager)?PyFunc(Stateless)?"
    r"|(TextLine|WholeFile|TFRecord|FixedLengthRecord|LMDB)Reader(V2)?"
    r"|(TextLine|TFRecord|FixedLengthRecord|CSV|Sql|Save|Load|Snapshot|Cache)\w*Dataset(V\d)?"
    r"|CreateSummary(File|Db)Writer|Debug(Identity|NanCount|NumericSummary)\w*|\w*Rpc\w*"
)
_RAGGED = 3  # of TypeSpecProto.TypeSpecClass
_INITIALISERS = ("saved_model_main_op", "legacy_init_op")


def tensors_of(name: str, info: Any) -> dict[str, str]:
    """
    Return the graph's tensors that an input or output called *name* stands for, by our names.

    A sparse one is three, ``name.indices``, ``name.values`` and ``name.dense_shape``; a ragged
    one ``name.flat_values`` and ``name.row_splits`` (``row_splits_1`` where it is ragged twice).

    Args:
        info: A ``TensorInfo``.
    """
    match info.WhichOneof("encoding"):
        case "coo_sparse":
            sparse = info.coo_sparse
            return {
                f"{name}.indices": sparse.indices_tensor_name,
                f"{name}.values": sparse.values_tensor_name,
                f"{name}.dense_shape": sparse.dense_shape_tensor_name,
            }
        case "composite_tensor":
            whole = info.composite_tensor
            parts = [str(n) for n in range(len(whole.components))]
            if whole.type_spec.type_spec_class == _RAGGED:
                splits = [f"row_splits_{n}" for n in range(1, len(parts) - 1)]
                parts = ["flat_values", "row_splits", *splits]
            named = zip(parts, whole.components, strict=True)
            return {f"{name}.{part}": each.name for part, each in named}
        case _:
            return {name: info.name}


def answers(meta_graph: Any) -> list[str]:
    """Return the tensors that the signatures of *meta_graph* give."""
    return [
        tensor
        for signature in meta_graph.signature_def.values()
        for name, info in signature.outputs.items()
        for tensor in tensors_of(name, info).values()
    ]


def outside(meta_graph: Any) -> Iterator[str]:
    """
    Yield the operators that touch the world outside of the graph, with the node's name.

    Only what a signature or the model's initialiser leads to is looked at: the part that saves
    a model again stands in every file, and is never run.

    Args:
        meta_graph: A ``MetaGraphDef``.
    """
    graph = meta_graph.graph_def
    functions = {each.signature.name: each for each in graph.library.function}
    nodes = {node.name: node for node in graph.node}
    pending = answers(meta_graph)
    for name in set(_INITIALISERS) & set(meta_graph.collection_def):  # to ask is to add
        pending.extend(meta_graph.collection_def[name].node_list.value)
    seen: set[str] = set()
    called: set[str] = set()
    while pending:
        name = pending.pop().lstrip("^").partition(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        pending.extend(nodes[name].input)
        yield from _within(nodes[name], functions, called)


def _within(node: Any, functions: dict[str, Any], called: set[str]) -> Iterator[str]:
    pending = [node]
    while pending:
        each = pending.pop()
        if _OUTSIDE.fullmatch(each.op) or _prints_to_file(each):
            yield f"{each.op} ({each.name})"
        named = [each.op]
        for value in each.attr.values():
            named += [value.func.name, *(function.name for function in value.list.func)]
        for name in named:
            if name in functions and name not in called:
                called.add(name)
                pending.extend(functions[name].node_def)


def _prints_to_file(node: Any) -> bool:
    return node.op == "PrintV2" and bool(node.attr["output_stream"].s.startswith(b"file:"))
