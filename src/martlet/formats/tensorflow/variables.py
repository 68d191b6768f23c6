"""Variables that a SavedModel's own restoring leaves without their values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_CALLS = ("StatefulPartitionedCall", "PartitionedCall")


def restore_rest(session: Any, folder: Path, meta_graph: Any, wanted: Iterable[str]) -> None:
    """
    Give variables that the graph does not restore their values from the checkpoint.

    ``tf.saved_model.save`` of a Keras 3 model writes a graph that restores copies of its variables,
    which nothing reads. ``tf.saved_model.load`` finds the values by the tree of objects beside
    the graph; so do we, without running what else that tree would.

    Args:
        session: With the graph loaded and restored.
        meta_graph: A ``MetaGraphDef``.
        wanted: The tensors that will be asked for.
    """
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    saver = nodes.get(meta_graph.saver_def.restore_op_name.partition(":")[0])
    if saver is None or saver.op not in _CALLS:
        return  # the graph is of TF 1, whose variables are all in one list
    restored, read = _variables(nodes, saver.input), _variables(nodes, wanted)
    missing = [name for name in read if name not in restored]
    if not missing:
        return
    import tensorflow as tf

    kept = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    if not kept.has_tensor(_GRAPH):
        return
    keys = _keys(kept.get_tensor(_GRAPH), meta_graph)
    with session.graph.as_default():
        for name in missing:
            handle = session.graph.get_tensor_by_name(f"{name}:0")
            if name not in keys or session.run(tf.raw_ops.VarIsInitializedOp(resource=handle)):
                continue
            value = tf.compat.v1.placeholder(nodes[name].attr["dtype"].type)
            assign = tf.raw_ops.AssignVariableOp(resource=handle, value=value)
            session.run(assign, {value: kept.get_tensor(keys[name])})
        for name in restored.keys() - read.keys():  # the copies
            handle = session.graph.get_tensor_by_name(f"{name}:0")
            session.run(tf.raw_ops.DestroyResourceOp(resource=handle))


def _variables(nodes: dict[str, Any], tensors: Iterable[str]) -> dict[str, None]:
    """Return the variables that *tensors* depend on, by name and in order."""
    pending, seen = list(tensors), set[str]()
    found: dict[str, None] = {}
    while pending:
        name = pending.pop().lstrip("^").partition(":")[0]
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        if nodes[name].op == "VarHandleOp":
            found[name] = None
        pending.extend(nodes[name].input)
    return found


def _keys(content: bytes, meta_graph: Any) -> dict[str, str]:
    """
    Return where the checkpoint has the variables that functions are called with.

    A called function's last inputs are the objects that it is bound to, by their numbers in the
    tree, which are the checkpoint's own.
    """
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    kept, told = TrackableObjectGraph.FromString(content).nodes, meta_graph.object_graph_def
    found: dict[str, str] = {}
    for node in meta_graph.graph_def.node:
        called = node.attr["f"].func.name if node.op in _CALLS else ""
        if called not in told.concrete_functions:
            continue
        bound = told.concrete_functions[called].bound_inputs
        given = [each for each in node.input if not each.startswith("^")]
        for name, at in zip(given[len(given) - len(bound) :], bound, strict=True):
            variable = told.nodes[at].variable.name
            keys = [a.checkpoint_key for a in kept[at].attributes if a.full_name == variable]
            found |= {name.partition(":")[0]: key for key in keys if variable}
    return found
