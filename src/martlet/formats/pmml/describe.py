"""What a PMML file is, as plain values: fields, transformations, segments, outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from martlet.formats.pmml.arrays import array_texts
from martlet.formats.pmml.dictionary import DataField
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.output import feature_of
from martlet.formats.pmml.predicates import TAGS
from martlet.formats.pmml.tree_nodes import TreeNodes

_PARTS = 200
"""Runs of segments that are told one by one."""


def describe(root: Element, model: Element) -> dict[str, Any]:
    """
    Return what the file whose root element is *root* holds.

    Every value is a str, a number, a list or a dict of them, or None: it can be written as JSON.
    """
    header = root.child("Header")
    producer = header.child("Application") if header is not None else None
    shared = root.child("TransformationDictionary")
    dictionary = root.need_child("DataDictionary")
    return {
        "format": "pmml",
        "version": root.get("version"),
        "producer": None if producer is None else _producer(producer),
        "description": header.get("description") if header is not None else None,
        "fields": [_field(DataField.of(each), model) for each in dictionary.all("DataField")],
        "functions": [f.get("name") for f in shared.all("DefineFunction")] if shared else [],
        "transformations": _derived(shared),
        "model": _model(model),
    }


def _producer(application: Element) -> str:
    return " ".join(filter(None, (application.get("name"), application.get("version"))))


def _field(data: DataField, model: Element) -> dict[str, Any]:
    schema = model.child("MiningSchema")
    lines = schema.all("MiningField") if schema is not None else []
    line = next((each for each in lines if each.get("name") == data.name), None)
    treatments = {}
    if line is not None:
        treatments = {
            key: text
            for key, text in line.attributes.items()
            if key not in ("name", "usageType", "importance", "optype")
        }
    return {
        "name": data.name,
        "type": data.type.name,
        "optype": data.optype,
        "usage": None if line is None else line.get("usageType", "active"),
        "allowed": data.describe(),
        "treatments": treatments,
    }


def _derived(element: Element | None) -> list[dict[str, Any]]:
    if element is None:
        return []
    found = []
    for each in element.all("DerivedField"):
        inner = next((c for c in each.children if c.tag not in ("Value", "Extension")), None)
        by = None if inner is None else inner.get("function") or inner.tag
        found.append(
            {
                "name": each.get("name"),
                "type": each.get("dataType"),
                "by": by,
                "of": [] if inner is None else _read_by(inner),
            }
        )
    return found


def _read_by(expression: Element) -> list[str]:
    """Return the names of the fields that *expression* reads, in order."""
    names = (e.get("field") or e.get("textField") for e in expression.walk())
    return list(dict.fromkeys(name for name in names if name is not None))


def _model(model: Element) -> dict[str, Any]:
    output, verification = model.child("Output"), model.child("ModelVerification")
    found: dict[str, Any] = {
        "element": model.tag,
        "function": model.get("functionName"),
        "algorithm": model.get("algorithmName"),
        "transformations": _derived(model.child("LocalTransformations")),
        "outputs": [
            {"name": e.get("name"), "feature": feature_of(e)}
            for e in (output.all("OutputField") if output is not None else [])
        ],
        "size": _size(model),
    }
    if verification is not None:
        table = verification.child("InlineTable")
        found["verification_records"] = 0 if table is None else len(table.children)
    if model.tag == "Scorecard":
        found["characteristics"] = _characteristics(model)
    segmentation = model.child("Segmentation")
    if segmentation is not None:
        found |= _segments(segmentation)
    return found


_COUNTED: dict[str, dict[str, tuple[str, ...]]] = {
    "AssociationModel": {"rules": ("AssociationRule",), "items": ("Item",)},
    "ClusteringModel": {"clusters": ("Cluster",), "fields": ("ClusteringField",)},
    "GeneralRegressionModel": {"coefficients": ("ParamMatrix", "PCell")},
    "NearestNeighborModel": {
        "instances": ("TrainingInstances", "InlineTable", "row"),
        "fields": ("KNNInputs", "KNNInput"),
    },
    "NaiveBayesModel": {"inputs": ("BayesInputs", "BayesInput")},
    "NeuralNetwork": {
        "inputs": ("NeuralInputs", "NeuralInput"),
        "layers": ("NeuralLayer",),
        "neurons": ("NeuralLayer", "Neuron"),
    },
    "RegressionModel": {"tables": ("RegressionTable",), "terms": ("RegressionTable", "*")},
    "Scorecard": {
        "characteristics": ("Characteristics", "Characteristic"),
        "attributes": ("Characteristics", "Characteristic", "Attribute"),
    },
    "SupportVectorMachineModel": {
        "machines": ("SupportVectorMachine",),
        "vectors": ("VectorDictionary", "VectorInstance"),
    },
}
"""What makes a model large or small, by model element: a count, and the path to what it counts."""


def _size(model: Element) -> dict[str, int]:
    if model.tag == "TreeModel":
        return {"nodes": sum(len(n) for n in model.all("Node") if isinstance(n, TreeNodes))}
    if model.tag == "RuleSetModel":
        return {"rules": sum(each.tag == "SimpleRule" for each in model.walk())}
    counts = _COUNTED.get(model.tag, {})
    return {name: len(_at(model, path)) for name, path in counts.items()}


def _at(element: Element, path: tuple[str, ...]) -> list[Element]:
    found = [element]
    for tag in path:
        found = [e for each in found for e in each.children if tag in ("*", e.tag)]
    return found


def _characteristics(scorecard: Element) -> list[dict[str, Any]]:
    found = []
    for each in _at(scorecard, ("Characteristics", "Characteristic")):
        attributes = each.all("Attribute")
        points = [a.number("partialScore") for a in attributes if a.get("partialScore")]
        found.append(
            {
                "name": each.get("name"),
                "attributes": len(attributes),
                "points": [min(points), max(points)] if points else [],
                "baseline": each.get("baselineScore") or scorecard.get("baselineScore"),
                "reason": each.get("reasonCode"),
            }
        )
    return found


def _segments(segmentation: Element) -> dict[str, Any]:
    """Return the segments; those in a row that are alike but for their size as one part."""
    parts: list[dict[str, Any]] = []
    kinds: Counter[str] = Counter()
    segments = segmentation.all("Segment")
    for place, each in enumerate(segments, 1):
        inner = next((e for e in each.children if e.tag not in (*TAGS, *_BESIDE)), None)
        if inner is None:
            continue
        kinds[inner.tag] += 1
        name = each.get("id") or str(place)
        own = {"first": name, "last": name, "count": 1, "when": _when(each), "model": _model(inner)}
        if parts and _joins(parts[-1], own):
            continue
        parts.append(own)
    return {
        "method": segmentation.get("multipleModelMethod"),
        "segments": len(segments),
        "segment_models": dict(kinds),
        "parts": parts[:_PARTS],
    }


_BESIDE = ("Extension", "VariableWeight")


def _joins(before: dict[str, Any], own: dict[str, Any]) -> bool:
    """Whether *own* is one more of the segments of *before*, which then counts it too."""
    one, other = before["model"], own["model"]
    alike = before["when"] == own["when"] and all(
        one.get(key) == other.get(key) for key in {*one, *other} - {"size"}
    )
    if alike:
        before["last"] = own["last"]
        before["count"] += 1
        one["size"] = {name: count + other["size"][name] for name, count in one["size"].items()}
    return alike


_SIGNS: dict[str, str] = {
    "equal": "=",
    "notEqual": "!=",
    "lessThan": "<",
    "lessOrEqual": "<=",
    "greaterThan": ">",
    "greaterOrEqual": ">=",
    "isMissing": "is missing",
    "isNotMissing": "is not missing",
    "isIn": "is in",
    "isNotIn": "is not in",
}


def _when(segment: Element) -> str | None:
    """Return the predicate of *segment* as a person writes it; None: always."""
    predicate = segment.child(*TAGS)
    return None if predicate is None or predicate.tag == "True" else _condition(predicate)


def _condition(predicate: Element) -> str:
    tell: dict[str, Callable[[], str]] = {
        "SimplePredicate": lambda: " ".join(
            filter(None, (predicate.get("field"), sign("operator"), predicate.get("value")))
        ),
        "SimpleSetPredicate": lambda: (
            f"{predicate.get('field')} {sign('booleanOperator')} "
            + ", ".join(array_texts(predicate.need_child("Array")))
        ),
        "CompoundPredicate": lambda: f" {predicate.get('booleanOperator')} ".join(
            f"({_condition(e)})" if e.tag == predicate.tag else _condition(e)
            for e in predicate.all(*TAGS)
        ),
    }

    def sign(name: str) -> str:
        return _SIGNS.get(predicate.get(name) or "", "?")

    return tell.get(predicate.tag, lambda: predicate.tag.lower())()
