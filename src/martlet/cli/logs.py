"""The log: lines for people, or one JSON object a line for machines; each names its request."""

from __future__ import annotations

import json
import logging
import time

from martlet.servers.identity import current


def configure(level: str, form: str) -> None:
    """Log to stderr from *level* on, as ``text`` or ``json``."""
    handler = logging.StreamHandler()
    handler.addFilter(_name_request)
    handler.setFormatter(
        JsonFormatter()
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s%(of_request)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _name_request(record: logging.LogRecord) -> bool:
    name = current.get().decode()
    record.request_id = name
    record.of_request = f" [request {name}]" if name else ""
    return True


class JsonFormatter(logging.Formatter):
    """
    One object a line: time (UTC), level, logger, message; request and error where there are, and
    what a record tells as ``facts``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return *record* as JSON."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "time": f"{at}.{record.msecs:03.0f}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
            **getattr(record, "facts", {}),
        }
        name = getattr(record, "request_id", "")
        if name:
            told["request_id"] = name
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)
