"""What a client of HTTP may ask of one connection."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one connection may ask of us.

    Args:
        body_bytes: Of one request's body, chunked framing undone. More is 413.
        header_bytes: Request line and headers together. More is 431.
        idle_s: A connection with no request under way is closed after this.
        request_s: A request must have arrived whole after this, however slowly it drips.
    """

    body_bytes: int = 64 << 20
    header_bytes: int = 64 << 10
    idle_s: float = 75.0
    request_s: float = 60.0
