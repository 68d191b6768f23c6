"""The files of martlet that one predict enters: how much of it a reader must know.

    make walk                        # or: python benchmarks/walk.py

A predict over HTTP, as clients send it, by the worker's own parts: its bytes are handed to the
connection, and every function that is entered until the answer is written is noted by its file. A
compiled part counts as its C file and the headers that it includes.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import martlet
from martlet import native

SOURCE = Path(martlet.__file__).parent
WARM_UPS = 20


class Wire(asyncio.Transport):
    """Keeps the last that was written."""

    sent = b""

    def write(self, data: Any) -> None:
        """Keep it."""
        self.sent = data

    def is_closing(self) -> bool:
        """Never."""
        return False

    def resume_reading(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Know of nothing."""
        return default


class Noted:
    """The files that were entered, in the order in which they were first."""

    def __init__(self) -> None:
        self.files: dict[str, None] = {}

    def frame(self, frame: Any, event: str, _: object) -> None:
        """Note an event of sys.setprofile."""
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SOURCE):
            self.files[path.relative_to(SOURCE).as_posix()] = None

    def part(self, name: str) -> None:
        """Note a compiled part, and the headers that it is made of."""
        source = SOURCE / "native" / f"{name}.c"
        for each in (source.name, *re.findall(r'#include "(.*)"', source.read_text())):
            self.files[f"native/{each}"] = None


class Watched:
    """A compiled module, or an object of one, whose calls are noted."""

    def __init__(self, name: str, within: Any, noted: Noted) -> None:
        self._about = name, within, noted

    def __getattr__(self, attribute: str) -> Any:
        """Return a function, or a type, that notes that it is called."""
        name, within, noted = self._about
        wanted = getattr(within, attribute)

        def called(*arguments: Any) -> Any:
            noted.part(name)
            found = wanted(*arguments)
            made_there = type(found).__module__.startswith("martlet.native")
            return Watched(name, found, noted) if made_there else found

        return called


def watch(noted: Noted) -> None:
    """Have every compiled part noted that is asked for from now on."""
    find = native.find

    def watched(name: str) -> Any:
        found = find(name)
        return None if found is None else Watched(name, found, noted)

    native.find = watched


async def files_of(model: Path, body: bytes, fields: str, noted: Noted) -> list[str]:
    """Return the files that a predict of *model* with *body* enters, once the path is warm."""
    from martlet import formats
    from martlet.monitor.counts import Counts
    from martlet.servers import offload, timed
    from martlet.servers.connection import Connection
    from martlet.servers.http import HttpServer
    from martlet.servers.rest_tfserving import TFServing
    from martlet.servers.routes import Router
    from martlet.servers.shortcut import Shortcuts
    from martlet.serving.engine import Engine
    from martlet.serving.traffic import Model, Table, Variant

    # A machine that stalls must not make the model one that is slow.
    timed.SLOW_NS = offload.SLOW_NS = 10**12
    engine = Engine()
    engine.publish(Table({"m": Model("m", {1: Variant("m", 1, formats.load(model))})}))
    router, shortcuts = Router(), Shortcuts()
    router.mount(TFServing(engine, Counts(), shortcuts=shortcuts))
    server = HttpServer(router, "", 0, shortcuts=shortcuts)
    server.loop = asyncio.get_running_loop()
    head = f"POST /v1/models/m:predict HTTP/1.1\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    request = head.encode() + body
    for _ in range(WARM_UPS):
        connection, wire = Connection(server), Wire()
        connection.connection_made(wire)
        noted.files.clear()
        sys.setprofile(noted.frame)
        connection.data_received(request)
        sys.setprofile(None)
        while not wire.sent:
            await asyncio.sleep(0.001)
        assert wire.sent.startswith(b"HTTP/1.1 200 "), wire.sent
    return list(noted.files)


WAYS = {"common": "", "long": "Connection: close\r\n"}
"""What the head says besides: the common predict, and one that goes the long way."""


def main() -> None:
    """Print the files of W2's predict, the common and the long way, as JSON."""
    noted = Noted()
    watch(noted)
    from workloads import make

    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        _, w2 = make(Path(scratch))
        for way, fields in WAYS.items():
            found[way] = asyncio.run(files_of(w2.model, w2.bodies["rows"], fields, noted))
    print(json.dumps({way: {"count": len(each), "files": each} for way, each in found.items()}))


if __name__ == "__main__":
    main()
