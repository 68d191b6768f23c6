"""Apply: a function of expressions, built in or defined in the file.

How the pieces meet: arguments are compiled, the function is found by name, and ``mapMissingTo``,
``defaultValue`` and ``invalidValueTreatment`` wrap the result only where the file gives them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from martlet.formats.pmml.column import (
    Column,
    Mask,
    Reasons,
    all_errors,
    any_missing,
    blank,
    choose,
    failed,
    fill,
    first,
    kept,
    of_objects,
    reasons,
)
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import (
    ConstantValue,
    Expression,
    FieldRef,
    cast,
    compile_expression,
    distinct,
    expression_of,
    is_expression,
    store,
)
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.functions import FOLDS, NUMERIC, Fold, Numeric, held
from martlet.formats.pmml.scope import Scope, type_of
from martlet.formats.pmml.text_functions import POINTWISE, Pointwise
from martlet.formats.pmml.values import (
    BOOLEAN,
    DOUBLE,
    STRING,
    DataType,
    Kind,
    Value,
    common,
    convert,
    parse,
    text_of,
)


@dataclass(frozen=True, slots=True)
class NumericCall:
    """A function of numbers. Undefined, it fails the row, or (*keeps*) is NaN."""

    name: str
    function: Numeric
    arguments: tuple[Expression, ...]
    type: DataType
    keeps: bool = False

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        arrays = [each.values for each in sources]
        if self.function.widen:
            arrays = [a.astype(self.type.numpy, copy=False) for a in arrays]
        with np.errstate(all="ignore"):
            values = self.function.vector(*arrays)
        missing = any_missing(sources)
        errors = all_errors(sources)
        if not self.function.lenient:
            errors = first(errors, lacking(self.name, missing))
        found = Column(self.type, values, missing, errors)
        if values.dtype.kind == "f" and not self.keeps:
            bad = np.isnan(values)
            if bad.any():
                for each in arrays:
                    if each.dtype.kind == "f":
                        bad &= ~np.isnan(each)
                if missing is not None:
                    bad &= ~missing
                found = found.with_errors(reasons(bad, self._reason(arrays)))
                if self.type.numpy is np.int64:
                    values = np.where(np.isnan(values), 0, values)
        if values.dtype != self.type.numpy:
            with np.errstate(all="ignore"):
                values = values.astype(self.type.numpy)
        return replace(found, values=values)

    def _reason(self, arrays: list[np.ndarray]) -> Callable[[int], str]:
        def why(row: int) -> str:
            return f"{self.name} is undefined for {', '.join(str(a[row]) for a in arrays)}"

        return why

    def single(self) -> Single:
        name, call = self.name, held(self.function.scalar, self.type)
        if self.keeps:
            call = _undefined_as_nan(call)
        lenient = self.function.lenient
        reads = [each.single() for each in self.arguments]
        if self.type is DOUBLE and name in "+-*/":
            by = self._by_constant(reads[0])
            if by is not None:
                return by
        if self.type is DOUBLE and name in "+-*":
            return _arithmetic(name, reads)
        if len(reads) == 1:
            (read,) = reads

            def one(record: Record) -> Value:
                x = read(record)
                if x is None:
                    raise RowError(_LACKING.format(name))
                try:
                    return call(x)
                except RowError as exc:
                    raise RowError(f"{name} {exc}") from None

            return one

        def many(record: Record) -> Value:
            values = [read(record) for read in reads]
            if None in values:
                if lenient:
                    return None
                raise RowError(_LACKING.format(name))
            try:
                return call(*values)
            except RowError as exc:
                raise RowError(f"{name} {exc}") from None

        return many

    def _by_constant(self, read: Single) -> Single | None:
        """Return the closure of a double and a constant: no check but the missing one."""
        number, constant = self.arguments
        if not isinstance(constant, ConstantValue) or not isinstance(constant.value, int | float):
            return None
        c, name, lenient = float(constant.value), self.name, self.function.lenient
        if number.type is not DOUBLE or not math.isfinite(c) or (name == "/" and c == 0):
            return None

        def lacks() -> Value:
            if lenient:
                return None
            raise RowError(_LACKING.format(name))

        def add(record: Record) -> Value:
            x = read(record)
            return lacks() if x is None else x + c

        def subtract(record: Record) -> Value:
            x = read(record)
            return lacks() if x is None else x - c

        def multiply(record: Record) -> Value:
            x = read(record)
            return lacks() if x is None else x * c

        def divide(record: Record) -> Value:
            x = read(record)
            return lacks() if x is None else x / c

        return {"+": add, "-": subtract, "*": multiply, "/": divide}[name]


def _undefined_as_nan(call: Callable[..., Value]) -> Callable[..., Value]:
    def kept_as_is(*values: Value) -> Value:
        try:
            return call(*values)
        except RowError:
            return math.nan

    return kept_as_is


_LACKING = "{} has a missing argument"


def lacking(name: str, missing: Mask | None) -> Reasons | None:
    """Return why the rows of *missing* have no answer: *name* needs all its arguments."""
    return None if missing is None else reasons(missing, _LACKING.format(name))


def _arithmetic(name: str, reads: list[Single]) -> Single:
    """Return a double's sum, difference or product: they need no check but the missing one."""
    one, other = reads

    def add(record: Record) -> Value:
        a, b = one(record), other(record)
        return None if a is None or b is None else float(a + b)

    def subtract(record: Record) -> Value:
        a, b = one(record), other(record)
        return None if a is None or b is None else float(a - b)

    def multiply(record: Record) -> Value:
        a, b = one(record), other(record)
        return None if a is None or b is None else float(a * b)

    return {"+": add, "-": subtract, "*": multiply}[name]


@dataclass(frozen=True, slots=True)
class FoldCall:
    """A function of any number of numbers that leaves out the missing ones."""

    function: Fold
    arguments: tuple[Expression, ...]
    type: DataType

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        if any(_is_collection(each) for each in sources):
            return self._of_collections(sources)
        table = np.stack([each.cast(DOUBLE).floats() for each in sources])
        gone: Mask = np.asarray(np.isnan(table).all(axis=0))
        if gone.any():
            table[:, gone] = 0.0
        with np.errstate(all="ignore"):
            values = self.function.vector(table).astype(self.type.numpy)
        missing: Mask | None = gone if gone.any() else None
        return Column(self.type, values, missing, all_errors(sources))

    def _of_collections(self, sources: list[Column]) -> Column:
        rows = [flat(row) for row in zip(*(each.objects() for each in sources), strict=True)]
        found = [self.function.scalar(row) if row else None for row in rows]
        return of_objects(found, self.type).with_errors(all_errors(sources))

    def single(self) -> Single:
        reads = [each.single() for each in self.arguments]
        call, kind = self.function.scalar, self.type

        def fold(record: Record) -> Value:
            values = [v for v in [read(record) for read in reads] if v is not None]
            if any(isinstance(v, tuple) for v in values):
                values = flat(values)
            return convert(call(values), kind) if values else None

        return fold


def _is_collection(column: Column) -> bool:
    return column.levels is not None and any(isinstance(v, tuple) for v in column.levels[:1])


def flat(values: object) -> list[Value]:
    """Return the numbers in *values*, collections opened, the missing left out."""
    found: list[Value] = []
    for each in values:  # type: ignore[attr-defined] # any iterable of values and tuples
        found.extend(each if isinstance(each, tuple) else [each])
    return [each for each in found if each is not None]


@dataclass(frozen=True, slots=True)
class PointwiseCall:
    """A function of plain values, computed once for each distinct combination in a column."""

    name: str
    function: Pointwise
    arguments: tuple[Expression, ...]

    @property
    def type(self) -> DataType:
        return self.function.result

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        missing = any_missing(sources)
        keys, codes = distinct(sources)
        found: list[Value] = []
        refused: dict[int, str] = {}
        for number, key in enumerate(keys):
            try:
                found.append(None if None in key else self._call(key))
            except RowError as exc:
                found.append(None)
                refused[number] = str(exc)
        column = of_objects(found, self.type).take(codes)
        if missing is not None:
            column = blank(column, missing)
        errors = first(all_errors(sources), lacking(self.name, missing))
        if refused:
            bad = np.isin(codes, list(refused))
            if missing is not None:
                bad &= ~missing
            errors = all_errors(
                [column.with_errors(errors), column.with_errors(self._why(bad, codes, refused))]
            )
        return column.with_errors(errors)

    @staticmethod
    def _why(bad: Mask, codes: np.ndarray, refused: dict[int, str]) -> np.ndarray | None:
        return reasons(bad, lambda row: refused[int(codes[row])])

    def _call(self, key: tuple[Value, ...]) -> Value:
        try:
            return self.function.scalar(*key)
        except (ValueError, OverflowError) as exc:
            raise RowError(f"{self.name}: {exc}") from None

    def single(self) -> Single:
        reads = [each.single() for each in self.arguments]
        name, call = self.name, self._call

        def pointwise(record: Record) -> Value:
            key = tuple([read(record) for read in reads])
            if None in key:
                raise RowError(_LACKING.format(name))
            return call(key)

        return pointwise


@dataclass(frozen=True, slots=True)
class Concat:
    """The texts of the arguments, one after the other; the missing left out."""

    arguments: tuple[Expression, ...]
    type: DataType = STRING

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame).cast(STRING) for each in self.arguments]
        keys, codes = distinct(sources)
        joined = ["".join(part for part in key if part is not None) or None for key in keys]
        return of_objects(joined, STRING).take(codes).with_errors(all_errors(sources))

    def single(self) -> Single:
        reads = [(each.single(), each.type) for each in self.arguments]

        def concat(record: Record) -> Value:
            values = [(read(record), kind) for read, kind in reads]
            return "".join(text_of(v, kind) for v, kind in values if v is not None) or None

        return concat


_COMPARISONS: dict[str, tuple[Callable[..., np.ndarray], Callable[[Value, Value], bool]]] = {
    "equal": (np.equal, lambda a, b: a == b),
    "notEqual": (np.not_equal, lambda a, b: a != b),
    "lessThan": (np.less, lambda a, b: a < b),
    "lessOrEqual": (np.less_equal, lambda a, b: a <= b),
    "greaterThan": (np.greater, lambda a, b: a > b),
    "greaterOrEqual": (np.greater_equal, lambda a, b: a >= b),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Two values of one type compared. Text compares by code point.

    Where a value is missing there is no answer.
    """

    name: str
    one: Expression
    other: Expression
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        sources = [self.one.column(frame), self.other.column(frame)]
        vector, scalar = _COMPARISONS[self.name]
        left, right = sources
        if left.levels is None and right.levels is None:
            values = vector(left.values, right.values)
        elif isinstance(self.other, ConstantValue) and left.levels is not None:
            wanted = self.other.value
            values = left.by_level(lambda text: scalar(text, wanted), False, np.bool_)
        else:
            keys, codes = distinct(sources)
            table = [None not in key and scalar(*key) for key in keys]
            values = np.array(table, dtype=bool)[codes]
        missing = any_missing(sources)
        errors = first(all_errors(sources), lacking(self.name, missing))
        return Column(BOOLEAN, values, missing, errors)

    def single(self) -> Single:
        one, other = self.one.single(), self.other.single()
        name, compare = self.name, _COMPARISONS[self.name][1]

        def call(record: Record) -> Value:
            a, b = one(record), other(record)
            if a is None or b is None:
                raise RowError(_LACKING.format(name))
            return compare(a, b)

        return call


@dataclass(frozen=True, slots=True)
class Membership:
    """Whether a value is (or is not) among others."""

    one: Expression
    others: tuple[Expression, ...]
    negated: bool
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.one.column(frame)
        wanted = [each.value for each in self.others if isinstance(each, ConstantValue)]
        found = source.is_in([value for value in wanted if value is not None])
        errors = source.errors
        for each in self.others:
            if not isinstance(each, ConstantValue):
                same = Comparison("equal", self.one, each).column(frame)
                found = found | (same.values & same.known())
                errors = all_errors([source, same])
        return Column(BOOLEAN, ~found if self.negated else found, None, errors)

    def single(self) -> Single:
        read, others = self.one.single(), [each.single() for each in self.others]
        negated = self.negated
        if all(isinstance(each, ConstantValue) for each in self.others):
            wanted = {each.value for each in self.others if isinstance(each, ConstantValue)}
            return lambda record: (read(record) in wanted) is not negated

        def call(record: Record) -> Value:
            value = read(record)
            return any(value == other(record) for other in others) is not negated

        return call


@dataclass(frozen=True, slots=True)
class Presence:
    """isMissing, isNotMissing, isValid, isNotValid: always true or false."""

    name: str
    argument: Expression
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.argument.column(frame)
        gone = np.zeros(frame.rows, bool) if source.missing is None else source.missing
        if self.name in ("isMissing", "isNotMissing"):
            values = gone if self.name == "isMissing" else ~gone
            return Column(BOOLEAN, values, None, source.errors)
        # What cannot be had is invalid, and asking so is no error; the missing is neither.
        if self.name == "isValid":
            return Column(BOOLEAN, source.known())
        bad = np.zeros(frame.rows, bool) if source.errors is None else failed(source.errors)
        return Column(BOOLEAN, bad)

    def single(self) -> Single:
        read, name = self.argument.single(), self.name
        if name == "isMissing":
            return lambda record: read(record) is None
        if name == "isNotMissing":
            return lambda record: read(record) is not None

        def valid(record: Record) -> Value:
            try:
                found = read(record)
            except RowError:
                return name == "isNotValid"
            return found is not None and name == "isValid"

        return valid


@dataclass(frozen=True, slots=True)
class Logic:
    """and, or: Kleene's, so that a missing argument decides nothing by itself."""

    decisive: bool
    """The value of one argument that settles the answer: True for or, False for and."""
    arguments: tuple[Expression, ...]
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        settled = np.zeros(frame.rows, dtype=bool)
        for each in sources:
            settled |= each.equals(self.decisive)
        values = settled if self.decisive else ~settled
        missing = any_missing(sources)
        if missing is not None:
            missing = missing & ~settled
        return Column(BOOLEAN, values, missing, all_errors(sources))

    def single(self) -> Single:
        reads, decisive = [each.single() for each in self.arguments], self.decisive

        def call(record: Record) -> Value:
            unknown = False
            for read in reads:
                value = read(record)
                if value is None:
                    unknown = True
                elif value is decisive:
                    return decisive
            return None if unknown else not decisive

        return call


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite truth; missing stays missing."""

    argument: Expression
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.argument.column(frame)
        return replace(source, values=~source.values)

    def single(self) -> Single:
        read = self.argument.single()

        def call(record: Record) -> Value:
            value = read(record)
            return None if value is None else not value

        return call


@dataclass(frozen=True, slots=True)
class If:
    """One of two values. What the branch not taken would have failed with does not count."""

    condition: Expression
    yes: Expression
    no: Expression
    type: DataType

    def column(self, frame: Frame) -> Column:
        condition = self.condition.column(frame)
        taken = choose(condition.values, self.yes.column(frame), self.no.column(frame))
        if condition.missing is not None:
            if taken.errors is not None:
                taken = replace(taken, errors=kept(taken.errors, ~condition.missing))
            taken = blank(taken, condition.missing)
        return taken.with_errors(condition.errors)

    def single(self) -> Single:
        condition, yes, no = self.condition.single(), self.yes.single(), self.no.single()

        def call(record: Record) -> Value:
            truth = condition(record)
            if truth is None:
                return None
            return yes(record) if truth else no(record)

        return call


@dataclass(frozen=True, slots=True)
class Treated:
    """An Apply's own attributes: what a missing argument, result or an invalid one becomes."""

    inner: Expression
    arguments: tuple[Expression, ...]
    missing_to: Value
    default: Value
    on_invalid: str

    @property
    def type(self) -> DataType:
        return self.inner.type

    def column(self, frame: Frame) -> Column:
        found = self.inner.column(frame)
        if self.on_invalid == "asMissing" and found.errors is not None:
            bad = failed(found.errors)
            found = blank(replace(found, errors=None), bad)
        if self.missing_to is not None:
            gone = any_missing(each.column(frame) for each in self.arguments)
            if gone is not None:
                found = fill(found, gone, self.missing_to)
        if self.default is not None and found.missing is not None:
            found = fill(found, found.missing, self.default)
        return found

    def single(self) -> Single:
        inner, reads = self.inner.single(), [each.single() for each in self.arguments]
        missing_to, default, lenient = self.missing_to, self.default, self.on_invalid == "asMissing"

        def call(record: Record) -> Value:
            if missing_to is not None and any(read(record) is None for read in reads):
                return missing_to
            try:
                value = inner(record)
            except RowError:
                if not lenient:
                    raise
                value = None
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
    if on_invalid == "asIs" and isinstance(inner, NumericCall) and inner.type is DOUBLE:
        inner = replace(inner, keeps=True)
    if missing_to is None and default is None and on_invalid != "asMissing":
        return inner
    try:
        return Treated(
            inner,
            arguments,
            None if missing_to is None else parse(missing_to, inner.type),
            None if default is None else parse(default, inner.type),
            on_invalid,
        )
    except ValueError as exc:
        raise element.error(f"gives a result of the wrong type: {exc}") from None


def _call(
    name: str, arguments: tuple[Expression, ...], element: Element, scope: Scope
) -> Expression:
    if name in scope.world.functions:
        return _user_defined(scope.world.functions[name], arguments, element, scope)
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
        return FoldCall(fold, arguments, fold.result(types))
    if name in POINTWISE:
        pointwise = POINTWISE[name]
        _count(element, arguments, len(pointwise.arguments))
        pairs = zip(arguments, pointwise.arguments, strict=True)
        return PointwiseCall(name, pointwise, tuple(cast(each, kind) for each, kind in pairs))
    if name in _COMPARISONS:
        _count(element, arguments, 2)
        return Comparison(name, *_alike(arguments[0], arguments[1]))
    if name in ("isIn", "isNotIn"):
        _count(element, arguments, 2, None)
        others = tuple(_matched(each, arguments[0].type) for each in arguments[1:])
        return Membership(
            arguments[0], tuple(o for o in others if o is not None), name == "isNotIn"
        )
    if name in ("isMissing", "isNotMissing", "isValid", "isNotValid"):
        _count(element, arguments, 1)
        return Presence(name, arguments[0])
    return _logical(name, arguments, element)


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
    from martlet.formats.pmml.expressions import Failure

    return isinstance(expression, Failure) or (
        isinstance(expression, ConstantValue) and expression.value is None
    )


def _as(expression: Expression, kind: DataType) -> Expression:
    from martlet.formats.pmml.expressions import Failure

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
