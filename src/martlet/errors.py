"""Every error martlet raises on purpose, and what its caller should do.

::

    MartletError
    |-- InvalidInput        invalid_argument     mend the request
    |-- ModelNotFound       not_found            mend the name
    |-- AlreadyExists       already_exists       choose another name or version
    |-- NotAvailable        unavailable          retry: loading, draining, or a store is down
    |-- Overloaded          resource_exhausted   back off: a bounded queue is full
    |-- DeadlineExceeded    deadline_exceeded    allow more time, or ask for less
    |-- UnsupportedModel    failed_precondition  convert the file; says which part, and where in it
    |-- WrongState          failed_precondition  change the server's or the model's state first
    |-- MissingExtra        failed_precondition  install the extra it names
    |-- Unimplemented       unimplemented        ask for something else
    `-- ServableFailed      internal             report it: the model's own code raised
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """The canonical codes of gRPC that martlet uses, by name.

    Source: https://grpc.io/docs/guides/status-codes/
    """

    INVALID_ARGUMENT = "invalid_argument"
    NOT_FOUND = "not_found"
    ALREADY_EXISTS = "already_exists"
    UNAVAILABLE = "unavailable"
    RESOURCE_EXHAUSTED = "resource_exhausted"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    FAILED_PRECONDITION = "failed_precondition"
    UNIMPLEMENTED = "unimplemented"
    INTERNAL = "internal"


_LONGEST = 500  # characters of another's message in one of ours


def brief(exc: BaseException) -> str:
    """Return what *exc* is and says, for a message: some hold all of the bytes they failed on."""
    said = str(exc)
    said = said if len(said) <= _LONGEST else f"{said[:_LONGEST]} ..."
    return f"{type(exc).__name__}: {said}"


class MartletError(Exception):
    """The root of the tree. Its text is one sentence: what was wrong, where, what would work."""

    code: Code = Code.INTERNAL


class InvalidInput(MartletError):
    """The request cannot be answered as it was sent."""

    code = Code.INVALID_ARGUMENT


class ModelNotFound(MartletError):
    """No such model, version, label or recommender; the text lists those there are."""

    code = Code.NOT_FOUND


class AlreadyExists(MartletError):
    """A version or name is taken, and what is published never changes."""

    code = Code.ALREADY_EXISTS


class NotAvailable(MartletError):
    """It exists but cannot answer now."""

    code = Code.UNAVAILABLE


class Overloaded(MartletError):
    """A bounded queue is full; nothing was started."""

    code = Code.RESOURCE_EXHAUSTED


class DeadlineExceeded(MartletError):
    """The time that the caller allowed has passed."""

    code = Code.DEADLINE_EXCEEDED


class UnsupportedModel(MartletError):
    """The file is broken, or uses something that its reader does not know."""

    code = Code.FAILED_PRECONDITION


class WrongState(MartletError):
    """It would be right in another state: a label moved to a version that is not loaded."""

    code = Code.FAILED_PRECONDITION


class MissingExtra(MartletError):
    """The library that reads this format is not installed."""

    code = Code.FAILED_PRECONDITION

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs the extra {extra!r}: pip install 'martlet[{extra}]'")
        self.extra = extra


class Unimplemented(MartletError):
    """The protocol has it, martlet does not."""

    code = Code.UNIMPLEMENTED


class ServableFailed(MartletError):
    """The model's own code raised; the cause is chained."""

    code = Code.INTERNAL


BY_CODE: dict[Code, type[MartletError]] = {
    Code.INVALID_ARGUMENT: InvalidInput,
    Code.NOT_FOUND: ModelNotFound,
    Code.ALREADY_EXISTS: AlreadyExists,
    Code.UNAVAILABLE: NotAvailable,
    Code.RESOURCE_EXHAUSTED: Overloaded,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    Code.FAILED_PRECONDITION: WrongState,
    Code.UNIMPLEMENTED: Unimplemented,
    Code.INTERNAL: ServableFailed,
}
"""What is raised again where an error came as its code and its text, from another process."""


def first_line(exc: BaseException) -> str:
    """Return the first line of what *exc* says; its class if that is nothing."""
    return str(exc).strip().partition("\n")[0] or type(exc).__name__
