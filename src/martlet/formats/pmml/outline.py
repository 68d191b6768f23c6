"""A PMML file told to people: the lines of a tree, from what ``describe`` found."""

from __future__ import annotations

from collections import Counter
from typing import Any

Branch = tuple[str, list["Branch"]]
"""A line, and the lines below it."""

_SHOWN = 40
"""Lines of one kind that are told before the rest is counted."""


def outline(described: dict[str, Any]) -> list[Branch]:
    """Return what :func:`~martlet.formats.pmml.describe.describe` *described*, line by line."""
    made = f" by {described['producer']}" if described["producer"] else ""
    about = f": {described['description']}" if described["description"] else ""
    return [
        (f"PMML {described['version'] or 'of no version'}{made}{about}", []),
        _fields(described["fields"]),
        *_section("functions", [(name, []) for name in described["functions"]]),
        *_transformations(described["transformations"]),
        _model(described["model"]),
    ]


def _fields(fields: list[dict[str, Any]]) -> Branch:
    """Tell the fields that a caller may know more of than their type: targets and treatments."""
    usages = Counter(each["usage"] or "not in the schema" for each in fields)
    lines: list[Branch] = []
    for each in fields:
        notes = [f"{name} {text}" for name, text in each["treatments"].items()]
        is_plain = each["usage"] in ("active", None)
        if notes or not is_plain:
            what = [] if is_plain else [f"{each['usage']}, {each['allowed']}"]
            lines.append((f"{each['name']}: {'; '.join([*what, *notes])}", []))
    counts = ", ".join(f"{count} {usage}" for usage, count in usages.items())
    return f"fields: {counts}", _few(lines)


def _transformations(derived: list[dict[str, Any]]) -> list[Branch]:
    lines: list[Branch] = []
    for each in derived:
        of = f" of {_listed(each['of'])}" if each["of"] else ""
        lines.append((f"{each['name']}: {each['type'] or 'any'}, {each['by']}{of}", []))
    return _section("transformations", lines)


def _listed(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _model(model: dict[str, Any], label: str = "") -> Branch:
    what = [model["element"], model["function"] or "", model["algorithm"] or ""]
    size = [f"{count:,} {_noun(name, count)}" for name, count in model["size"].items()]
    lines = _transformations(model["transformations"])
    lines += _section(
        "characteristics", [_characteristic(each) for each in model.get("characteristics", [])]
    )
    if "parts" in model:
        lines.append(_segmentation(model))
    outputs: list[Branch] = [(f"{e['name']}: {e['feature']}", []) for e in model["outputs"]]
    lines += _section("outputs", outputs)
    if model.get("verification_records"):
        lines.append((f"verified by {model['verification_records']} records of its own", []))
    return label + ", ".join(filter(None, [*what, *size])), lines


def _characteristic(each: dict[str, Any]) -> Branch:
    points = " to ".join(f"{number:g}" for number in dict.fromkeys(each["points"]))
    notes = [f"{each['attributes']} {_noun('attributes', each['attributes'])}"]
    notes += [f"{points} points"] if points else ["points that are computed"]
    notes += [f"baseline {each['baseline']}"] if each["baseline"] else []
    notes += [f"reason {each['reason']}"] if each["reason"] else []
    return f"{each['name']}: {', '.join(notes)}", []


def _segmentation(model: dict[str, Any]) -> Branch:
    kinds = ", ".join(f"{count:,} {tag}" for tag, count in model["segment_models"].items())
    head = f"{model['segments']:,} {_noun('segments', model['segments'])}, {model['method']}"
    lines = []
    for each in model["parts"]:
        when = f" if {each['when']}" if each["when"] else ""
        if each["count"] == 1:
            name = f"{each['first']}{when}: "
        else:
            name = f"{each['first']} to {each['last']}{when}: {each['count']:,} "
        lines.append(_model(each["model"], name))
    return f"{head}: {kinds}", _few(lines)


def _noun(plural: str, count: int) -> str:
    return plural[:-1] if count == 1 else plural


def _section(title: str, lines: list[Branch]) -> list[Branch]:
    return [(f"{title}: {len(lines)}", _few(lines))] if lines else []


def _few(lines: list[Branch]) -> list[Branch]:
    if len(lines) <= _SHOWN:
        return lines
    return [*lines[: _SHOWN - 1], (f"and {len(lines) - _SHOWN + 1:,} more", [])]
