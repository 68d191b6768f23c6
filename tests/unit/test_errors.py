"""The tree of errors: each has a code, a place in the drawing, and a status in every protocol."""

from __future__ import annotations

import re

import pytest

from martlet import errors
from martlet.cli import EXIT_CODES
from martlet.errors import Code, MartletError, MissingExtra
from martlet.servers.status import HTTP_STATUS

CLASSES = [
    each
    for each in vars(errors).values()
    if isinstance(each, type) and issubclass(each, MartletError)
]
DRAWN = dict(re.findall(r"[|`]-- (\w+) +(\w+) ", errors.__doc__ or ""))


def test_the_drawing_holds_every_error_and_no_other():
    assert set(DRAWN) == {each.__name__ for each in CLASSES} - {"MartletError"}


@pytest.mark.parametrize("error", CLASSES, ids=lambda c: c.__name__)
def test_each_has_a_code_and_says_when_it_is_raised(error: type[MartletError]):
    assert isinstance(error.code, Code)
    assert error.__doc__ and error.__doc__.endswith(".")
    if error is not MartletError:
        assert DRAWN[error.__name__] == error.code.value
        assert error.__base__ is MartletError


def test_every_code_has_a_status_that_is_an_error():
    assert set(HTTP_STATUS) == set(Code)
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())


def test_exit_codes_tell_codes_apart():
    assert len(set(EXIT_CODES.values())) == len(EXIT_CODES)
    assert not {0, 1} & set(EXIT_CODES.values())


def test_a_missing_extra_says_how_to_get_it():
    error = MissingExtra("the format xgboost", "xgboost")
    assert str(error) == (
        "the format xgboost needs the extra 'xgboost': pip install 'martlet[xgboost]'"
    )
    assert error.extra == "xgboost"


def test_an_error_that_came_as_its_code_is_raised_as_a_class_of_that_code():
    assert set(errors.BY_CODE) == set(Code)
    assert all(raised.code is code for code, raised in errors.BY_CODE.items())
