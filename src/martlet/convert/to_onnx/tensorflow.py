"""SavedModel and Keras to ONNX, by tf2onnx."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnx import ModelProto

from martlet.convert.rewriting.mend import mend
from martlet.convert.to_onnx.fit import fitted
from martlet.convert.to_onnx.task import Task
from martlet.formats import LoadOptions
from martlet.formats.tensorflow.savedmodel import load_graph

_OPSET = 17


def from_savedmodel(task: Task) -> ModelProto:
    """
    Convert a signature of a SavedModel.

    Its functions are inlined before its variables become constants: in a function's body a
    gather from a variable keeps the variable's type, and the result does not load.
    """
    import tensorflow as tf
    from tensorflow.python.framework import convert_to_constants as constants
    from tf2onnx import convert, tf_loader

    path, signature = task.path, task.signature
    session = tf.compat.v1.Session(graph=tf.Graph())
    folder = path if path.is_dir() else path.parent
    loaded = load_graph(session, folder, LoadOptions(trusted=task.trusted))
    definition = loaded.signature_def[task.name]
    inputs = {n: definition.inputs[n].name for n in signature.inputs}
    outputs = {n: definition.outputs[n].name for n in signature.outputs}
    feeds, fetches = sorted(set(inputs.values())), sorted(set(outputs.values()))
    with session.graph.as_default():
        graph = session.graph.as_graph_def(add_shapes=True)
        inlined = tf_loader.tf_optimize_grappler(feeds, fetches, graph)
        tables = _tables(session, tf_loader.get_hash_table_info(inlined))
        frozen = constants.convert_variables_to_constants_from_session_graph(
            session, inlined, [each.partition(":")[0] for each in fetches]
        )
    # What no output depends on is gone by now, and may not be named.
    left = {node.name for node in frozen.node}
    feeds = [each for each in feeds if each.partition(":")[0] in left]
    with tf.Graph().as_default():
        frozen = tf_loader.tf_optimize(feeds, fetches, frozen)
    model, _ = convert._convert_common(
        frozen,
        name=path.name,
        input_names=feeds,
        output_names=fetches,
        opset=_OPSET,
        initialized_tables=tables,
    )
    return fitted(mend(model), signature, inputs, outputs)


def _tables(session: Any, told: list[Any]) -> dict[bytes, tuple[Any, Any]]:
    """Return the keys and values of each hash table that the graph looks into."""
    from tensorflow.python.ops import gen_lookup_ops as ops

    found = {}
    for each in told:
        if each.shared_name:  # who looks into a table is told of too, without its name
            key, value = each.key_dtype, each.val_dtype
            handle = ops.hash_table_v2(key, value, shared_name=each.shared_name)
            found[each.shared_name] = session.run(ops.lookup_table_export_v2(handle, key, value))
    return found


def from_keras(task: Task) -> ModelProto:
    """Convert a Keras model, by way of the SavedModel that it is served as."""
    from martlet.formats.tensorflow import keras

    with tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
        keras.export(task.path, Path(scratch), task.trusted)
        return from_savedmodel(replace(task, path=Path(scratch)))
