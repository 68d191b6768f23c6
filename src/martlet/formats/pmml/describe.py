"""What a PMML file is, for people: fields, transformations, segments, outputs, as plain values."""

from __future__ import annotations

from collections import Counter
from typing import Any

from martlet.formats.pmml.dictionary import DataField
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.tree_nodes import TreeNodes

_SHOWN = 50
"""Segments that are listed one by one."""


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
        "model": _model(model, 0),
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
    return [
        {
            "name": each.get("name"),
            "type": each.get("dataType"),
            "by": next(
                (c.get("function") or c.tag for c in each.children if c.tag != "Value"), None
            ),
        }
        for each in element.all("DerivedField")
    ]


def _model(model: Element, depth: int) -> dict[str, Any]:
    output, verification = model.child("Output"), model.child("ModelVerification")
    found: dict[str, Any] = {
        "element": model.tag,
        "function": model.get("functionName"),
        "algorithm": model.get("algorithmName"),
        "transformations": _derived(model.child("LocalTransformations")),
        "outputs": [
            {"name": e.get("name"), "feature": e.get("feature", "predictedValue")}
            for e in (output.all("OutputField") if output is not None else [])
        ],
    }
    if verification is not None:
        table = verification.child("InlineTable")
        found["verification_records"] = 0 if table is None else len(table.children)
    segmentation = model.child("Segmentation")
    if segmentation is not None:
        found |= _segments(segmentation, depth)
    elif model.tag == "TreeModel":
        found["nodes"] = sum(len(n) for n in model.all("Node") if isinstance(n, TreeNodes))
    return found


def _segments(segmentation: Element, depth: int) -> dict[str, Any]:
    segments = segmentation.all("Segment")
    models = [
        e for s in segments for e in s.children if e.tag.endswith(("Model", "Network", "card"))
    ]
    return {
        "method": segmentation.get("multipleModelMethod"),
        "segments": len(segments),
        "segment_models": dict(Counter(each.tag for each in models)),
        "models": [_model(each, depth + 1) for each in models[:_SHOWN]] if depth < 4 else [],
    }
