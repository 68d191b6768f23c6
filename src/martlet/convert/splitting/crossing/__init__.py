"""The cross part of a split graph, recognised as `formats.package.cross.Cross` where it is one.

The main graph is read as algebra over the two sides' tensors: sums of the user's and the item's,
products of one of each, a first activation on such a sum, and layers above it; and attention, the
same over the items of a user's history. Whatever is of one side alone moves into that side's graph.
What does not fit is left to onnxruntime, with the reason.
"""

from __future__ import annotations

import numpy as np

from martlet.convert.rewriting.graph import answer, session
from martlet.convert.splitting.crossing.reader import Reader, fed
from martlet.convert.splitting.crossing.shares import SHARES, Crossing
from martlet.convert.splitting.split import Split
from martlet.errors import UnsupportedModel
from martlet.tensors import Tensors

__all__ = ["SHARES", "Crossing", "crossing"]

_TOLERANCE = 1e-4


def crossing(found: Split, rows: Tensors) -> Crossing:
    """
    Return *found* with its main part as a `Cross`.

    Args:
        rows: At least four rows that the model answers; both forms are tried on them.

    Raises:
        UnsupportedModel: it is none; the text says what does not fit.
    """
    if found.user is None or found.item is None:
        raise UnsupportedModel("one side has no part of its own")
    if len(found.main.graph.output) != 1:
        raise UnsupportedModel("it has several outputs")
    try:
        made = Reader(found, rows).read()
    except ValueError as exc:  # numpy's, of shapes that do not go together, and the part's own
        raise UnsupportedModel(str(exc)) from exc
    _check(found, made, rows)
    return made


def _check(found: Split, made: Crossing, rows: Tensors) -> None:
    wanted = answer(session(found.main), fed(found, rows))
    users, items = (answer(session(each.model), rows) for each in (made.user, made.item))
    if wanted is None or users is None or items is None:
        raise UnsupportedModel("the parts do not answer the probes")
    cross, (share, *histories) = made.cross, users
    widths = [each.shape[-1] for each in users]
    if tuple(widths) != cross.user_widths or items[0].shape[1] != cross.item_width:
        raise UnsupportedModel("the sides' shares are not what the layers take")
    numbers = np.arange(len(share))
    scores = cross.score(share, items[0], numbers, numbers, histories)
    if not np.allclose(
        scores.reshape(wanted[0].shape), wanted[0], _TOLERANCE, 1e-6, equal_nan=True
    ):
        raise UnsupportedModel("read as sums and layers it answers otherwise")
