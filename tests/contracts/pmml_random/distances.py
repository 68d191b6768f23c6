"""Models of likeness: clusters, neighbours, rules over baskets."""

from __future__ import annotations

from pmml_random.dice import Dice, array, element, text
from pmml_random.models import Model, Task, numbers_of, texts_of

BINARY = ("simpleMatching", "jaccard", "tanimoto", "binarySimilarity")
PARAMETERS = ("c00", "c01", "c10", "c11", "d00", "d01", "d10", "d11")


def _measure(dice: Dice, *, binary: bool) -> str:
    name = (
        dice.choice(BINARY)
        if binary
        else dice.one("euclidean", "squaredEuclidean", "cityBlock", "chebychev", "minkowski")
    )
    attributes: dict[str, object] = {}
    if name == "minkowski":
        attributes["p-parameter"] = dice.one(1, 2, 3)
    if name == "binarySimilarity":
        attributes |= {f"{each}-parameter": dice.randint(0, 2) for each in PARAMETERS}
        attributes["d00-parameter"] = 1
    return element(
        "ComparisonMeasure",
        element(name, **attributes),
        kind="similarity" if binary else "distance",
        compareFunction=dice.maybe(0.6, dice.one("absDiff", "gaussSim", "delta", "equal")),
    )


def _field(dice: Dice, tag: str, name: str, *, binary: bool) -> str:
    function = (
        None if binary else dice.maybe(0.2, dice.one("absDiff", "gaussSim", "delta", "equal"))
    )
    return element(
        tag,
        field=name,
        fieldWeight=None if binary else dice.maybe(0.4, dice.positive()),
        compareFunction=function,
        similarityScale=dice.maybe(0.7, dice.positive()),
    )


def clustering(dice: Dice, task: Task) -> Model:
    numbers = numbers_of(task)
    binary = dice.chance(0.25)
    if binary:
        for each in numbers:
            each.cells = [0, 1] if each.type == "integer" else [0.0, 1.0]
    ids = [f"g{place}" for place in range(dice.randint(1, 4))]
    named = dice.chance(0.6)
    clusters = []
    for place, each in enumerate(ids):
        centre = [dice.randint(0, 1) if binary else dice.number() for _ in numbers]
        clusters.append(
            element(
                "Cluster",
                array(centre),
                id=each if named else None,
                name=dice.maybe(0.6, f"name {place}"),
            )
        )
    weights = element("MissingValueWeights", array([dice.positive() for _ in numbers]))
    return Model(
        "ClusteringModel",
        [
            _measure(dice, binary=binary),
            *(_field(dice, "ClusteringField", each.name, binary=binary) for each in numbers),
            weights if dice.chance(0.4) else "",
            *clusters,
        ],
        {"modelClass": "centerBased", "numberOfClusters": len(ids)},
        Task(task.fields, (), target=None),
        function="clustering",
        entities=True,
        ranked=tuple(ids if named else [str(place + 1) for place in range(len(ids))]),
    )


def neighbours(dice: Dice, task: Task) -> Model:
    numbers, texts = numbers_of(task), texts_of(task)[: dice.randint(0, 1)]
    rows = dice.randint(3, 8)
    fields = numbers + texts
    names = [each.name for each in fields] + ["y"] * (task.target is not None)
    ids = dice.chance(0.5)
    listed = []
    for row in range(rows):
        cells = [
            element(name, text(each.literal(dice)))
            for name, each in zip(names, fields, strict=False)
        ]
        if task.target is not None:
            label = dice.choice(task.labels) if task.labels else dice.number()
            cells.append(element("y", text(label)))
        if ids:
            cells.append(element("id", text(100 + row)))
        listed.append(element("row", *cells))
    columns = names + ["id"] * ids
    instances = element(
        "TrainingInstances",
        element(
            "InstanceFields",
            *(element("InstanceField", field=each, column=each) for each in columns),
        ),
        element("InlineTable", *listed),
        isTransformed=dice.one(True, False),
        recordCount=rows,
    )
    inputs = []
    for each in fields:
        inputs.append(
            element("KNNInput", field=each.name, compareFunction="delta")
            if each.is_text
            else _field(dice, "KNNInput", each.name, binary=False)
        )
    attributes: dict[str, object] = {
        "numberOfNeighbors": dice.randint(1, rows),
        "instanceIdVariable": "id" if ids else None,
        "threshold": dice.maybe(0.3, 0.1),
    }
    if task.labels:
        attributes["categoricalScoringMethod"] = dice.maybe(
            0.7, dice.one("majorityVote", "weightedMajorityVote")
        )
    else:
        attributes["continuousScoringMethod"] = dice.maybe(
            0.7, dice.one("average", "median", "weightedAverage")
        )
    return Model(
        "NearestNeighborModel",
        [instances, _measure(dice, binary=False), element("KNNInputs", *inputs)],
        attributes,
        task,
        entities=True,
        ranked=("any",),
    )


ITEMS = ("beer", "bread", "milk", "egg", "salt")


def association(dice: Dice, task: Task) -> Model:
    sets = [dice.some(ITEMS)[:3] for _ in range(dice.randint(2, 6))]
    items = [element("Item", id=str(place), value=each) for place, each in enumerate(ITEMS)]
    itemsets = [
        element(
            "Itemset",
            *(element("ItemRef", itemRef=ITEMS.index(each)) for each in own),
            id=f"s{place}",
        )
        for place, own in enumerate(sets)
    ]
    rules = []
    for place in range(dice.randint(1, 7)):
        one, other = dice.randrange(len(sets)), dice.randrange(len(sets))
        rules.append(
            element(
                "AssociationRule",
                antecedent=f"s{one}",
                consequent=f"s{other}",
                support=round(dice.random(), 2),
                confidence=round(dice.random(), 2),
                lift=dice.maybe(0.7, round(3 * dice.random(), 2)),
                id=dice.maybe(0.6, f"rule{place}"),
                leverage=dice.maybe(0.4, round(dice.random(), 2)),
                affinity=dice.maybe(0.3, round(dice.random(), 2)),
            )
        )
    return Model(
        "AssociationModel",
        [*items, *itemsets, *rules],
        {
            "numberOfTransactions": 100,
            "numberOfItems": len(ITEMS),
            "minimumSupport": 0.01,
            "minimumConfidence": 0.01,
            "numberOfItemsets": len(sets),
            "numberOfRules": len(rules),
        },
        Task([], (), target=None),
        function="associationRules",
        rules=True,
        extra_schema=[
            element("MiningField", name="basket", usageType="group"),
            element("MiningField", name="item"),
        ],
    )
