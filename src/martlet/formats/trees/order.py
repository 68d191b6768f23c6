"""The order in which a forest keeps the nodes of its trees: parents before their children.

Nodes are entries, told by three numbers each: what they are, and where they lead.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel

LEAF, ALIAS, OPEN = -1, -2, -3
"""What an entry is that tests no feature: an answer; another entry's stand-in; not made yet."""

Kinds = NDArray[np.int32]
"""The feature that each entry tests, or one of the above. Shape [entries]."""
Children = NDArray[np.int64]
"""Where each entry leads; of an alias the first is what it stands for. Shape [entries, 3]."""


def stands_for(kind: Kinds, children: Children) -> NDArray[np.int64]:
    """
    Return the entry that each entry stands for: itself, unless it is an alias. Shape [entries].

    Raises:
        UnsupportedModel: an alias leads back to itself.
    """
    found = np.where(kind == ALIAS, children[:, 0], np.arange(len(kind)))
    if not (kind == ALIAS).any():
        return found
    for _ in range(len(kind).bit_length() + 1):
        found = found[found]  # path doubling
    if (kind[found] == ALIAS).any():
        raise UnsupportedModel("a tree node leads back to itself")
    return found


def parents_first(kind: Kinds, children: Children, roots: NDArray[np.int64]) -> NDArray[np.int64]:
    """
    Return the entries that test a feature and can be reached from *roots*, parents first.

    Raises:
        UnsupportedModel: one leads back to itself, or to what was never made.
    """
    seen = np.zeros(len(kind), bool)
    frontier = np.unique(roots)
    while frontier.size:
        seen[frontier] = True
        below = np.unique(children[frontier[kind[frontier] >= 0]])
        frontier = below[~seen[below]]
    if (kind[seen] == OPEN).any():
        raise UnsupportedModel("a tree node was reserved and never made")
    inner = np.flatnonzero(seen & (kind >= 0))
    after = children[inner]
    of_inner = kind[after] >= 0
    parent = inner[:, np.newaxis]
    # Most readers make them in one order or the other.
    if not (of_inner & (after <= parent)).any():
        return inner
    if not (of_inner & (after >= parent)).any():
        return inner[::-1]
    return _sorted(kind.tolist(), children.tolist(), np.unique(roots).tolist())


def _sorted(kind: list[int], children: list[list[int]], roots: list[int]) -> NDArray[np.int64]:
    """Sort topologically: depth first, each entry after all that it leads to, then reversed."""
    entered, left = bytearray(len(kind)), bytearray(len(kind))
    order: list[int] = []
    stack = list(roots)
    while stack:
        entry = stack[-1]
        if left[entry] or kind[entry] < 0:
            stack.pop()
        elif entered[entry]:
            stack.pop()
            left[entry] = 1
            order.append(entry)
        else:
            entered[entry] = 1
            for child in children[entry]:
                if kind[child] >= 0 and not left[child]:
                    if entered[child]:
                        raise UnsupportedModel("a tree node leads back to itself")
                    stack.append(child)
    return np.array(order[::-1], np.int64)
