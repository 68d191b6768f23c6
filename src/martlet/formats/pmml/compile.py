"""A model element becomes slots of a program: its fields, its prediction, its outputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module

import numpy as np

from martlet.formats.pmml.column import Column
from martlet.formats.pmml.context import Context, NestedModel
from martlet.formats.pmml.dictionary import DataField
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import Expression, compile_derived, store
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.mining_schema import MiningField, inherited_field, input_field
from martlet.formats.pmml.output import COMPUTED, Requiring, compile_output, feature_of
from martlet.formats.pmml.prediction import Model, Outcome, Prediction
from martlet.formats.pmml.residual import residual
from martlet.formats.pmml.run import Run
from martlet.formats.pmml.scope import Field, Scope, World
from martlet.formats.pmml.targets import Target
from martlet.formats.pmml.values import DOUBLE, STRING, DataType, Value

_MODELS = {
    "AnomalyDetectionModel": "anomaly_detection",
    "AssociationModel": "association",
    "ClusteringModel": "clustering",
    "GeneralRegressionModel": "general_regression",
    "MiningModel": "mining",
    "NaiveBayesModel": "naive_bayes",
    "NearestNeighborModel": "nearest_neighbor",
    "NeuralNetwork": "neural_network",
    "RegressionModel": "regression",
    "RuleSetModel": "rule_set",
    "Scorecard": "scorecard",
    "SupportVectorMachineModel": "support_vector_machine",
    "TreeModel": "tree",
}
_FUNCTIONS = (
    "associationRules",
    "classification",
    "clustering",
    "mixed",
    "regression",
    "sequences",
    "timeSeries",
)
# Not there: Baseline, BayesianNetwork, GaussianProcess, Sequence, Text and TimeSeries models,
# which no engine has answers to compare with. They are refused by name.
_UNNAMED = "_target"
_MAX_MODELS_DEEP = 32


@dataclass(slots=True)
class Input:
    """One input of the file: where the caller's values go, and what they may be."""

    data: DataField
    mining: MiningField | None
    slot: int


@dataclass(slots=True)
class Compiler:
    """One file while it compiles."""

    world: World = field(default_factory=World)
    data: dict[str, DataField] = field(default_factory=dict)
    inputs: dict[str, Input] = field(default_factory=dict)
    transformations: list[Element] = field(default_factory=list)
    depth: int = 0

    @classmethod
    def of(cls, root: Element) -> Compiler:
        """Read what the whole file shares: its dictionary, transformations and functions."""
        self = cls()
        # Slot 0 of a record is the frame of one row, for the models that have no other path.
        self.world.program.slot(_no_frame, self._frame_of)
        for each in root.need_child("DataDictionary").all("DataField"):
            declared = DataField.of(each)
            self.data[declared.name] = declared
        shared = root.child("TransformationDictionary")
        if shared is not None:
            self.transformations = shared.all("DerivedField")
            self.world.functions = {f.need("name"): f for f in shared.all("DefineFunction")}
        return self

    def _frame_of(self, record: Record) -> Frame:
        frame = Frame(self.world.program, 1)
        for each in self.inputs.values():
            frame[each.slot] = one_row(record[each.slot])
        return frame

    def input(self, name: str, mining: MiningField | None, scope: Scope) -> Field:
        """Return the field of the input *name*, treated as *mining* says."""
        data = self.data[name]
        if name not in self.inputs:
            self.inputs[name] = Input(data, mining, self.world.program.raw_slot())
        plain = mining or MiningField.of(Element("MiningField", {"name": name}, 0), data)
        return input_field(data, plain, scope, self.inputs[name].slot)

    def model(
        self, element: Element, parent: Scope | None, around: Context | None = None
    ) -> NestedModel:
        """
        Compile the model *element*, which sees the fields of *parent*.

        Raises:
            UnsupportedModel: a part of it is malformed, unknown or refers to nothing.
        """
        self.depth += 1
        if self.depth > _MAX_MODELS_DEEP:
            raise element.error(f"is nested deeper than {_MAX_MODELS_DEEP} models")
        module = _MODELS.get(element.tag)
        if module is None:
            raise element.error("is not a supported model")
        if element.get("isScorable") in ("false", "0"):
            raise element.error("says that it is not scorable")
        element.choice("functionName", _FUNCTIONS)
        context = self._open(element, parent, around)
        make = import_module(f"martlet.formats.pmml.models.{module}").compile_model
        found = self._finish(context, make(context))
        self.depth -= 1
        return found

    def _open(
        self, element: Element, parent: Scope | None, around: Context | None = None
    ) -> Context:
        scope = Scope(self.world, parent)
        targets = self._schema(element, scope, parent)
        self._transformations(element, scope, parent)
        voting = around if around is not None and _votes_alike(element, around.element) else None
        return self._context(element, scope, targets, voting)

    def _schema(
        self, element: Element, scope: Scope, parent: Scope | None
    ) -> list[tuple[str, DataType, str]]:
        schema = element.child("MiningSchema")
        targets: list[tuple[str, DataType, str]] = []
        for each in schema.all("MiningField") if schema is not None else ():
            name = each.need("name")
            data = self.data.get(name)
            # A target is not asked of the caller because an inner model names it too.
            is_known = data is not None and each.get("usageType") in ("target", "predicted")
            source = parent.find(name) if parent is not None and not is_known else None
            mining = MiningField.of(each, data or source)
            if mining.is_target:
                kind = data.type if data is not None else source.type if source else None
                default = data.optype if data is not None else "continuous"
                optype = _optype_of(element, name) or mining.optype or default
                targets.append((name, kind or self._guess(element), optype))
                if parent is None and data is not None:
                    scope.later(name, self._later(name, mining, scope))
            elif parent is None:
                if data is None:
                    scope.later(name, self._computed(name, mining, scope))
                else:
                    scope.declare(self.input(name, mining, scope))
            elif source is not None:
                scope.declare(inherited_field(source, data, mining, scope), name)
        if parent is None:
            for name in self.data:
                if not scope.own(name):
                    scope.later(name, self._later(name, None, scope))
        return targets

    def _guess(self, element: Element) -> DataType:
        return DOUBLE if element.get("functionName") == "regression" else STRING

    def _later(self, name: str, mining: MiningField | None, scope: Scope) -> Callable[[], Field]:
        return lambda: self.input(name, mining, scope)

    def _computed(self, name: str, mining: MiningField, scope: Scope) -> Callable[[], Field]:
        """A field of the schema that the transformations compute, not the caller."""

        def make() -> Field:
            for each in self.transformations:
                if each.get("name") == name:
                    return inherited_field(compile_derived(each, scope), None, mining, scope)
            raise Element("MiningField", {"name": name}, 0).error("is not declared anywhere")

        return make

    def _transformations(self, element: Element, scope: Scope, parent: Scope | None) -> None:
        local = element.child("LocalTransformations")
        derived = local.all("DerivedField") if local is not None else []
        for each in (*(self.transformations if parent is None else ()), *derived):
            scope.later(each.need("name"), _derived(each, scope))

    def _context(
        self,
        element: Element,
        scope: Scope,
        targets: list[tuple[str, DataType, str]],
        around: Context | None,
    ) -> Context:
        name = targets[0][0] if targets else None
        declared = self.data.get(name) if name is not None else None
        label, labels = STRING, declared.valid if declared is not None else ()
        if targets:
            label = targets[0][1]
        elif around is not None:
            # A part of an ensemble need not name the target that it votes on.
            label, labels = around.label, around.labels
        context = Context(
            element,
            scope,
            name,
            label,
            labels,
            tuple(targets),
            lambda inner: self._open(inner, scope, context),
            lambda inner: self.model(inner, scope, context),
        )
        return context

    def _finish(self, context: Context, model: Model) -> NestedModel:
        element, predicts = context.element, self._predicts(context)
        if getattr(model, "collects", False):
            named = tuple((name, STRING, optype) for name, _, optype in context.targets)
            context, predicts = replace(context, label=STRING, targets=named), STRING
        targets = self._targets(context)
        program = self.world.program
        run = Run(context, model, targets, program)
        slot = program.slot(run.batch, run.single())
        outputs = self._outputs(context, slot, predicts, targets, model)
        return NestedModel(
            element,
            outputs[0],
            slot,
            context.targets,
            predicts,
            outputs[1],
            frozenset(outputs[2]),
            model,
            not targets,
        )

    def _predicts(self, context: Context) -> DataType:
        if context.targets or context.is_classification:
            return context.label
        return self._guess(context.element)

    def _targets(self, context: Context) -> tuple[Target, ...]:
        found = context.element.child("Targets")
        if found is None:
            return ()
        kinds = {name: kind for name, kind, _ in context.targets}
        return tuple(
            Target.of(
                each,
                kinds.get(each.get("field") or "", context.label if context.targets else DOUBLE),
                context.number.name == "float",
            )
            for each in found.all("Target")
        )

    def _outputs(
        self,
        context: Context,
        slot: int,
        predicts: DataType,
        targets: tuple[Target, ...],
        model: Model,
    ) -> tuple[Scope, tuple[str, ...], set[str]]:
        """Return the scope with the output fields, their names, and those told by features."""
        inside = Scope(self.world, context.scope)
        fields: dict[str, Field] = {}
        if context.target is not None:
            fields = {name: _predicted(context, slot, name) for name, _, _ in context.targets}
            for target in fields.values():
                inside.declare(target)
        segments: dict[str, int] = getattr(model, "segments", {})
        names: list[str] = list(getattr(model, "published", ()))
        told: set[str] = set()
        found = context.element.child("Output")
        for each in found.all("OutputField") if found is not None else ():
            name, feature = each.need("name"), feature_of(each)
            if feature == "x-report":
                continue  # a vendor's trace of its own evaluation
            if feature == "residual":
                expression = self._residual(each, context, slot)
            else:
                expression = compile_output(each, inside, slot, fields, predicts, targets, segments)
            if feature not in COMPUTED:
                told.add(name)
            elif told.intersection(e.get("field") or "" for e in each.walk()):
                expression = Requiring(expression, slot, name, inside)
            inside.declare(store(expression, inside, name, each))
            names.append(name)
        return inside, tuple(dict.fromkeys(names)), told

    def _residual(self, element: Element, context: Context, slot: int) -> Expression:
        name = element.get("targetField") or context.target
        if name is None or name not in self.data:
            raise element.error("asks for a residual of a model that has no target field")
        actual = context.scope.field(name, element)
        text = element.get("value")
        label: Value = None if text is None else context.parse_label(text, element)
        raw = self.inputs[name].slot
        return residual(slot, actual, raw, context.scope, label, context.is_classification)


def _no_frame(_: Frame) -> Frame:
    raise AssertionError("a batch needs no frame of one row")


def one_row(value: Value) -> np.ndarray:
    """Return *value* as the caller's array of one row."""
    if isinstance(value, float):
        return np.array([value])
    found = np.empty(1, dtype=object)
    found[0] = value
    return found


def _votes_alike(element: Element, around: Element) -> bool:
    """Whether *element* answers the question that the ensemble *around* it answers."""
    names = (element.get("functionName"), around.get("functionName"))
    return names == ("classification", "classification")


def _optype_of(model: Element, target: str) -> str | None:
    """Return the optype that the Targets of *model* give *target*: it overrides the schema's."""
    found = model.child("Targets")
    for each in found.all("Target") if found is not None else ():
        if each.get("field") == target:
            return each.get("optype")
    return None


def _derived(element: Element, scope: Scope) -> Callable[[], Field]:
    return lambda: compile_derived(element, scope)


@dataclass(frozen=True, slots=True)
class Predicted:
    """The origin of a target field: what the model in the slot *model* predicts."""

    model: int


def _predicted(context: Context, slot: int, name: str) -> Field:
    """Return the target *name* as a field: what is predicted, for the outputs that refer to it."""
    _, kind, optype = next(each for each in context.targets if each[0] == name)
    program = context.scope.world.program
    read = program.reader(slot)

    def column(frame: Frame) -> Column:
        prediction: Prediction = frame[slot]
        return prediction.others.get(name, prediction).value

    def single(record: Record) -> Value:
        found = read(record)
        if isinstance(found, Outcome):
            return found.of(name).value
        return found.others.get(name, found).value.objects()[0]

    made = program.slot(column, single)
    program.origins[made] = Predicted(slot)
    return Field(name, made, kind, optype, context.labels)


def first_model(root: Element) -> Element:
    """
    Return the model that the file is for: the first one that is scorable.

    Raises:
        UnsupportedModel: it has none.
    """
    models = [each for each in root.children if each.tag in _MODELS]
    for each in models:
        if each.get("isScorable") not in ("false", "0"):
            return each
    if models:
        raise models[0].error("says that it is not scorable")
    named = ", ".join(e.tag for e in root.children if e.tag.endswith(("Model", "Network")))
    raise root.error(f"holds no model that is supported{f' ({named})' if named else ''}")
