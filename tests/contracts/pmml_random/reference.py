"""JPMML-Evaluator, in this process: what it answers to each row, or what it says of it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any


class Refusal(Exception):
    """The engine does not take the document."""


class Reference:
    """One document as JPMML-Evaluator loads it."""

    def __init__(self, path: Path) -> None:
        java = _java()
        try:
            builder = java.builder().load(java.file(str(path)))
            self._evaluator = builder.build()
            self._evaluator.verify()
        except java.exception as exc:
            raise Refusal(_told(exc)) from None

    def answer(self, row: dict[str, Any]) -> dict[str, Any] | str:
        """Return the outputs for *row*, or why there are none."""
        java = _java()
        given = java.map()
        for name, value in row.items():
            if value is not None:
                given.put(name, _boxed(value))
        try:
            found = self._evaluator.evaluate(given)
            return {
                "_target" if each.getKey() is None else str(each.getKey()): _plain(
                    java.util.decode(each.getValue())
                )
                for each in found.entrySet()
                if not isinstance(each.getValue(), java.no_value)
            }
        except java.exception as exc:
            return _told(exc)


class _Java:
    """The classes that are used; they come with the package ``jpmml_evaluator``."""

    def __init__(self) -> None:
        import jpmml_evaluator
        import jpype

        if not jpype.isJVMStarted():
            jars = Path(jpmml_evaluator.__file__).parent / "dependencies"
            jpype.startJVM(
                "-Xmx1g",
                "-Xss4m",
                "-XX:TieredStopAtLevel=1",
                classpath=[str(each) for each in jars.glob("*.jar")],
            )
        self.exception = jpype.JException
        self.builder = jpype.JClass("org.jpmml.evaluator.LoadingModelEvaluatorBuilder")
        self.util = jpype.JClass("org.jpmml.evaluator.EvaluatorUtil")
        self.no_value = jpype.JClass("org.jpmml.evaluator.association.Association")
        self.file = jpype.JClass("java.io.File")
        self.map = jpype.JClass("java.util.LinkedHashMap")
        self.list = jpype.JClass("java.util.ArrayList")
        self.number = jpype.JClass("java.lang.Number")
        self.collection = jpype.JClass("java.util.Collection")
        self.boxes = {
            bool: jpype.JClass("java.lang.Boolean"),
            int: jpype.JClass("java.lang.Integer"),
            float: jpype.JClass("java.lang.Double"),
            str: jpype.JString,
        }


@cache
def _java() -> _Java:
    return _Java()


def _boxed(value: Any) -> Any:
    java = _java()
    if isinstance(value, list):
        found = java.list()
        for each in value:
            found.add(_boxed(each))
        return found
    return java.boxes[type(value)](value)


def _plain(value: Any) -> Any:
    """Return a Java value as Python's: numbers as float, lists as lists, all else as text."""
    java = _java()
    if value is None:
        return None
    if isinstance(value, bool | java.boxes[bool]):
        return "true" if value else "false"
    if isinstance(value, java.number):
        return float(value.doubleValue())
    if isinstance(value, java.collection):
        return [_plain(each) for each in value]
    return str(value)


def _told(exc: Any) -> str:
    return str(exc).split("\n")[0][:300]
