"""Models of sums: regressions, networks, support vectors, naive Bayes."""

from __future__ import annotations

from pmml_random.dice import Dice, array, element
from pmml_random.expressions import Known, discretize
from pmml_random.models import Model, Task, numbers_of, texts_of

NORMALIZATIONS = (
    "none",
    "softmax",
    "simplemax",
    "logit",
    "probit",
    "cloglog",
    "exp",
    "loglog",
    "cauchit",
)


def regression(dice: Dice, task: Task) -> Model:
    if not task.labels:
        method = dice.maybe(0.7, dice.choice([m for m in NORMALIZATIONS if m != "simplemax"]))
        body = [_table(dice, task)]
    else:
        several = len(task.labels) > 2 and not task.ordinal
        methods = ("none", "softmax", "simplemax", "logit") if several else NORMALIZATIONS
        if task.ordinal:
            methods = tuple(m for m in NORMALIZATIONS if m not in ("softmax", "simplemax", "exp"))
        method = dice.maybe(0.85, dice.choice([m for m in methods if m != "exp"]))
        body = [_table(dice, task, label) for label in task.labels[:-1]]
        last = task.labels[-1]
        bare = element("RegressionTable", intercept=0, targetCategory=last)
        body.append(_table(dice, task, last) if dice.chance(0.5) else bare)
    single = dice.maybe(0.15, "float")
    return Model(
        "RegressionModel", body, {"normalizationMethod": method, "x_mathContext": single}, task
    )


def _table(dice: Dice, task: Task, label: str | None = None) -> str:
    terms = []
    for each in dice.some(numbers_of(task)):
        terms.append(
            element(
                "NumericPredictor",
                name=each.name,
                coefficient=dice.number(),
                exponent=dice.maybe(0.3, dice.randint(1, 3)),
            )
        )
    for each in texts_of(task):
        for value in dict.fromkeys(each.literal(dice) for _ in range(dice.randint(0, 3))):
            terms.append(
                element(
                    "CategoricalPredictor", name=each.name, value=value, coefficient=dice.number()
                )
            )
    if dice.chance(0.25):
        refs = [element("FieldRef", field=each.name) for each in dice.some(numbers_of(task))]
        terms.append(element("PredictorTerm", *refs, coefficient=dice.number()))
    return element("RegressionTable", *terms, intercept=dice.number(), targetCategory=label)


def general(dice: Dice, task: Task) -> Model:
    if task.labels:
        ordinal = task.ordinal or dice.chance(0.25)
        kind = "ordinalMultinomial" if ordinal else "multinomialLogistic"
        if len(task.labels) == 2 and not ordinal and dice.chance(0.5):
            kind = "generalizedLinear"
    else:
        kind = dice.one("regression", "generalLinear", "generalizedLinear", "generalizedLinear")
    attributes: dict[str, object] = {"modelType": kind}
    if kind == "generalizedLinear":
        links = ("logit", "probit", "cloglog", "loglog", "log", "logc", "identity")
        more = () if task.labels else ("power", "oddspower", "negbin")
        link = dice.choice(links[:4] if task.labels else links + more)
        attributes["linkFunction"] = link
        if link in ("power", "oddspower"):
            attributes["linkParameter"] = dice.one(0.5, 1, 2, 3)
        if link == "negbin":
            attributes |= {"distribution": "negbin", "distParameter": dice.one(0.5, 1.5)}
    if kind == "ordinalMultinomial":
        links = ("logit", "probit", "cloglog", "loglog", "cauchit")
        attributes["cumulativeLink"] = dice.choice(links)
    if kind != "multinomialLogistic" and dice.chance(0.2):
        attributes["offsetValue"] = dice.number()
    if kind == "generalizedLinear" and not task.labels and dice.chance(0.15):
        attributes["trialsValue"] = dice.randint(1, 4)
    parameters, cells = _design(dice, task)
    covariates = [element("Predictor", name=each.name) for each in numbers_of(task)]
    factors = [element("Predictor", name=each.name) for each in texts_of(task)]
    names = [element("Parameter", name=each) for each in parameters]
    return Model(
        "GeneralRegressionModel",
        [
            element("ParameterList", *names),
            element("FactorList", *factors),
            element("CovariateList", *covariates),
            element("PPMatrix", *cells),
            element("ParamMatrix", *_betas(dice, task, kind, parameters)),
        ],
        attributes,
        task,
    )


def _design(dice: Dice, task: Task) -> tuple[list[str], list[str]]:
    parameters, cells = ["p0"], []
    for _ in range(dice.randint(1, 4)):
        name = f"p{len(parameters)}"
        parameters.append(name)
        for each in dice.some(numbers_of(task) + texts_of(task))[:2]:
            value = dice.one(1, 1, 1, 2) if each.is_number else each.literal(dice)
            cells.append(
                element("PPCell", value=value, predictorName=each.name, parameterName=name)
            )
    return parameters, cells


def _betas(dice: Dice, task: Task, kind: str, parameters: list[str]) -> list[str]:
    if not task.labels:
        return [element("PCell", parameterName=p, df=1, beta=dice.number()) for p in parameters]
    if kind == "ordinalMultinomial":
        steps = sorted(dice.number() for _ in task.labels[1:])
        found = [
            element("PCell", targetCategory=label, parameterName="p0", df=1, beta=step)
            for label, step in zip(task.labels, steps, strict=False)
        ]
        rest = parameters[1:]
        return found + [element("PCell", parameterName=p, df=1, beta=dice.number()) for p in rest]
    return [
        element("PCell", targetCategory=label, parameterName=p, df=1, beta=dice.number())
        for label in task.labels[:-1]
        for p in parameters
    ]


def network(dice: Dice, task: Task) -> Model:
    functions = (
        "threshold",
        "logistic",
        "tanh",
        "identity",
        "exponential",
        "reciprocal",
        "square",
        "Gauss",
        "sine",
        "cosine",
        "Elliott",
        "arctan",
        "rectifier",
        "radialBasis",
    )
    inputs, before = [], []
    for each in numbers_of(task) + texts_of(task):
        name = f"i{len(before)}"
        body = element("FieldRef", field=each.name)
        if each.is_text:
            body = element("NormDiscrete", field=each.name, value=each.literal(dice))
        elif dice.chance(0.4):
            points = [element("LinearNorm", orig=o, norm=n) for o, n in ((-2, 0), (3, 1))]
            body = element("NormContinuous", *points, field=each.name)
        derived = element("DerivedField", body, optype="continuous", dataType="double")
        inputs.append(element("NeuralInput", derived, id=name))
        before.append(name)
    layers = []
    size = max(1, len(task.labels))
    for place, neurons in enumerate([dice.randint(1, 3), size] if dice.chance(0.7) else [size]):
        function = dice.maybe(0.7, dice.choice(functions))
        own = []
        for number in range(neurons):
            links = [
                element("Con", weight=dice.number() / 2, **{"from": each})
                for each in dice.some(before)
            ]
            radial = function == "radialBasis"
            own.append(
                element(
                    "Neuron",
                    *links,
                    id=f"l{place}_{number}",
                    bias=None if radial else dice.maybe(0.8, dice.number() / 2),
                    width=dice.positive() if radial else None,
                )
            )
        layers.append(
            element(
                "NeuralLayer",
                *own,
                activationFunction=function,
                threshold=dice.maybe(0.5, dice.number()) if function == "threshold" else None,
                normalizationMethod=dice.maybe(0.3, dice.one("none", "softmax", "simplemax")),
            )
        )
        before = [f"l{place}_{number}" for number in range(neurons)]
    return Model(
        "NeuralNetwork",
        [
            element("NeuralInputs", *inputs),
            *layers,
            element("NeuralOutputs", *_network_outputs(dice, task, before)),
        ],
        {
            "activationFunction": dice.one("logistic", "tanh", "identity"),
            "normalizationMethod": dice.maybe(0.2, "softmax"),
            "altitude": dice.maybe(0.2, 1.5),
        },
        task,
        entities=bool(task.labels),
    )


def _network_outputs(dice: Dice, task: Task, neurons: list[str]) -> list[str]:
    target = task.target or "y"
    if task.labels:
        return [
            element(
                "NeuralOutput",
                element(
                    "DerivedField",
                    element("NormDiscrete", field=target, value=label),
                    optype="continuous",
                    dataType="double",
                ),
                outputNeuron=neuron,
            )
            for label, neuron in zip(task.labels, neurons, strict=False)
        ]
    body = element("FieldRef", field=target)
    if dice.chance(0.5):
        points = [element("LinearNorm", orig=o, norm=n) for o, n in ((-5, 0), (5, 1))]
        body = element("NormContinuous", *points, field=target)
    derived = element("DerivedField", body, optype="continuous", dataType="double")
    return [element("NeuralOutput", derived, outputNeuron=neurons[0])]


def support_vectors(dice: Dice, task: Task) -> Model:
    numbers, texts = numbers_of(task), texts_of(task)[: dice.randint(0, 1)]
    refs = [element("FieldRef", field=each.name) for each in numbers]
    refs += [
        element("CategoricalPredictor", name=t.name, value=t.literal(dice), coefficient=1)
        for t in texts
    ]
    width = len(refs)
    ids = [f"v{place}" for place in range(dice.randint(2, 4))]
    kernel = dice.one(
        element("LinearKernelType"),
        element("PolynomialKernelType", gamma=0.5, coef0=1, degree=dice.randint(1, 3)),
        element("RadialBasisKernelType", gamma=dice.positive() / 4),
        element("SigmoidKernelType", gamma=0.25, coef0=dice.number()),
    )
    linear = "Linear" in kernel and dice.chance(0.5)
    vectors = [
        element("VectorInstance", array([dice.number() for _ in refs]), id=each)
        for each in (() if linear else ids)
    ]
    pairs = dice.chance(0.5)
    machines = []
    for one, other in _sides(dice, task, pairs):
        named = dice.some(ids)
        count = width if linear else len(named)
        coefficients = [element("Coefficient", value=dice.number()) for _ in range(count)]
        supports = [element("SupportVector", vectorId=each) for each in named]
        machines.append(
            element(
                "SupportVectorMachine",
                "" if linear else element("SupportVectors", *supports),
                element("Coefficients", *coefficients, absoluteValue=dice.number()),
                targetCategory=one,
                alternateTargetCategory=other,
                threshold=dice.maybe(0.15, dice.number()),
            )
        )
    attributes: dict[str, object] = {
        "svmRepresentation": "Coefficients" if linear else dice.maybe(0.3, "SupportVectors"),
        "threshold": dice.maybe(0.15, dice.number()),
    }
    if task.labels:
        attributes["classificationMethod"] = "OneAgainstOne" if pairs else "OneAgainstAll"
        attributes["maxWins"] = dice.maybe(0.3, True)
    dictionary = element("VectorDictionary", element("VectorFields", *refs), *vectors)
    return Model(
        "SupportVectorMachineModel",
        [kernel, dictionary, *machines],
        attributes,
        task,
        probability=False,
        entities=bool(task.labels),
    )


def _sides(dice: Dice, task: Task, pairs: bool) -> list[tuple[str | None, str | None]]:
    labels = task.labels
    if not labels:
        return [(None, None)]
    if pairs:
        return [(a, b) for i, a in enumerate(labels) for b in labels[i + 1 :]]
    return [(label, None) for label in labels]


def naive_bayes(dice: Dice, task: Task) -> Model:
    def counts() -> list[str]:
        return [
            element("TargetValueCount", value=label, count=dice.randint(0, 9))
            for label in task.labels
        ]

    inputs = []
    for each in texts_of(task):
        values = each.values or tuple(each.cells)
        pairs = [
            element("PairCounts", element("TargetValueCounts", *counts()), value=value)
            for value in dice.some(values)
        ]
        inputs.append(element("BayesInput", *pairs, fieldName=each.name))
    for each in numbers_of(task):
        inputs.append(_evidence(dice, task, each.name, counts))
    totals = [
        element("TargetValueCount", value=label, count=dice.randint(1, 30)) for label in task.labels
    ]
    output = element("BayesOutput", element("TargetValueCounts", *totals), fieldName=task.target)
    return Model(
        "NaiveBayesModel",
        [element("BayesInputs", *inputs), output],
        {"threshold": dice.one(0.001, 0.01, 1e-6)},
        task,
    )


def _evidence(dice: Dice, task: Task, name: str, counts) -> str:  # type: ignore[no-untyped-def]
    if dice.chance(0.6):
        stats = []
        for label in task.labels:
            body = dice.one(
                element("GaussianDistribution", mean=dice.number(), variance=dice.positive()),
                element("PoissonDistribution", mean=dice.positive()),
            )
            stats.append(element("TargetValueStat", body, value=label))
        return element("BayesInput", element("TargetValueStats", *stats), fieldName=name)
    known = Known([each for each in task.fields if each.name == name])
    body = discretize(dice, known)
    derived = element("DerivedField", body, name=name, optype="categorical", dataType="string")
    pairs = [
        element("PairCounts", element("TargetValueCounts", *counts()), value=value)
        for value in ("a", "b", "c", "other")
    ]
    return element("BayesInput", derived, *pairs, fieldName=name)
