"""Three-valued logic by its definitions: what tests of trees are compared with."""

from __future__ import annotations

from martlet.formats.trees.questions import And, Compare, Member, Missing, Not, Or, Surrogate, Xor


def holds(predicate, row):
    """Three-valued truth by the definitions, walked: True, False or None."""
    match predicate:
        case bool():
            return predicate
        case Compare(feature, operator, value):
            x = row[feature]
            if x != x:
                return None
            return {
                "<": x < value, "<=": x <= value, ">": x > value,
                ">=": x >= value, "==": x == value, "!=": x != value,
            }[operator]  # fmt: skip
        case Member(feature, codes):
            return None if row[feature] != row[feature] else row[feature] in codes
        case Missing(feature):
            return row[feature] != row[feature]
        case Not(part):
            found = holds(part, row)
            return None if found is None else not found
        case And(parts):
            found = [holds(each, row) for each in parts]
            return False if False in found else None if None in found else True
        case Or(parts):
            found = [holds(each, row) for each in parts]
            return True if True in found else None if None in found else False
        case Xor(parts):
            found = [holds(each, row) for each in parts]
            return None if None in found else sum(found) % 2 == 1
        case Surrogate(parts):
            return next((x for x in (holds(each, row) for each in parts) if x is not None), None)
