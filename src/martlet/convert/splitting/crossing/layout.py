"""Which axis of a tensor is what: rows, the items of a history, columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from martlet.convert.splitting.crossing.forms import Form, Joined, Pair
from martlet.convert.splitting.crossing.side import SideGraph
from martlet.convert.splitting.sides import Shape
from martlet.errors import UnsupportedModel

ROWS, POSITIONS, COLUMNS, ONE = "n", "t", "w", "1"


@dataclass(frozen=True, slots=True)
class Laid:
    """
    A form and its axes.

    Args:
        axes: A letter for each axis of the tensor: "nw" for rows, "ntw" for those of each item of a
            history, "n1t" for a number for each item; "1" where the size is 1.
    """

    form: Form | Joined
    axes: str

    @property
    def single(self) -> Form:
        """The form. Raises UnsupportedModel where it is a concatenation."""
        if isinstance(self.form, Joined):
            raise UnsupportedModel("a concatenation of both sides is taken by no layer")
        return self.form

    @property
    def width(self) -> int:
        """How many columns it has."""
        if isinstance(self.form, Joined):
            return sum(each.width for each in self.form.forms)
        return self.form.width

    @property
    def positions(self) -> int:
        """How many items its history has; 0 for none."""
        if isinstance(self.form, Joined):
            return max(each.positions for each in self.form.forms)
        return self.form.positions

    def size(self, letter: str) -> int:
        """Return the size of an axis; -1 for that of the rows."""
        return {ROWS: -1, POSITIONS: self.positions, COLUMNS: self.width}.get(letter, 1)

    def letter(self, at: int) -> str:
        """Return what the axis *at* is; ONE where its size is, or there is none."""
        if not -len(self.axes) <= at < len(self.axes):
            return ONE
        return self.axes[at] if self.size(self.axes[at]) != 1 else ONE

    @property
    def form_is_of_user(self) -> bool:
        """Whether it is tensors of the user's alone."""
        return isinstance(self.form, Form) and self.form.is_of_user and not self.form.is_constant

    def reshaped(self, shape: Shape) -> Laid:
        """Return it in *shape*. Raises UnsupportedModel where its axes do not stay whole."""
        left = [each for each in self.axes if self.size(each) != 1]
        axes = ""
        for size in shape:
            whole = bool(left) and self.size(left[0]) == size
            if not whole and size != 1:
                raise UnsupportedModel("axes are folded into one another")
            axes += left.pop(0) if whole else ONE
        if left:
            raise UnsupportedModel("axes are folded into one another")
        return Laid(self.form, axes)


def leaf(name: str, shape: Shape, side: SideGraph, of_user: bool) -> Laid:
    """
    Return what a side gives, [rows, columns] or [rows, items of a history, columns].

    Raises:
        UnsupportedModel: it is neither.
    """
    axes, positions = "nw", 0
    if len(shape) == 1:
        name, axes = side.laid(name, "Unsqueeze", [1], 1), "n"
    elif len(shape) == 3 and shape[1] == 1:
        name, axes = side.laid(name, "Squeeze", [1], shape[2]), "n1w"
    elif len(shape) == 3 and not of_user and shape[2] == 1:
        name, axes = side.laid(name, "Squeeze", [2], shape[1]), "nw1"
    elif len(shape) == 3 and of_user:
        axes, positions = "ntw", shape[1]
    elif len(shape) != 2:
        raise UnsupportedModel(f"{name!r} is of shape {list(shape)}")
    pair = Pair(name, None) if of_user else Pair(None, name)
    return Laid(Form(side.width(name), (pair,), positions=positions), axes)


def turned(laid: Laid, user: SideGraph) -> Laid:
    """
    Return a tensor of the user's with columns for what was taken as items of a history.

    Which axis is which shows only where the tensor is used.

    Raises:
        UnsupportedModel: it is more than the user's tensors.
    """
    form = laid.single
    if not laid.form_is_of_user or getattr(form.constant, "size", 1) > 1:
        raise UnsupportedModel("positions and columns are mixed")
    if form.positions and form.width == 1:  # a row that stands upright, and no history
        axes = laid.axes.replace(COLUMNS, ONE).replace(POSITIONS, COLUMNS)
        names = [user.laid(y.user, "Squeeze", [2], form.positions) for y in form.pairs if y.user]
        width, positions = form.positions, 0
    elif form.positions:
        swap = {POSITIONS: COLUMNS, COLUMNS: POSITIONS}
        axes = "".join(swap.get(each, each) for each in laid.axes)
        names = [user.transposed(y.user, form.positions) for y in form.pairs if y.user]
        width, positions = form.positions, form.width
    else:
        axes = laid.axes.replace(COLUMNS, POSITIONS)
        names = [user.laid(y.user, "Unsqueeze", [2], 1) for y in form.pairs if y.user]
        width, positions = 1, form.width
    pairs = tuple(Pair(name) for name in names)
    return Laid(replace(form, width=width, positions=positions, pairs=pairs), axes)


def aligned(laids: Sequence[Laid], user: SideGraph) -> tuple[list[Laid], str]:
    """
    Return operands that are broadcast, with the axes of what they give.

    Raises:
        UnsupportedModel: axes of two kinds meet.
    """
    rank = max(len(each.axes) for each in laids)
    found, axes = list(laids), ""
    for at in range(-rank, 0):
        letters = set()
        for number, laid in enumerate(found):
            letter = laid.letter(at)
            if letter == COLUMNS and any(y.letter(at) == POSITIONS for y in found):
                found[number] = turned(laid, user)
                letter = found[number].letter(at)
            letters.add(letter)
        letters.discard(ONE)
        if len(letters) > 1:
            raise UnsupportedModel("rows and columns are mixed")
        axes += letters.pop() if letters else ONE
    return found, axes
