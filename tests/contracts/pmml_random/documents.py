"""Whole documents: a dictionary, transformations, one model, and rows to ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pmml_random import distances, linear, mining, trees
from pmml_random.dice import Dice, element
from pmml_random.expressions import Known, derived, number, text_index, truth, words
from pmml_random.fields import Field, rows_of, some_fields
from pmml_random.models import LABELS, Maker, Model, Task
from pmml_random.outputs import outputs, targets

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


@dataclass(frozen=True)
class Document:
    """A PMML file's text, and rows to ask it: cells by field; None is missing."""

    text: str
    rows: list[dict[str, Any]]


# A maker a kind of model, and what it predicts: numbers, labels, or whichever.
KINDS: dict[str, tuple[Maker, str]] = {
    "tree": (trees.tree, "any"),
    "rule_set": (trees.rule_set, "labels"),
    "scorecard": (trees.scorecard, "number"),
    "regression": (linear.regression, "any"),
    "general": (linear.general, "any"),
    "network": (linear.network, "any"),
    "support_vectors": (linear.support_vectors, "any"),
    "naive_bayes": (linear.naive_bayes, "labels"),
    "clustering": (distances.clustering, "any"),
    "neighbours": (distances.neighbours, "any"),
    "association": (distances.association, "any"),
    "ensemble": (mining.ensemble, "any"),
    "selection": (mining.selection, "any"),
    "chain": (mining.chain, "any"),
}


def document(kind: str, seed: object) -> Document:
    """Return the document of *kind* that *seed* makes: a model, or ``expressions``."""
    dice = Dice(f"{kind} {seed}")
    if kind == "expressions":
        return _of_expressions(dice)
    make, predicts = KINDS[kind]
    # The reference treats training instances as it does inputs: refused values spoil them.
    fields = some_fields(dice, plain=kind == "neighbours" or dice.chance(0.5))
    known = Known(list(fields))
    shared = _shared(dice, known) if dice.chance(0.3) else ""
    local = [derived(dice, known, f"l{place}") for place in range(_few(dice))]
    labels: tuple[str, ...] = ()
    if predicts == "labels" or (predicts == "any" and dice.chance(0.5)):
        labels = dice.choice(LABELS)
    # The reference looks up a class of nested models by its text, whatever the target's type is.
    is_plain = kind not in ("ensemble", "selection", "chain")
    is_number = is_plain and bool(labels) and labels[0].isdigit() and dice.chance(0.7)
    label_type = "integer" if is_number else "string"
    ordinal = len(labels) == 3 and dice.chance(0.2)
    task = Task(known.fields, labels, label_type, ordinal=ordinal)
    model = make(dice, task)
    model.transformations = local
    inputs = [each for each in fields if each in model.task.fields]
    return Document(
        _file(dice, fields, task, model, shared),
        _baskets(dice) if kind == "association" else rows_of(dice, inputs),
    )


def _few(dice: Dice) -> int:
    return dice.randint(1, 3) if dice.chance(0.3) else 0


def _shared(dice: Dice, known: Known) -> str:
    listed = [derived(dice, known, f"t{place}") for place in range(dice.randint(1, 2))]
    return element("TransformationDictionary", *listed)


def _file(dice: Dice, fields: list[Field], task: Task, model: Model, shared: str) -> str:
    listed = [each.data_field() for each in fields]
    if task.labels:
        values = [element("Value", value=each) for each in task.labels]
        optype = "ordinal" if task.ordinal else "categorical"
        listed.append(
            element("DataField", *values, name="y", optype=optype, dataType=task.label_type)
        )
    else:
        kind = dice.one("double", "double", "float", "integer")
        if kind == "integer" and model.tag == "NearestNeighborModel":
            kind = "double"
        listed.append(element("DataField", name="y", optype="continuous", dataType=kind))
    if model.rules:
        listed = [
            element("DataField", name=each, optype="categorical", dataType="string")
            for each in ("basket", "item")
        ]
    body = _schema_of_own(model, fields)
    return HEAD + element(
        "PMML",
        element("Header"),
        element("DataDictionary", *listed),
        shared,
        body.xml(outputs(dice, model), targets(dice, model)),
        xmlns="http://www.dmg.org/PMML-4_4",
        version="4.4",
    )


def _schema_of_own(model: Model, fields: list[Field]) -> Model:
    """Let the schema name the fields of the dictionary alone: derived ones are no inputs."""
    task = model.task
    listed = [each for each in task.fields if each in fields]
    model.task = Task(listed, task.labels, task.label_type, task.target, task.ordinal)
    return model


def _baskets(dice: Dice) -> list[dict[str, Any]]:
    return [{"item": dice.some(distances.ITEMS, 0)} for _ in range(8)]


def _of_expressions(dice: Dice) -> Document:
    """Return a document whose outputs are expressions of every kind."""
    fields = some_fields(dice)
    known = Known(list(fields))
    functions = []
    if dice.chance(0.3):
        inner = Known([Field("p", "double", "continuous", cells=[1.0, 2.0])])
        functions.append(
            element(
                "DefineFunction",
                element(
                    "ParameterField",
                    name="p",
                    optype="continuous",
                    dataType=dice.maybe(0.6, "double"),
                ),
                number(dice, inner, 2),
                name="own",
                optype="continuous",
                dataType="double",
            )
        )
        known.functions["own"] = "number"
    makers: list[tuple[Callable[..., str], str]] = [
        (number, "double"),
        (number, "double"),
        (words, "string"),
        (truth, "boolean"),
        (text_index, "double"),
    ]
    listed = []
    for place in range(dice.randint(1, 3)):
        make, held = dice.choice(makers)
        optype = "continuous" if held == "double" else "categorical"
        listed.append(
            element(
                "OutputField",
                make(dice, known),
                name=f"o{place}",
                feature="transformedValue",
                optype=optype,
                dataType=dice.maybe(0.85, held),
            )
        )
    task = Task(fields, (), target=None)
    model = Model("RegressionModel", [element("RegressionTable", intercept=0)], {}, task)
    return Document(
        HEAD
        + element(
            "PMML",
            element("Header"),
            element("DataDictionary", *(each.data_field() for each in fields)),
            element("TransformationDictionary", *functions) if functions else "",
            model.xml(element("Output", *listed)),
            xmlns="http://www.dmg.org/PMML-4_4",
            version="4.4",
        ),
        rows_of(dice, fields),
    )
