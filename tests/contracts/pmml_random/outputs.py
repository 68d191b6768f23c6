"""Targets, and Output fields of every feature that fits a model."""

from __future__ import annotations

from pmml_random.dice import Dice, element
from pmml_random.expressions import Known, number, truth, words
from pmml_random.models import Model

ALGORITHMS = ("recommendation", "exclusiveRecommendation", "ruleAssociation")
BASES = ("support", "confidence", "lift", "leverage", "affinity")


def outputs(dice: Dice, model: Model, prefix: str = "") -> str:
    found: list[str] = []

    def add(feature: str | None, *body: str, **attributes: object) -> None:
        found.append(
            element(
                "OutputField", *body, name=f"{prefix}o{len(found)}", feature=feature, **attributes
            )
        )

    task = model.task
    if dice.chance(0.6) and not model.rules:
        add(
            "predictedValue",
            dataType=dice.maybe(0.3, "string"),
            optype=dice.maybe(0.3, "categorical"),
        )
    if dice.chance(0.3) and not model.rules:
        add("predictedDisplayValue", dataType="string", optype="categorical")
    if task.labels and (model.probability or dice.chance(0.2)):
        for label in dice.some(task.labels, 0):
            add("probability", optype="continuous", dataType="double", value=label)
        if dice.chance(0.3):
            add("probability", optype="continuous", dataType="double")
    if model.confidence or (task.labels and model.tag == "TreeModel"):
        for label in dice.some(task.labels, 0):
            add("confidence", optype="continuous", dataType="double", value=label)
    if model.entities and dice.chance(0.7):
        ranked = model.ranked and dice.chance(0.6)
        add(
            "entityId",
            optype="categorical",
            dataType="string",
            rank=dice.randint(1, 3) if ranked else None,
        )
    if model.ranked:
        # Of neighbours the reference knows the affinity by rank alone.
        named = model.ranked if model.tag == "ClusteringModel" else ()
        for value in dice.some(named, 0)[:2]:
            add("affinity", optype="continuous", dataType="double", value=value)
        if dice.chance(0.5):
            add(
                dice.one("entityAffinity", "clusterAffinity")
                if model.tag == "ClusteringModel"
                else "affinity",
                optype="continuous",
                dataType="double",
                rank=dice.maybe(0.7, 2),
            )
    for rank in range(dice.randint(0, model.reasons) if model.reasons else 0):
        add("reasonCode", optype="categorical", dataType="string", rank=rank + 1)
    if model.rules:
        for _ in range(dice.randint(1, 4)):
            _rule(dice, add)
    if task.target is not None and dice.chance(0.4):
        _computed(dice, model, add)
    return element("Output", *found) if found else ""


def _rule(dice: Dice, add) -> None:  # type: ignore[no-untyped-def]
    feature = dice.one(
        "antecedent",
        "consequent",
        "rule",
        "ruleId",
        "support",
        "confidence",
        "lift",
        "leverage",
    )
    number = feature in ("support", "confidence", "lift", "leverage")
    many = dice.chance(0.3)
    add(
        "ruleValue",
        ruleFeature=feature,
        algorithm=dice.maybe(0.9, dice.choice(ALGORITHMS)),
        rank=dice.maybe(0.6, dice.randint(0, 3) if many else dice.randint(1, 3)),
        rankBasis=dice.maybe(0.6, dice.choice(BASES[:3])),
        rankOrder=dice.maybe(0.4, dice.one("ascending", "descending")),
        isMultiValued=1 if many else None,
        dataType=None if many else ("double" if number else "string"),
    )


def _computed(dice: Dice, model: Model, add) -> None:  # type: ignore[no-untyped-def]
    """Add what is computed of the prediction and the fields."""
    # Not of the target by its name: the reference takes that for what the caller gave.
    known = Known(model.task.fields)
    kind = dice.one("number", "text", "truth")
    body, held = {
        "number": lambda: (number(dice, known, 2), "double"),
        "text": lambda: (words(dice, known, 2), "string"),
        "truth": lambda: (truth(dice, known, 1), "boolean"),
    }[kind]()
    add(
        dice.one("transformedValue", "decision"),
        body,
        dataType=held,
        optype="continuous" if kind == "number" else "categorical",
    )


def targets(dice: Dice, model: Model) -> str:
    task = model.task
    # The reference leaves out the Targets of neighbours, and of what a segment answers alone.
    alone = model.tag == "NearestNeighborModel" or model.selects
    if task.target is None or alone or not dice.chance(0.35):
        return ""
    if task.labels:
        shares = [dice.randint(1, 5) for _ in task.labels]
        values = [
            element(
                "TargetValue",
                value=label,
                displayValue=dice.maybe(0.6, f"it is {label}"),
                priorProbability=share / sum(shares),
            )
            for label, share in zip(task.labels, shares, strict=True)
        ]
        return element("Targets", element("Target", *values, field="y", optype="categorical"))
    default = element("TargetValue", defaultValue=dice.number())
    return element(
        "Targets",
        element(
            "Target",
            *([default] if dice.chance(0.5) else []),
            field="y",
            optype="continuous",
            min=dice.maybe(0.3, dice.number() - 2),
            max=dice.maybe(0.3, dice.number() + 2),
            rescaleFactor=dice.maybe(0.4, dice.number()),
            rescaleConstant=dice.maybe(0.4, dice.number()),
            castInteger=dice.maybe(0.3, dice.one("round", "ceiling", "floor")),
        ),
    )
