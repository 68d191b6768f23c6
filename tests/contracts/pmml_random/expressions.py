"""Expressions of every kind, over the fields of a document."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

from pmml_random.dice import Dice, element, text
from pmml_random.fields import LETTERS, Field

ONE_NUMBER = (
    "abs",
    "ceil",
    "floor",
    "round",
    "rint",
    "exp",
    "expm1",
    "ln",
    "ln1p",
    "log10",
    "sqrt",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "stdNormalCDF",
    "stdNormalPDF",
    "stdNormalIDF",
)
TWO_NUMBERS = ("+", "-", "*", "/", "pow", "modulo", "threshold", "hypot")
FOLDS = ("min", "max", "sum", "avg", "product")
COMPARISONS = (
    "equal",
    "notEqual",
    "lessThan",
    "lessOrEqual",
    "greaterThan",
    "greaterOrEqual",
)
REGEXES = ("a", "[a-c]+", "(d) (e)", "^b", "é$", r"\s", ".", "A|B", r"\w+", "[^a]", "x*")
FORMS = ("%d", "%5d", "%.2f", "%8.3f", "%e", "%s", "%,.1f", "%+d")
CLOCKS = ("%Y-%m-%d", "%H:%M:%S", "%d.%m.%y", "%j", "%B %a")


@dataclass
class Known:
    """What an expression may refer to: fields, and the functions that the file defines."""

    fields: list[Field]
    functions: dict[str, str] = field(default_factory=dict)
    """The kind of each defined function's result; each takes one number."""

    def of(self, holds: Callable[[Field], bool]) -> list[Field]:
        return [each for each in self.fields if holds(each)]


def constant(value: object, kind: str | None = None) -> str:
    return element("Constant", text(value), dataType=kind)


def reference(dice: Dice, known: Field) -> str:
    missing = dice.maybe(0.12, known.literal(dice))
    return element("FieldRef", field=known.name, mapMissingTo=missing)


def apply(dice: Dice, function: str, *arguments: str, **more: object) -> str:
    return element("Apply", *arguments, function=function, **more)


def _treated(dice: Dice, result: str) -> dict[str, object]:
    """Return an Apply's own attributes, mostly none; *result* is a value that it may have."""
    return {
        "mapMissingTo": dice.maybe(0.1, result),
        "defaultValue": dice.maybe(0.1, result),
        "invalidValueTreatment": dice.maybe(0.12, dice.one("returnInvalid", "asIs", "asMissing")),
    }


def number(dice: Dice, known: Known, depth: int = 3) -> str:
    """Return an expression that is a number."""
    fields = known.of(lambda each: each.is_number)
    if depth <= 0 or dice.chance(0.2):
        if fields and dice.chance(0.75):
            return reference(dice, dice.choice(fields))
        return _number_constant(dice)
    below = depth - 1

    def argument() -> str:
        return number(dice, known, below)

    treated = _treated(dice, str(dice.randint(-2, 5)))
    match dice.randint(0, 12):
        case 0 | 1:
            return apply(dice, dice.choice(ONE_NUMBER), argument(), **treated)
        case 2 | 3 | 4:
            return apply(dice, dice.choice(TWO_NUMBERS), argument(), argument(), **treated)
        case 5:
            listed = [argument() for _ in range(dice.randint(1, 4))]
            return apply(dice, dice.choice(FOLDS), *listed, **treated)
        case 6:
            chosen = [argument() for _ in range(dice.one(1, 2, 2, 2))]
            return apply(dice, "if", truth(dice, known, below), *chosen, **treated)
        case 7:
            return norm_continuous(dice, known)
        case 8:
            return norm_discrete(dice, known)
        case 9:
            return mapping(dice, known, "double")
        case 10:
            return apply(dice, "stringLength", words(dice, known, below), **treated)
        case 11:
            moments = known.of(lambda each: each.type in ("date", "dateTime"))
            if not moments:
                return argument()
            return since(dice, dice.choice(moments))
        case _:
            own = [name for name, kind in known.functions.items() if kind == "number"]
            return apply(dice, dice.choice(own), argument()) if own else argument()


def _number_constant(dice: Dice) -> str:
    whole = dice.randint(-3, 5)
    return dice.one(
        constant(whole, dice.one("integer", None)),
        constant(dice.number(), dice.one("double", "float", None)),
    )


def truth(dice: Dice, known: Known, depth: int = 2) -> str:
    """Return an expression that is true or false."""
    below = depth - 1
    match dice.randint(0, 6 if depth > 0 else 3):
        case 0:
            left = number(dice, known, below)
            return apply(dice, dice.choice(COMPARISONS), left, number(dice, known, below))
        case 1:
            fields = known.of(lambda each: each.is_text)
            if not fields:
                return constant("true", "boolean")
            chosen = dice.choice(fields)
            tests = COMPARISONS if chosen.optype == "ordinal" and chosen.values else COMPARISONS[:2]
            return apply(
                dice,
                dice.choice(tests),
                reference(dice, chosen),
                constant(chosen.literal(dice), "string"),
            )
        case 2:
            chosen = dice.choice(known.fields)
            name = dice.one("isMissing", "isNotMissing", "isValid", "isNotValid")
            return apply(dice, name, element("FieldRef", field=chosen.name))
        case 3:
            return membership(dice, known)
        case 4:
            parts = [truth(dice, known, below) for _ in range(dice.randint(2, 3))]
            return apply(dice, dice.one("and", "or"), *parts, **_treated(dice, "true"))
        case 5:
            return apply(dice, "not", truth(dice, known, below))
        case _:
            regex = constant(dice.choice(REGEXES), "string")
            return apply(dice, "matches", words(dice, known, below), regex)


def membership(dice: Dice, known: Known) -> str:
    chosen = dice.choice(known.of(lambda each: each.is_number or each.is_text))
    kind = "string" if chosen.is_text else dice.one(None, chosen.type)
    listed = [chosen.literal(dice) for _ in range(dice.randint(1, 4))]
    constants = [constant(each, kind) for each in listed]
    return apply(dice, dice.one("isIn", "isNotIn"), reference(dice, chosen), *constants)


def words(dice: Dice, known: Known, depth: int = 2) -> str:
    """Return an expression that is text."""
    fields = known.of(lambda each: each.is_text)
    if depth <= 0 or dice.chance(0.25):
        if fields and dice.chance(0.8):
            return reference(dice, dice.choice(fields))
        return constant(dice.choice(LETTERS), "string")
    below = depth - 1

    def argument() -> str:
        return words(dice, known, below)

    treated = _treated(dice, dice.choice(LETTERS))
    match dice.randint(0, 9):
        case 0:
            return apply(
                dice, dice.one("uppercase", "lowercase", "trimBlanks"), argument(), **treated
            )
        case 1:
            start, length = dice.randint(1, 3), dice.randint(0, 3)
            return apply(
                dice,
                "substring",
                argument(),
                constant(start, "integer"),
                constant(length, "integer"),
                **treated,
            )
        case 2:
            listed = [dice.one(argument, lambda: number(dice, known, 0))() for _ in range(2)]
            return apply(dice, "concat", *listed, **treated)
        case 3:
            put = constant(dice.one("_", "", "$0$0", "x y"), "string")
            regex = constant(dice.choice(REGEXES), "string")
            return apply(dice, "replace", argument(), regex, put, **treated)
        case 4:
            chosen = [argument() for _ in range(dice.one(1, 2, 2))]
            return apply(dice, "if", truth(dice, known, below), *chosen, **treated)
        case 5:
            return discretize(dice, known)
        case 6 | 7:
            return mapping(dice, known, "string")
        case 8:
            form = constant(dice.choice(FORMS), "string")
            numbers = known.of(lambda each: each.is_number)
            asked = element("FieldRef", field=numbers[0].name) if numbers else constant(1.5)
            return apply(dice, "formatNumber", asked, form, **treated)
        case _:
            moments = known.of(lambda each: each.type in ("date", "dateTime", "time"))
            if not moments:
                return argument()
            form = constant(dice.choice(CLOCKS), "string")
            return apply(dice, "formatDatetime", element("FieldRef", field=moments[0].name), form)


def since(dice: Dice, moment: Field) -> str:
    ref = element("FieldRef", field=moment.name)
    if moment.type == "dateTime" and dice.chance(0.5):
        if dice.chance(0.5):
            return apply(dice, "dateSecondsSinceMidnight", ref)
        return apply(dice, "dateSecondsSinceYear", ref, constant(dice.one(1960, 1970, 2000)))
    return apply(dice, "dateDaysSinceYear", ref, constant(dice.one(1960, 1970, 1980, 2000)))


def norm_continuous(dice: Dice, known: Known) -> str:
    fields = known.of(lambda each: each.is_number)
    if not fields:
        return constant(1.5, "double")
    origins = sorted({dice.number() for _ in range(dice.randint(3, 5))})
    if len(origins) < 2:
        origins = [origins[0], origins[0] + 1]
    points = [element("LinearNorm", orig=each, norm=dice.number()) for each in origins]
    return element(
        "NormContinuous",
        *points,
        field=dice.choice(fields).name,
        outliers=dice.maybe(0.7, dice.one("asIs", "asMissingValues", "asExtremeValues")),
        mapMissingTo=dice.maybe(0.3, dice.number()),
    )


def norm_discrete(dice: Dice, known: Known) -> str:
    chosen = dice.choice(known.of(lambda each: each.is_number or each.is_text))
    return element(
        "NormDiscrete",
        field=chosen.name,
        value=chosen.literal(dice),
        method=dice.maybe(0.2, "indicator"),
        mapMissingTo=dice.maybe(0.3, dice.number()),
    )


def discretize(dice: Dice, known: Known) -> str:
    fields = known.of(lambda each: each.is_number)
    if not fields:
        return constant("a", "string")
    margins = sorted({dice.number() for _ in range(dice.randint(1, 4))})
    edges = [dice.maybe(0.7, margins[0] - 1), *margins, dice.maybe(0.7, margins[-1] + 1)]
    bins = []
    for low, high in pairwise(edges):
        if dice.chance(0.1) or (low is None and high is None):
            continue  # a gap
        interval = element(
            "Interval",
            leftMargin=low,
            rightMargin=high,
            closure=dice.one("openClosed", "closedOpen", "openOpen", "closedClosed"),
        )
        bins.append(element("DiscretizeBin", interval, binValue=dice.choice(LETTERS)))
    return element(
        "Discretize",
        *bins,
        field=dice.choice(fields).name,
        defaultValue=dice.maybe(0.4, "other"),
        mapMissingTo=dice.maybe(0.3, "none"),
    )


def mapping(dice: Dice, known: Known, kind: str) -> str:
    fields = dice.some(known.of(lambda each: each.is_number or each.is_text))[:2]
    rows = []
    for _ in range(dice.randint(1, 6)):
        cells = [
            element(f"c{place}", text(each.literal(dice))) for place, each in enumerate(fields)
        ]
        put = dice.number() if kind == "double" else dice.choice(LETTERS)
        rows.append(element("row", *cells, element("out", text(put))))
    pairs = [
        element("FieldColumnPair", field=each.name, column=f"c{place}")
        for place, each in enumerate(fields)
    ]
    other = dice.number() if kind == "double" else "other"
    return element(
        "MapValues",
        *pairs,
        element("InlineTable", *rows),
        outputColumn="out",
        dataType=kind,
        defaultValue=dice.maybe(0.4, other),
        mapMissingTo=dice.maybe(0.3, other),
    )


def text_index(dice: Dice, known: Known) -> str:
    fields = known.of(lambda each: each.is_text)
    if not fields:
        return constant(0, "integer")
    term = dice.one("a", "b", "d e", "D", "é", "e")
    rows = [
        element(
            "row",
            element("string", text(old)),
            element("stem", text(new)),
            *([element("regex", text("true"))] if dice.chance(0.3) else []),
        )
        for old, new in (("d", "a"), ("b|c", "e"), ("a", "b"))
    ]
    normalization = element(
        "TextIndexNormalization",
        element("InlineTable", *dice.some(rows)),
        recursive=dice.maybe(0.3, True),
        isCaseSensitive=dice.maybe(0.3, True),
    )
    return element(
        "TextIndex",
        *([normalization] if dice.chance(0.4) else []),
        constant(term, "string"),
        textField=dice.choice(fields).name,
        localTermWeights=dice.maybe(
            0.6,
            dice.one("termFrequency", "binary", "logarithmic", "augmentedNormalizedTermFrequency"),
        ),
        isCaseSensitive=dice.maybe(0.4, dice.one(True, False)),
        maxLevenshteinDistance=dice.maybe(0.3, dice.randint(0, 2)),
        countHits=dice.maybe(0.3, dice.one("allHits", "bestHits")),
        tokenize=dice.maybe(0.1, True),
    )


def derived(dice: Dice, known: Known, name: str) -> str:
    """Return a DerivedField of any kind, which *known* then knows."""
    kind = dice.one("number", "number", "text", "truth", "terms")
    if kind == "number":
        body = number(dice, known)
        held = dice.one("double", "double", "float", "integer", "string")
        optype = "categorical" if held == "string" else "continuous"
    elif kind == "terms":
        body, held, optype = text_index(dice, known), dice.one("integer", "double"), "continuous"
    elif kind == "text":
        body, held, optype = words(dice, known), "string", "categorical"
    else:
        body, held, optype = truth(dice, known), dice.one("boolean", "string"), "categorical"
    made = Field(name, held, optype)
    made.cells = {"string": ["a", "b", "1"], "boolean": [True, False]}.get(held, [0, 1, 2])
    known.fields.append(made)
    return element("DerivedField", body, name=name, optype=optype, dataType=held)
