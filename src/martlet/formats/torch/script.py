"""TorchScript, run by PyTorch."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions, archives, pickles
from martlet.formats.torch.script_graph import Argument, arguments
from martlet.formats.torch.script_trials import mixed, settled
from martlet.formats.torch.values import named, tensors, translated
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Shape, Signature, Spec, Tensor, Tensors

# What the code in a file may say of PyTorch, which is how PyTorch writes it: calls of operators
# by their names. Two of these read and write files.
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_MENTION = re.compile(r"(?<![\w.])(?:torch|ops)\b(?:\.\w+)*\(?")
_OPERATOR = re.compile(r"(?:torch|ops\.\w+)\.(?!(?:save|from_file)\b)\w+\(")


class TorchScriptServable:
    """
    One scripted or traced module.

    A TorchScript file has the inputs' names but neither dtypes nor shapes: they are read off
    the operators that take them (a table looked into makes int64 ids, a layer's weight gives
    dtype and width). Where no operator tells, they are of any shape, and float32 if the module
    runs on zeros or ones of that; else what it does run on. An argument that has a default or may
    be None may be left out. A dictionary of tensors is an input a key, a named tuple one a field,
    a list or tuple one a place (``x_0``). Outputs are called as
    :func:`~martlet.formats.torch.values.named` says.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        import torch

        self._torch = torch
        members = archives.members(path)
        if members or not _is_legacy(path):
            archives.check(path)
        if not _is_script(members):
            raise UnsupportedModel(
                f"{path} holds weights without a graph (a state_dict or a pickled module): save "
                "torch.jit.script(model), torch.export or ONNX instead"
            )
        _check_code(path)
        try:
            # Not by path: torch would map the file, and a file that changes later would crash us.
            with path.open("rb") as file:
                read: Any = torch.jit.load
                module = read(file, map_location="cpu").eval()
            if not hasattr(module, "inlined_graph"):
                raise UnsupportedModel(f"{path} has no forward, which is the method that is served")
            graph = _frozen(torch, module).inlined_graph
            self._call = _call_of(module)
        except (RuntimeError, ValueError, TypeError, OSError, IndexError) as exc:
            raise UnsupportedModel(f"{path} is not a TorchScript model that loads: {exc}") from exc
        try:
            self._arguments = list(arguments(module, graph))
        except UnsupportedModel as exc:
            raise UnsupportedModel(f"{path}: {exc}") from None
        # A module that writes into its inputs must not write into the caller's.
        self._copies = any(node.kind().endswith("_") for node in _nodes(graph))
        self._plain: Callable[[Tensors], tuple[Tensor, ...]] | None = None
        torch.set_num_threads(options.threads)  # PyTorch has one number for the process
        self._arguments = settled(self._arguments, _precisions(module, graph), self._runs)
        inputs = [spec for each in self._arguments for spec in each.specs]
        if not self._copies and all(each.as_it_comes for each in self._arguments):
            self._plain = _getter([spec.name for spec in inputs])
        outputs = self._probe(path, inputs, graph)
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(inputs, outputs)
        }

    def _probe(self, path: Path, inputs: list[Spec], graph: Any) -> list[Spec]:
        """Say what the outputs are from a run; from the graph where it runs on no sample."""
        found: list[Spec] = []
        tried = answered = 0
        for size, sample in mixed([s for s in inputs if s.required]):
            if found and size != tried:
                break
            tried = size
            try:
                answers = self.predict(sample)
            except (InvalidInput, ServableFailed):
                continue
            answered += 1
            told = [_output(name, value, size) for name, value in answers.items()]
            # With inputs of other ranks and widths: what the answers share is sure.
            if not found or len(found) == len(told):
                found = [_shared(*each) for each in zip(found or told, told, strict=True)]
        if answered == 1 and any(s.shape is None for s in inputs):  # of a guessed rank: not sure
            found = [Spec(s.name, s.dtype, None, enforced=False) for s in found]
        return found or [Spec(name, DType.FLOAT32, None) for name in _output_names(path, graph)]

    def _runs(self, arguments: list[Argument], inputs: Tensors) -> bool:
        self._arguments = arguments
        try:
            self.predict(inputs)
        except (InvalidInput, ServableFailed):
            return False
        return True

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run the module."""
        torch = self._torch
        try:
            with torch.inference_mode():
                if self._plain is not None:  # most modules: tensors in, nothing to prepare
                    given = tensors(torch, self._plain(inputs))
                else:
                    given = [each.value(torch, inputs, self._copies) for each in self._arguments]
                return named(torch, self._call(*given))
        except IndexError as exc:
            raise InvalidInput(f"the model refuses these values: {exc}") from exc
        except (RuntimeError, torch.jit.Error) as exc:
            raise translated(exc) from exc

    def close(self) -> None:
        """Free the weights."""
        del self._call


def _call_of(module: Any) -> Callable[..., Any]:
    """Return what calls *module*: its ``forward`` itself, a third of a small module's time less."""
    hooked = module._forward_pre_hooks or module._forward_hooks  # calls of the module run them
    found: Callable[..., Any] = module if hooked else module.forward
    return found


def _getter(names: list[str]) -> Callable[[Tensors], tuple[Tensor, ...]]:
    """Return what picks the arrays called *names*, in their order."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda inputs: tuple(inputs[name] for name in names)


def _frozen(torch: Any, module: Any) -> Any:
    """
    Return *module* with its weights in the graph, where these can be read; never to be run.

    PyTorch folds a batch norm into the layer before it even where others take that layer's answer
    (Dice, of DIN: other answers), and ends the process when a second frozen module runs.
    """
    try:
        return torch.jit.freeze(module)
    except RuntimeError:  # a module with attributes that change cannot be frozen
        return module


def _precisions(module: Any, graph: Any) -> set[str]:
    """Return PyTorch's names of the weights' dtypes; a frozen module has them in its graph."""
    constants = (n for n in _nodes(graph) if n.kind() == "prim::Constant")
    tensors = [
        n.t("value") for n in constants if n.hasAttribute("value") and n.kindOf("value") == "t"
    ]
    weights = [*module.parameters(), *(each for each in tensors if each.dim())]
    return {str(w.dtype).removeprefix("torch.") for w in weights if w.is_floating_point()}


def _check_code(path: Path) -> None:
    """
    Check that no method in the archive at *path* reaches outside: loading it runs some.

    Raises:
        UnsupportedModel: one names what reads or writes files, or hides what it names.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".py"):
                    _check_text(path, archive.read(name).decode("latin-1"))
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as exc:
        raise UnsupportedModel(f"{path} is not a whole zip archive: {exc}") from exc


def _check_text(path: Path, text: str) -> None:
    bare = _STRING.sub("", text)
    found = next((m for m in _MENTION.findall(bare) if not _OPERATOR.fullmatch(m)), None)
    if found is not None:
        raise UnsupportedModel(
            f"{path} uses {found.rstrip('(')}, which may reach outside the model"
        )
    if '"' in bare or "'" in bare or '"""' in text:
        raise UnsupportedModel(f"{path} has code that is not as PyTorch writes it")


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _output_names(path: Path, graph: Any) -> list[str]:
    (found,) = graph.outputs()
    node, kind = found.node(), found.type().kind()
    if kind == "TensorType":
        return ["output"]
    if kind == "TupleType" and node.kind() == "prim::TupleConstruct":
        return [f"output_{i}" for i, _ in enumerate(node.inputs())]
    if kind == "DictType" and node.kind() == "prim::DictConstruct":
        keys = [value.node() for value in list(node.inputs())[::2]]
        if all(key.kind() == "prim::Constant" and key.kindOf("value") == "s" for key in keys):
            return [key.s("value") for key in keys]
    raise UnsupportedModel(f"{path} gives a {found.type()} whose parts are not known: use ONNX")


def _output(name: str, value: Tensor, rows: int) -> Spec:
    # Of zeros, what picks rows (nonzero, a mask) finds none: that size is not the model's.
    sizes = enumerate(value.shape)
    shape: Shape = tuple(-1 if not d or (i == 0 and d == rows) else d for i, d in sizes)
    return Spec(name, DType.of(value.dtype), shape, enforced=False)


def _shared(one: Spec, other: Spec) -> Spec:
    if one.shape is None or other.shape is None or len(one.shape) != len(other.shape):
        return Spec(one.name, one.dtype, None, enforced=False)
    sizes = zip(one.shape, other.shape, strict=True)
    shape = tuple(here if here == there else -1 for here, there in sizes)
    return Spec(one.name, one.dtype, shape, enforced=False)


def _is_legacy(path: Path) -> bool:
    """Return whether it is a bare pickle, as PyTorch before 1.6 saved weights."""
    with path.open("rb") as file:
        return pickles.looks_like(file.read(8))


def _is_script(names: list[str]) -> bool:
    inner = [name.partition("/")[2] for name in names]
    return any(name.startswith("code/") for name in inner) and "constants.pkl" in inner


def _sniff(path: Path) -> bool:
    names = archives.members(path)
    inner = {name.partition("/")[2] for name in names}
    return _is_script(names) or ("data.pkl" in inner and "archive_format" not in inner)


FORMAT = Format(
    name="torchscript",
    suffixes=(".pt", ".pth", ".ts"),
    sniff=_sniff,
    load=TorchScriptServable,
    extra="torch",
)
