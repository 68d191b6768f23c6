"""Apply: a function of expressions, built in or defined in the file.

How the pieces meet: arguments are compiled, the function is found by name, and ``mapMissingTo``,
``defaultValue`` and ``invalidValueTreatment`` wrap the result only where the file gives them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from martlet.formats.pmml.calls import Concat, FoldCall, NumericCall, PointwiseCall
from martlet.formats.pmml.column import (
    Column,
    failed,
    fill,
    first,
    kept,
)
from martlet.formats.pmml.conditions import (
    COMPARISONS,
    Comparison,
    If,
    Logic,
    Membership,
    Not,
    Presence,
    Ranked,
    Validity,
)
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import (
    ConstantValue,
    Expression,
    Failure,
    FieldRef,
    cast,
    compile_expression,
    expression_of,
    is_expression,
    store,
)
from martlet.formats.pmml.frame import Frame, Record, Single
from martlet.formats.pmml.functions import FOLDS, NUMERIC
from martlet.formats.pmml.scope import Scope, type_of
from martlet.formats.pmml.text_functions import NUMBER, POINTWISE
from martlet.formats.pmml.values import (
    BOOLEAN,
    DOUBLE,
    DataType,
    Kind,
    Value,
    common,
    parse,
)


@dataclass(frozen=True, slots=True)
class Treated:
    """An Apply's own attributes: what a missing argument or a missing result becomes."""

    inner: Expression
    arguments: tuple[Expression, ...]
    missing_to: Value
    default: Value

    @property
    def type(self) -> DataType:
        return self.inner.type

    def column(self, frame: Frame) -> Column:
        found = self.inner.column(frame)
        if self.missing_to is not None:
            gone, errors = np.zeros(frame.rows, dtype=bool), None
            for source in (each.column(frame) for each in self.arguments):
                # What comes after a missing argument is not asked for, and so cannot fail.
                if source.errors is not None:
                    errors = first(errors, kept(source.errors, ~gone))
                if source.missing is not None:
                    gone |= source.missing if errors is None else source.missing & ~failed(errors)
            if gone.any():
                if found.errors is not None:
                    errors = first(errors, kept(found.errors, ~gone))
                found = fill(replace(found, errors=errors), gone, self.missing_to)
        if self.default is not None and found.missing is not None:
            found = fill(found, found.missing, self.default)
        return found

    def single(self) -> Single:
        inner, reads = self.inner.single(), [each.single() for each in self.arguments]
        missing_to, default = self.missing_to, self.default

        def call(record: Record) -> Value:
            if missing_to is not None and any(read(record) is None for read in reads):
                return missing_to
            value = inner(record)
            return default if value is None else value

        return call


def compile_apply(element: Element, scope: Scope, depth: int) -> Expression:
    """
    Compile an Apply.

    Raises:
        UnsupportedModel: no function has that name, or not with so many arguments.
    """
    name = element.need("function")
    parts = [each for each in element.children if is_expression(each)]
    arguments = tuple(compile_expression(each, scope, depth + 1) for each in parts)
    try:
        inner = _call(name, arguments, element, scope)
    except ValueError as exc:
        raise element.error(f"gives {name} a constant of the wrong type: {exc}") from None
    missing_to, default = element.get("mapMissingTo"), element.get("defaultValue")
    on_invalid = element.choice(
        "invalidValueTreatment", ("returnInvalid", "asIs", "asMissing"), "returnInvalid"
    )
    # Only numbers have results that are undefined; an argument that is refused stays so.
    if isinstance(inner, NumericCall | FoldCall) and (
        on_invalid == "asMissing" or inner.type is DOUBLE
    ):
        inner = replace(inner, undefined=on_invalid)
    if missing_to is None and default is None:
        return inner
    try:
        stand_in = None if missing_to is None else parse(missing_to, inner.type)
        otherwise = None if default is None else parse(default, inner.type)
    except ValueError as exc:
        raise element.error(f"gives a result of the wrong type: {exc}") from None
    if isinstance(inner, If) and stand_in is not None:
        # Its arguments are the condition and the branch that is taken, if there is one.
        yes = Treated(inner.yes, (), None, stand_in)
        no = inner.no if len(arguments) == 2 else Treated(inner.no, (), None, stand_in)
        inner, arguments = replace(inner, yes=yes, no=no), arguments[:1]
    return Treated(inner, arguments, stand_in, otherwise)


def _call(
    name: str, arguments: tuple[Expression, ...], element: Element, scope: Scope
) -> Expression:
    if name in scope.world.functions:
        return _user_defined(scope.world.functions[name], arguments, element, scope)
    # What a version of PMML has not yet, producers write with a prefix: x-expm1 before 4.3.
    name = name.removeprefix("x-")
    types = [each.type for each in arguments]
    if name in NUMERIC:
        numeric = NUMERIC[name]
        if name == "-" and len(arguments) == 1:
            arguments, types = (ConstantValue(types[0], 0), *arguments), [types[0], types[0]]
        _count(element, arguments, numeric.arity)
        return NumericCall(name, numeric, _numbers(arguments), numeric.result(types))
    if name in FOLDS:
        _count(element, arguments, 1, None)
        fold = FOLDS[name]
        return FoldCall(name, fold, arguments, fold.result(types))
    if name in POINTWISE:
        pointwise = POINTWISE[name]
        _count(element, arguments, len(pointwise.arguments))
        pairs = zip(arguments, pointwise.arguments, strict=True)
        held_as = tuple(
            each if kind is NUMBER and each.type.is_number else cast(each, kind)
            for each, kind in pairs
        )
        return PointwiseCall(name, pointwise, held_as)
    if name in COMPARISONS:
        _count(element, arguments, 2)
        return _comparison(name, arguments[0], arguments[1])
    if name in ("isIn", "isNotIn"):
        _count(element, arguments, 2, None)
        others = tuple(_matched(each, arguments[0].type) for each in arguments[1:])
        return Membership(
            arguments[0], tuple(o for o in others if o is not None), name == "isNotIn"
        )
    if name in ("isMissing", "isNotMissing"):
        _count(element, arguments, 1)
        return Presence(arguments[0], name == "isNotMissing")
    if name in ("isValid", "isNotValid"):
        _count(element, arguments, 1)
        asked = arguments[0]
        domain = asked.field.domain if isinstance(asked, FieldRef) else None
        return Validity(asked, domain, name == "isNotValid")
    return _logical(name, arguments, element)


def _comparison(name: str, one: Expression, other: Expression) -> Expression:
    """Compare by order only what has one: numbers, moments, and text whose order is declared."""
    if name not in ("equal", "notEqual"):
        field = one.field if isinstance(one, FieldRef) else None
        optype = field.optype if field is not None else "continuous"
        if one.type.is_text and (field is None or optype == "continuous"):
            optype = "categorical"
        if optype == "categorical" and one.type.kind is not Kind.BOOLEAN:
            return Failure(f"{name} compares what has no order, categories", BOOLEAN)
        if optype == "ordinal" and field is not None and field.values:
            return Ranked(name, one, cast(other, one.type), field.values)
    return Comparison(name, *_alike(one, other))


def _logical(name: str, arguments: tuple[Expression, ...], element: Element) -> Expression:
    if name in ("and", "or"):
        _count(element, arguments, 1, None)
        return Logic(name == "or", tuple(cast(each, BOOLEAN) for each in arguments))
    if name == "not":
        _count(element, arguments, 1)
        return Not(cast(arguments[0], BOOLEAN))
    if name == "concat":
        _count(element, arguments, 1, None)
        return Concat(arguments)
    if name == "if":
        _count(element, arguments, 2, 3)
        yes = arguments[1]
        no = arguments[2] if len(arguments) == 3 else ConstantValue(yes.type, None)
        # A constant that is missing, or an Error, has the type of the branch beside it.
        kind = common([e.type for e in (yes, no) if not _is_nothing(e)] or [yes.type])
        return If(cast(arguments[0], BOOLEAN), _as(yes, kind), _as(no, kind), kind)
    raise element.error(f"calls the function {name!r}, which is not defined")


def _is_nothing(expression: Expression) -> bool:
    return isinstance(expression, Failure) or (
        isinstance(expression, ConstantValue) and expression.value is None
    )


def _as(expression: Expression, kind: DataType) -> Expression:
    if isinstance(expression, Failure):
        return Failure(expression.message, kind)
    if isinstance(expression, ConstantValue) and expression.value is None:
        return ConstantValue(kind, None)
    return cast(expression, kind)


def _count(
    element: Element, arguments: tuple[Expression, ...], least: int, most: int | None = 0
) -> None:
    top = least if most == 0 else most
    if len(arguments) < least or (top is not None and len(arguments) > top):
        wanted = str(least) if top == least else f"{least} to {top or 'any number'}"
        name = element.need("function")
        raise element.error(f"gives {name} {len(arguments)} arguments; it takes {wanted}")


def _numbers(arguments: tuple[Expression, ...]) -> tuple[Expression, ...]:
    return tuple(cast(each, DOUBLE) if each.type.is_text else each for each in arguments)


def _alike(one: Expression, other: Expression) -> tuple[Expression, Expression]:
    """Return both as one type: text becomes what stands beside it, a number the wider one."""
    if one.type == other.type or not (one.type.is_text or other.type.is_text):
        if one.type.is_moment and other.type.is_moment and one.type != other.type:
            return one, cast(other, one.type)
        if one.type.is_moment or other.type.is_moment or one.type == other.type:
            return one, other
        kind = common([one.type, other.type])
        return cast(one, kind), cast(other, kind)
    if one.type.is_text and not isinstance(one, ConstantValue) and isinstance(other, ConstantValue):
        return one, cast(other, one.type)
    if one.type.is_text:
        return cast(one, other.type), other
    return one, cast(other, one.type)


def _matched(expression: Expression, kind: DataType) -> Expression | None:
    """Return *expression* as *kind*, or None for a constant that *kind* cannot hold."""
    if kind.kind is Kind.INTEGER and expression.type.kind is Kind.DOUBLE:
        if not isinstance(expression, ConstantValue):
            return expression
        return expression if float(expression.value).is_integer() else None
    try:
        return cast(expression, kind)
    except ValueError:
        return None


def _user_defined(
    function: Element, arguments: tuple[Expression, ...], element: Element, scope: Scope
) -> Expression:
    """Compile the body of *function*, with each parameter a field that holds its argument."""
    parameters = function.all("ParameterField")
    if len(parameters) != len(arguments):
        name = element.need("function")
        raise element.error(f"gives {name} {len(arguments)} arguments; it takes {len(parameters)}")
    inside = Scope(scope.world, scope)
    for parameter, argument in zip(parameters, arguments, strict=True):
        held_as = cast(argument, type_of(parameter, argument.type))
        name = parameter.need("name")
        if isinstance(held_as, FieldRef) and held_as.replacement is None:
            inside.declare(held_as.field, name)
        elif isinstance(held_as, ConstantValue):
            inside.constants[name] = (held_as.type, held_as.value)
        else:
            inside.declare(store(held_as, scope, name))
    scope.world.enter(element)
    try:
        body = compile_expression(expression_of(function), inside)
    finally:
        scope.world.leave()
    return cast(body, type_of(function, body.type))
