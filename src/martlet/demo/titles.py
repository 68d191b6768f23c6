"""Titles of films that nobody has made: an adjective, a noun and a year."""

from __future__ import annotations

_ADJECTIVES = (
    "Amber|Ancient|Autumn|Bitter|Borrowed|Broken|Burning|Careless|Clever|Cold|Crimson|"
    "Crooked|Dancing|Distant|Double|Electric|Empty|Endless|Faithful|Final|First|Floating|"
    "Forgotten|Frozen|Gentle|Golden|Hidden|Hollow|Honest|Hungry|Idle|Invisible|Iron|Last|"
    "Laughing|Little|Lonely|Lost|Lucky|Midnight|Missing|Northern|Paper|Patient|Perfect|Quiet|"
    "Red|Restless|Sacred|Salt|Scarlet|Second|Secret|Shallow|Silent|Silver|Sleeping|Stolen|"
    "Stubborn|Sudden|Tender|Velvet|Wandering|Wild"
)
_NOUNS = (
    "Alibi|Anchor|Apartment|Arrow|Balcony|Bargain|Bridge|Brother|Candle|Captain|Carnival|"
    "Castle|Circus|Clock|Compass|Country|Crossing|Daughter|Detective|Door|Echo|Empire|Engine|"
    "Evening|Falcon|Garden|Ghost|Guest|Harbour|Heart|Highway|Horizon|Hour|House|Island|"
    "Journey|Lantern|Letter|Lighthouse|Lover|Machine|Mirror|Mountain|Neighbour|Night|Ocean|"
    "Orchard|Passenger|Piano|Promise|Rider|River|Road|Season|Shadow|Sparrow|Station|Stranger|"
    "Summer|Tide|Train|Voyage|Winter|Witness"
)


def title(number: int, year: int) -> str:
    """
    Return the title of the film *number* of *year*; every number has its own.

    >>> title(0, 1994), title(4161, 2003)
    ('The Amber Alibi (1994)', 'The Ancient Apartment II (2003)')
    """
    adjectives, nouns = _ADJECTIVES.split("|"), _NOUNS.split("|")
    pairs = len(adjectives) * len(nouns)
    part, pair = divmod(number, pairs)
    # Stepping through both lists at once spreads the words; the offset makes every pair come up.
    row, offset = divmod(pair, len(nouns))
    adjective = adjectives[offset]
    noun = nouns[(offset + row) % len(nouns)]
    sequel = "" if part == 0 else f" {_roman(part + 1)}"
    return f"The {adjective} {noun}{sequel} ({year})"


def _roman(number: int) -> str:
    signs = {10: "X", 9: "IX", 5: "V", 4: "IV", 1: "I"}
    written = ""
    for value, sign in signs.items():
        times, number = divmod(number, value)
        written += sign * times
    return written
