"""TensorFlow's SavedModel, run by TensorFlow through a session's callable.

Of the ways to call one, the session of TF 1 opens every SavedModel there is
(``tf.saved_model.load`` refuses reference variables and some old graphs), and its callable is the
fastest: no feed dictionary, no function call, no check of the fed shapes. See
docs/decisions/0020-savedmodel-by-session-callable.md.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, MartletError, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.formats.tensorflow.graph import answers, outside, tensors_of
from martlet.formats.tensorflow.variables import restore_rest
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_FILES = ("saved_model.pb", "saved_model.pbtxt")
_TAG = "serve"
_METHOD = "tensorflow/serving/"
# Numbers of tensorflow.DataType.
_DTYPES: dict[int, DType] = {
    1: DType.FLOAT32,
    2: DType.FLOAT64,
    3: DType.INT32,
    4: DType.UINT8,
    5: DType.INT16,
    6: DType.INT8,
    7: DType.STRING,
    8: DType.COMPLEX64,
    9: DType.INT64,
    10: DType.BOOL,
    14: DType.FLOAT32,  # bfloat16, which numpy does not have
    17: DType.UINT16,
    18: DType.COMPLEX128,
    19: DType.FLOAT16,
    22: DType.UINT32,
    23: DType.UINT64,
}


class SavedModelServable:
    """
    One session of a SavedModel's serving graph, with its variables, tables and assets.

    Shapes are not enforced: like TensorFlow Serving, it takes what the graph's operators take.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        folder = path.parent if path.is_file() else path
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        import tensorflow as tf

        self._errors = tf.errors
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=options.threads, inter_op_parallelism_threads=1
        )
        # Off (2): no operators are fused. oneDNN's fused ones turn a NaN that meets a relu into 0
        # on some processors, where the graph's own operators give NaN; they save nothing here.
        config.graph_options.rewrite_options.remapping = 2
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            graph = load_graph(self._session, folder, options)
            self._calls: dict[str, Callable[[Tensors], dict[str, Tensor]]] = {}
            signatures: dict[str, Signature] = {}
            for name in sorted(graph.signature_def, key=_order):
                definition = graph.signature_def[name]
                signature = _signature(self._session.graph, definition)
                if signature is not None:
                    signatures[name] = signature
                    self._calls[name] = _call(tf, self._session, definition, signature)
        except MartletError:
            self._session.close()
            raise
        except Exception as exc:  # TensorFlow raises OSError, ValueError, KeyError and its own
            self._session.close()
            raise UnsupportedModel(
                f"{folder} is not a SavedModel that loads: {_first_line(exc)}"
            ) from exc
        if not any(each.outputs for each in signatures.values()):
            self._session.close()
            raise UnsupportedModel(f"{folder} has no signature that can be called with tensors")
        self.signatures: Mapping[str, Signature] = signatures

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run one signature. Strings come back as bytes."""
        try:
            return self._calls[signature_name](inputs)
        except (self._errors.InvalidArgumentError, self._errors.OutOfRangeError) as exc:
            raise InvalidInput(_first_line(exc)) from exc
        except (self._errors.OpError, ValueError, TypeError, RuntimeError) as exc:
            raise ServableFailed(f"TensorFlow failed: {_first_line(exc)}") from exc

    def close(self) -> None:
        """Close the session and free its variables."""
        self._calls.clear()
        self._session.close()


def _call(
    tf: Any, session: Any, definition: Any, signature: Signature
) -> Callable[[Tensors], dict[str, Tensor]]:
    call = _Call(tf, session, definition, signature)
    narrow = {
        name
        for infos, wanted in (
            (definition.inputs, signature.inputs),
            (definition.outputs, signature.outputs),
        )
        for name, tensor in _tensors(infos, wanted).items()
        if session.graph.get_tensor_by_name(tensor).dtype.base_dtype == tf.bfloat16
    }
    return partial(_widened, call, narrow, tf.bfloat16.as_numpy_dtype) if narrow else call


def _widened(
    call: _Call, narrow: Collection[str], dtype: Any, inputs: Tensors
) -> dict[str, Tensor]:
    """Call with float32 for the inputs and outputs that are bfloat16 in the graph."""
    outputs = call({n: v.astype(dtype) if n in narrow else v for n, v in inputs.items()})
    return {n: v.astype(np.float32) if n in narrow else v for n, v in outputs.items()}


class _Call:
    """A signature as one callable of the session: arrays in the order of its feeds."""

    def __init__(self, tf: Any, session: Any, definition: Any, signature: Signature) -> None:
        from tensorflow.core.protobuf import config_pb2

        feeds = _tensors(definition.inputs, signature.inputs)
        fetches = _tensors(definition.outputs, signature.outputs)
        # A tensor may be fed once, fetched once, and not both: twins share, and what is only
        # passed through is answered from the input.
        self._fed = {tensor: name for name, tensor in reversed(feeds.items())}
        self._passed = {n: self._fed[t] for n, t in fetches.items() if t in self._fed}
        found = {t: None for n, t in fetches.items() if n not in self._passed}
        order = {tensor: at for at, tensor in enumerate(found)}
        self._found = {n: order[t] for n, t in fetches.items() if t in order}
        self._defaults: dict[str, Tensor] = {
            name: tf.make_ndarray(definition.defaults[name])
            for name in definition.defaults
            if name in signature.inputs
        }
        self._names = list(self._fed.values())
        self._run: Callable[..., list[Tensor]] | None = None
        if order:
            options = config_pb2.CallableOptions(feed=list(self._fed), fetch=list(order))
            # The caller's own thread runs the graph: a pool's costs two hops a call.
            options.run_options.inter_op_thread_pool = -1
            self._run = session._make_callable_from_options(options)

    def __call__(self, inputs: Tensors) -> dict[str, Tensor]:
        if len(inputs) < len(self._names):
            inputs = {**self._defaults, **inputs}
        values = self._run(*[inputs[name] for name in self._names]) if self._run else []
        outputs = {name: _array(values[at]) for name, at in self._found.items()}
        for name, source in self._passed.items():
            outputs[name] = inputs[source]
        return outputs


def _array(value: Any) -> Tensor:
    """A scalar comes back bare: a number of numpy's, or the bytes of a string."""
    if isinstance(value, np.ndarray):
        return value
    return np.array(value, dtype=object if isinstance(value, bytes) else None)


def load_graph(session: Any, folder: Path, options: LoadOptions) -> Any:
    """Load the graph tagged for serving, or the only one there is, and its variables."""
    from tensorflow.python.saved_model import loader_impl

    loader = loader_impl.SavedModelLoader(str(folder))
    found = [sorted(each.meta_info_def.tags) for each in loader.saved_model.meta_graphs]
    if [_TAG] not in found and len(found) != 1:
        others = "; ".join(",".join(each) for each in found) or "none"
        raise UnsupportedModel(f"{folder} has no graph tagged {_TAG!r}; its graphs: {others}")
    tags = [_TAG] if [_TAG] in found else found[0]
    meta_graph = loader.get_meta_graph_def_from_tags(tags)
    reaches = next(outside(meta_graph), "")
    if reaches and not options.trusted:
        raise UnsupportedModel(
            f"{folder} would reach outside of its graph when it is called: {reaches}; load it with "
            "trusted=True (--trusted) if you made it"
        )
    with session.graph.as_default():
        loaded = loader.load(session, tags)
    restore_rest(session, folder, meta_graph, answers(meta_graph))
    return loaded


def _signature(graph: Any, definition: Any) -> Signature | None:
    """Return *definition* as a Signature; None where an input is no tensor that we can feed."""
    inputs, outputs = [], []
    for name, info in definition.inputs.items():
        specs = _specs(graph, name, info, required=name not in definition.defaults)
        if not specs:
            return None
        inputs += specs
    for name, info in definition.outputs.items():
        # What initialises a model has an operation for its output, and no tensor.
        outputs += _specs(graph, name, info)
    method = definition.method_name.removeprefix(_METHOD)
    inputs.sort(key=lambda spec: spec.name)
    outputs.sort(key=lambda spec: spec.name)
    found = Signature.of(inputs, outputs, method)
    return Signature(found.inputs, found.outputs, method, definition.SerializeToString())


def _specs(graph: Any, name: str, info: Any, required: bool = True) -> list[Spec]:
    """Return an input's or output's tensors; none where one is of a kind that is not spoken."""
    found = []
    for part, tensor in tensors_of(name, info).items():
        if info.dtype == 0 and part == name:
            return []
        # The graph knows better than the signature: half_plus_three declares a float for strings.
        within = graph.get_tensor_by_name(tensor)
        dtype = _DTYPES.get(within.dtype.base_dtype.as_datatype_enum)
        if dtype is None:
            return []
        shape = info.tensor_shape if part == name else within.shape.as_proto()
        sizes = None if shape.unknown_rank else tuple(dim.size for dim in shape.dim)
        found.append(Spec(part, dtype, sizes, required=required, enforced=False))
    return found


def _tensors(infos: Mapping[str, Any], wanted: Collection[str]) -> dict[str, str]:
    """Return the graph's tensor of each input or output in *wanted*, in its order."""
    found = {n: t for name, info in infos.items() for n, t in tensors_of(name, info).items()}
    return {name: found[name] for name in wanted}


def _order(name: str) -> tuple[bool, bool, str]:
    """The default comes first; what initialises the model, and answers nothing, last."""
    return name != DEFAULT_SIGNATURE, name.startswith("__"), name


def _first_line(exc: Exception) -> str:
    # The rest names the graph's nodes, which says nothing to who called.
    text = getattr(exc, "message", None) or str(exc)
    return str(text).strip().partition("\n")[0]


def _sniff(path: Path) -> bool:
    if path.is_dir():
        return any((path / name).is_file() for name in _FILES)
    return path.is_file() and path.name in _FILES


FORMAT = Format(
    name="savedmodel",
    suffixes=_FILES,
    sniff=_sniff,
    load=SavedModelServable,
    extra="tensorflow",
)
