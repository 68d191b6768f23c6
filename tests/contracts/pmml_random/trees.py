"""Models of rules: trees, rule sets, scorecards."""

from __future__ import annotations

from pmml_random.dice import Dice, element
from pmml_random.expressions import Known, number
from pmml_random.models import Model, Task
from pmml_random.predicates import pair, predicate


def tree(dice: Dice, task: Task) -> Model:
    named = dice.chance(0.6)
    strategy = dice.maybe(
        0.75, dice.one("none", "lastPrediction", "nullPrediction", "defaultChild", "defaultChild")
    )
    shape = _Shape(dice, task, named or strategy == "defaultChild", strategy, dice.chance(0.5))
    root = shape.node("<True/>", dice.randint(1, 4))
    return Model(
        "TreeModel",
        [root],
        {
            "missingValueStrategy": strategy,
            "noTrueChildStrategy": dice.maybe(
                0.6, dice.one("returnNullPrediction", "returnLastPrediction")
            ),
            "missingValuePenalty": dice.maybe(0.15, 0.8) if task.labels else None,
            "splitCharacteristic": dice.maybe(0.5, "multiSplit"),
        },
        task,
        entities=True,
    )


class _Shape:
    def __init__(
        self, dice: Dice, task: Task, named: bool, strategy: str | None, counted: bool
    ) -> None:
        self.dice, self.task, self.named, self.counted = dice, task, named, counted
        self.defaults = strategy == "defaultChild"
        self.count = 0

    def node(self, test: str, depth: int) -> str:
        dice = self.dice
        self.count += 1
        name = f"n{self.count}" if self.named else None
        leaf = depth == 0 or dice.chance(0.15)
        children: list[str] = []
        default = None
        if not leaf:
            tests = list(pair(dice, self.task.fields))
            if dice.chance(0.2):
                tests.insert(0, predicate(dice, self.task.fields))
            first = self.count + 1
            for each in tests:
                children.append(self.node(each, depth - 1))
            if self.defaults:
                default = dice.maybe(0.9, f"n{first}")
        says = leaf or dice.chance(0.5)
        return element(
            "Node",
            test,
            *(self._counts() if says and self.task.labels else []),
            *children,
            id=name,
            defaultChild=default,
            score=self._score() if says else None,
            recordCount=dice.maybe(0.3, 10) if says else None,
        )

    def _score(self) -> object:
        labels = self.task.labels
        if not labels:
            return self.dice.number()
        # Without a score the distribution's greatest would have to be it.
        return self.dice.choice(labels)

    def _counts(self) -> list[str]:
        if not self.counted:
            return []
        dice = self.dice
        return [
            element(
                "ScoreDistribution",
                value=label,
                recordCount=dice.randint(1, 9),
                confidence=dice.maybe(0.3, round(dice.random(), 3)),
            )
            for label in self.task.labels
        ]


def rule_set(dice: Dice, task: Task) -> Model:
    methods = [dice.one("firstHit", "weightedSum", "weightedMax")]
    rules = [_rule(dice, task, f"r{place}", 1) for place in range(dice.randint(1, 5))]
    body = element(
        "RuleSet",
        *(element("RuleSelectionMethod", criterion=each) for each in methods),
        *rules,
        defaultScore=dice.maybe(0.6, dice.choice(task.labels)),
        defaultConfidence=dice.maybe(0.5, 0.25),
        recordCount=100,
        nbCorrect=50,
    )
    return Model("RuleSetModel", [body], {}, task, entities=True, confidence=True)


def _rule(dice: Dice, task: Task, name: str, depth: int) -> str:
    test = predicate(dice, task.fields)
    if depth and dice.chance(0.25):
        inner = [_rule(dice, task, f"{name}{letter}", depth - 1) for letter in "xy"]
        return element("CompoundRule", test, *inner)
    return element(
        "SimpleRule",
        test,
        id=name,
        score=dice.choice(task.labels),
        recordCount=30,
        nbCorrect=20,
        confidence=dice.maybe(0.8, round(dice.random(), 2)),
        weight=dice.maybe(0.8, dice.randint(1, 9) / 10),
    )


def scorecard(dice: Dice, task: Task) -> Model:
    baseline = dice.maybe(0.5, dice.randint(-5, 20))
    reasons = dice.chance(0.8)
    known = Known(task.fields)
    listed = []
    for place in range(dice.randint(1, 4)):
        code = f"R{place % 3}"
        own_code = reasons and dice.chance(0.6)
        attributes = []
        for number_of in range(dice.randint(1, 3)):
            test = predicate(dice, task.fields)
            body = [test]
            points = dice.randint(-10, 30)
            if dice.chance(0.15):
                body.append(element("ComplexPartialScore", number(dice, known, 1)))
            attributes.append(
                element(
                    "Attribute",
                    *body,
                    partialScore=points,
                    reasonCode=None if own_code or not reasons else f"{code}_{number_of}",
                )
            )
        if dice.chance(0.8):
            attributes.append(
                element(
                    "Attribute",
                    "<True/>",
                    partialScore=dice.randint(-10, 30),
                    reasonCode=None if own_code or not reasons else f"{code}_t",
                )
            )
        listed.append(
            element(
                "Characteristic",
                *attributes,
                name=f"c{place}",
                reasonCode=code if own_code else None,
                baselineScore=dice.randint(-5, 20)
                if baseline is None or dice.chance(0.5)
                else None,
            )
        )
    return Model(
        "Scorecard",
        [element("Characteristics", *listed)],
        {
            "initialScore": dice.maybe(0.7, dice.number()),
            "useReasonCodes": None if reasons and dice.chance(0.5) else reasons,
            "reasonCodeAlgorithm": dice.maybe(0.7, dice.one("pointsAbove", "pointsBelow")),
            "baselineScore": baseline,
            "baselineMethod": dice.maybe(0.3, "mean"),
        },
        task,
        reasons=3 if reasons else 0,
    )
