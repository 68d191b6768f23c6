"""torch.export's ``.pt2`` archives, run by PyTorch; opened only where they hold a graph alone."""

from __future__ import annotations

import ast
import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions, archives, pickles
from martlet.formats.torch.values import named, tensor, translated
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors


class ExportedServable:
    """
    One exported program, as its graph module.

    Inputs have the argument's names, dtypes and shapes of the program; a dictionary of outputs
    its keys, else ``output`` or ``output_0`` and so on.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        import torch

        if any("/aotinductor/" in name for name in archives.members(path)):
            raise UnsupportedModel(
                f"{path} is compiled by AOTInductor, for one machine: save the program itself, "
                "by torch.export.save"
            )
        if not options.trusted:
            check(path)
        self._torch = torch
        torch.set_num_threads(options.threads)  # PyTorch has one number for the process
        try:
            program = torch.export.load(path)
            self._module = program.module()
            self._leaves = list(_leaves(torch, program))
        except Exception as exc:  # of torch, sympy, json and zipfile, on a damaged file
            raise UnsupportedModel(f"{path} is not a .pt2 program that loads: {exc}") from exc
        self._arguments = _arguments(program)
        # A program that writes into its inputs must not write into the caller's.
        self._copies = any(map(_writes, program.graph.nodes))
        inputs = [each.spec for each in self._leaves if each.spec is not None]
        outputs = self._probe(path, program, inputs)
        # A program of one row: what takes it row by row is served more of them.
        self._one_row = all((s.shape or ())[:1] == (1,) for s in [*inputs, *outputs])
        if self._one_row:
            inputs, outputs = _free_rows(inputs), _free_rows(outputs)
        self._outputs = outputs
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(inputs, outputs)
        }

    def _probe(self, path: Path, program: Any, inputs: list[Spec]) -> list[Spec]:
        failed: Exception | None = None
        for size in (2, 8, 32, 1):
            sample = {
                s.name: np.zeros([size if d == -1 else d for d in s.shape or ()], s.dtype.numpy)
                for s in inputs
            }
            try:
                found = self._run(sample)
            except (InvalidInput, ServableFailed) as exc:
                failed = exc
                continue
            shapes = list(_user_outputs(program))
            return [
                Spec(n, DType.of(v.dtype), shapes[i] if len(shapes) == len(found) else None)
                for i, (n, v) in enumerate(found.items())
            ]
        raise UnsupportedModel(f"{path} fails on zeros of its own shapes: {failed}")

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run the program; row by row where it is one of one row."""
        counts = {len(value) for value in inputs.values()} if self._one_row else {1}
        if counts == {1}:
            return self._run(inputs)
        if len(counts) > 1:
            raise InvalidInput(f"the inputs differ in rows: {sorted(counts)}")
        if counts == {0}:
            return {
                s.name: np.empty((0, *(s.shape or ())[1:]), s.dtype.numpy) for s in self._outputs
            }
        rows = [self._run({n: v[i : i + 1] for n, v in inputs.items()}) for i in range(*counts)]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    def _run(self, inputs: Tensors) -> dict[str, Tensor]:
        torch = self._torch
        try:
            with torch.inference_mode():
                leaves = [each.value(torch, inputs, self._copies) for each in self._leaves]
                positional, named_ones = self._arguments(leaves)
                return named(torch, self._module(*positional, **named_ones))
        except (IndexError, AssertionError) as exc:
            raise InvalidInput(f"the model refuses these values: {exc}") from exc
        except RuntimeError as exc:
            raise translated(exc) from exc

    def close(self) -> None:
        """Free the weights."""
        del self._module


def _writes(node: Any) -> bool:
    schema = getattr(node.target, "_schema", None)
    return schema is not None and bool(schema.is_mutable)


def _sizes(value: Any) -> tuple[int, ...]:
    return tuple(d if isinstance(d, int) else -1 for d in value.shape)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One place in a program's arguments: an input, or (no *spec*) what it was exported with."""

    spec: Spec | None
    constant: Any = None
    rounded: Any = None
    """PyTorch's dtype that it is rounded to, where numpy has no such."""

    def value(self, torch: Any, inputs: Tensors, copies: bool) -> Any:
        if self.spec is None:
            return self.constant
        found = tensor(torch, inputs[self.spec.name], copies)
        return found if self.rounded is None else found.to(self.rounded)


def _leaves(torch: Any, program: Any) -> Iterator[_Leaf]:
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    specs = [s for s in program.graph_signature.input_specs if s.kind.name == "USER_INPUT"]
    names = _names(torch, program, len(specs))
    for spec, name in zip(specs, names, strict=True):
        if not hasattr(spec.arg, "value"):
            value = nodes[spec.arg.name].meta["val"]
            if not hasattr(value, "dtype"):
                raise ValueError(f"input {name!r} is a {type(value).__name__}, not a tensor")
            narrow = value.dtype if value.dtype == torch.bfloat16 else None
            dtype = "float32" if narrow else str(value.dtype).removeprefix("torch.")
            yield _Leaf(Spec(name, DType(dtype), _sizes(value)), rounded=narrow)
        else:  # a number or None, of which the program is a program
            yield _Leaf(None, spec.arg.value)


def _arguments(program: Any) -> Callable[[list[Any]], tuple[Iterable[Any], Mapping[str, Any]]]:
    """Return what makes a call's arguments, by position and by name, of the leaves' values."""
    from torch.utils._pytree import tree_unflatten

    takes = program.call_spec.in_spec
    places = list(range(takes.num_leaves))
    if tree_unflatten(places, takes) == (tuple(places), {}):
        return lambda values: (values, {})  # PyTorch's walk through a tree costs some microseconds
    return partial(tree_unflatten, treespec=takes)


def _names(torch: Any, program: Any, count: int) -> list[str]:
    """Return the leaves' names: an argument's, or its own within a dictionary or list of them."""
    pytree = torch.utils._pytree
    tree = pytree.tree_unflatten(list(range(count)), program.call_spec.in_spec)
    told = getattr(program.module_call_graph[0].signature, "forward_arg_names", None) or []
    found = []
    for path, _ in pytree.tree_flatten_with_path(tree)[0]:
        side, first, *rest = [getattr(key, "key", getattr(key, "idx", key)) for key in path]
        place = first if isinstance(first, str) or first >= len(told) else told[first]
        if rest and isinstance(rest[-1], str):
            found.append(rest[-1])
        else:
            found.append("_".join(map(str, [place if side == 0 else first, *rest])))
    if len(set(found)) < count or any(name.isdigit() for name in found):
        users = program.graph_signature.input_specs
        return [s.arg.name for s in users if s.kind.name == "USER_INPUT"]
    return found


def _free_rows(specs: list[Spec]) -> list[Spec]:
    return [Spec(s.name, s.dtype, (-1, *(s.shape or ())[1:])) for s in specs]


def _user_outputs(program: Any) -> Iterator[tuple[int, ...]]:
    wanted = set(program.graph_signature.user_outputs)
    for node in program.graph.nodes:
        if node.op == "output":
            for each in node.args[0]:
                if hasattr(each, "meta") and each.name in wanted and "val" in each.meta:
                    yield _sizes(each.meta["val"])


# What torch.export.load would evaluate, import or unpickle. It resolves targets by attribute
# from the torch module, reads shapes with sympy's sympify (which calls eval), runs the guards
# with exec, and unpickles what the archive says is pickled: so only these forms are let in.
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)\.\w+(\.\w+)?"
    r"|torch\.sym_\w+|_operator\.\w+|math\.(ceil|floor|trunc|sqrt|pow)"
    r"|torch\._(sym_\w+|check)|torch\.\_check_is_size"
)
_EXPRESSION = re.compile(r"[\w\s()+\-*/%,.=<>!&|~'\[\]]*")
_WORDS = frozenset(
    {
        *("Symbol", "Integer", "Rational", "Float", "Max", "Min", "Mod", "FloorDiv", "CeilDiv"),
        *("PythonMod", "CleanDiv", "IntTrueDiv", "Pow", "PowByNatural", "Add", "Mul", "Ne", "Eq"),
        *("Gt", "Ge", "Lt", "Le", "And", "Or", "Not", "True", "False", "positive", "integer"),
        *("GreaterThan", "LessThan", "StrictGreaterThan", "StrictLessThan", "Equality"),
        *("Unequality", "CeilToInt", "FloorToInt", "RoundToInt", "TruncToFloat", "FloatTrueDiv"),
        *("nonnegative", "TruncToInt", "ToFloat", "ModularIndexing", "Where", "zoo", "oo"),
    }
)
# sympify computes what it reads: a tower of powers, a factorial or a shift would never end.
_SMALL_POWER = re.compile(
    r"\b[suz][fi]?\d+ ?\*\* ?\d{1,2}(?!\d| ?\*\*)"
    r"|Pow\(Symbol\('\w+'(, \w+=True)*\), Integer\(\d{1,2}\)\)"
)
_ENDLESS = re.compile(r"<<|>>|!(?!=)|(\*\*|Pow)(.*(\*\*|Pow)|.*\d{5})|\d{5}.*(\*\*|Pow)", re.S)
_DATA = re.compile(
    r"data/(weights/weight|constants/tensor)_\d+|archive_format|archive_version|byteorder"
    r"|version|\.data/\w+"
)
_SAVED = re.compile(r"\w+/(data\.pkl|data/\d+|byteorder|version|\.\w+|\.data/\w+)")
_TENSOR = re.compile(
    r"torch\._utils\._rebuild_(tensor_v2|parameter)|collections\.OrderedDict"
    # A tensor that another program was exported with bears sets of its axes.
    r"|torch\._tensor\._rebuild_from_type_v2|torch\.Tensor|__builtin__\.set"
    r"|torch\.(\w+Storage|device|Size|bool|(u?int|b?float|complex)\d+)"
)
# The layout of PyTorch 2.5 to 2.7.
_OLDER_PROGRAM = "serialized_exported_program.json"
_OLDER = tuple(f"serialized_{n}.pt" for n in ("state_dict", "constants", "example_inputs"))
_GUARD_NODES = (
    *(ast.Expression, ast.Compare, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Constant, ast.Load),
    *(ast.cmpop, ast.boolop, ast.operator, ast.unaryop, ast.Subscript, ast.Name, ast.Attribute),
    ast.Call,
)
_GUARD_NAMES = {"L", "math", "max", "min", *_WORDS}
_GUARD_ATTRIBUTES = ("size", "stride", "storage_offset", "ceil", "floor", "trunc", "sqrt")


_DAMAGE = (
    *(ValueError, TypeError, LookupError, AttributeError, RecursionError),  # of its JSON
    *(OSError, RuntimeError, zipfile.BadZipFile, zlib.error),
)


def check(path: Path) -> None:
    """
    Check that loading the archive at *path* runs nothing but torch's own operators.

    Raises:
        UnsupportedModel: it does not say so; names the part.
    """
    archives.check(path)
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                _check_member(name, archive)
    except _DAMAGE as exc:
        raise UnsupportedModel(
            f"{path} is not a .pt2 program that is safe to open ({exc}): load it with "
            "trusted=True (--trusted) if you made it"
        ) from exc


def _check_member(name: str, archive: zipfile.ZipFile) -> None:
    _, _, inner = name.partition("/")
    if inner.startswith("data/") and inner.endswith("_config.json"):
        for tensor_name, each in orjson.loads(archive.read(name))["config"].items():
            if each.get("use_pickle") or not each["path_name"].startswith(("weight_", "tensor_")):
                raise ValueError(f"{tensor_name!r} is pickled")
    elif inner.startswith("data/sample_inputs/"):
        content = archive.read(name)
        if content and not _tensors_alone(content):
            raise ValueError("its sample inputs are no plain tensors")
    elif name in _OLDER:
        content = archive.read(name)
        if content and not _tensors_alone(content):
            raise ValueError(f"{name!r} holds more than plain tensors")
    elif (inner.startswith("models/") and inner.endswith(".json")) or name == _OLDER_PROGRAM:
        for key, text in _texts(orjson.loads(archive.read(name)), ""):
            _check_text(key, text)
    elif not _DATA.fullmatch(inner) and name != "version":
        raise ValueError(f"it has a part {name!r}")


def _tensors_alone(content: bytes) -> bool:
    """Whether *content* is what torch.save writes of tensors: all that opening it would import."""
    file = io.BytesIO(content)
    archives.check_open(file, "a part of it")
    with zipfile.ZipFile(file) as inner:
        # With code among them PyTorch would open it as TorchScript.
        if not all(_SAVED.fullmatch(name) for name in inner.namelist()):
            return False
        [pickled] = [name for name in inner.namelist() if name.endswith("/data.pkl")]
        return all(map(_TENSOR.fullmatch, pickles.plainly_imported(inner.read(pickled))))


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "range_constraints":
                yield from (("expr_str", symbol) for symbol in each)
            yield from _texts(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, key)
    elif isinstance(value, str):
        yield key, value


def _check_text(key: str, text: str) -> None:
    if key == "target" and not _TARGET.fullmatch(text):
        raise ValueError(f"it calls {text!r}")
    if key == "expr_str":
        words = set(re.findall(r"[A-Za-z_]\w*", text))
        unknown = {w for w in words - _WORDS if not re.fullmatch(r"[suz][fi]?\d+|u", w)}
        endless = _ENDLESS.search(_SMALL_POWER.sub("", text))
        if not _EXPRESSION.fullmatch(text) or "__" in text or unknown or endless:
            raise ValueError(f"a size is {text!r}")
    if key == "guards_code":
        _check_guard(text)
    if key in ("as_custom_obj", "as_operator") and not _TARGET.fullmatch(text):
        raise ValueError(f"it has an object {text!r}")


def _check_guard(text: str) -> None:
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        known = isinstance(node, _GUARD_NODES)
        if isinstance(node, ast.Attribute):
            known = node.attr in _GUARD_ATTRIBUTES
        if isinstance(node, ast.Name):
            known = node.id in _GUARD_NAMES
        if isinstance(node, ast.BinOp):  # a tower of powers would never end
            known = not isinstance(node.op, ast.LShift | ast.RShift | ast.Pow) or _is_small(node)
        if isinstance(node, ast.Call):
            known = isinstance(node.func, ast.Attribute | ast.Name)
        if not known:
            raise ValueError(f"a guard is {text!r}")


def _is_small(power: ast.BinOp) -> bool:
    exponent = power.right.value if isinstance(power.right, ast.Constant) else None
    within = any(isinstance(each, ast.Pow) for each in ast.walk(power.left))
    small = isinstance(exponent, int | float) and abs(exponent) < 100
    return isinstance(power.op, ast.Pow) and small and not within


def _sniff(path: Path) -> bool:
    names = archives.members(path)
    inner = {name.partition("/")[2] for name in names} | set(names)
    return "archive_format" in inner or "serialized_exported_program.json" in inner


FORMAT = Format(
    name="torch_export",
    suffixes=(".pt2",),
    sniff=_sniff,
    load=ExportedServable,
    extra="torch",
)
