"""Prometheus' text, under the names that TensorFlow Serving's dashboards read.

Source: tensorflow_serving/util/prometheus_exporter.cc and servables/tensorflow/util.cc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from martlet.monitor.counts import BOUNDS_US, Histogram, Totals
from martlet.servers.routes import Request, Response, Route

_PREFIX = ":tensorflow:serving:"
_TEXT = b"text/plain; version=0.0.4"


class Metrics:
    """
    The path that Prometheus reads.

    Args:
        more: Each gives lines of its own.
    """

    def __init__(
        self,
        totals: Callable[[], Totals],
        path: str,
        more: Sequence[Callable[[], Iterable[str]]] = (),
    ) -> None:
        self._totals = totals
        self._more = more
        self.routes = [Route("GET", re.compile(re.escape(path)), lambda: self._read)]

    def unmatched(self, request: Request) -> None:
        """Leave other paths to other dialects."""

    def _read(self, request: Request) -> Response:
        more = "".join(f"{line}\n" for each in self._more for line in each())
        return Response(200, (text(self._totals()) + more).encode(), _TEXT)


def text(counts: Totals) -> str:
    """Return *counts* in Prometheus' text format."""
    return "\n".join([*_lines(counts), ""])


def _lines(counts: Totals) -> Iterator[str]:
    name = f"{_PREFIX}request_count"
    yield f"# TYPE {name} counter"
    for (model, status), count in sorted(counts.requests.items()):
        yield f'{name}{{model_name="{_quoted(model)}",status="{status}"}} {count}'
    name = f"{_PREFIX}request_example_count_total"
    yield f"# TYPE {name} counter"
    for model, rows in sorted(counts.rows.items()):
        yield f'{name}{{model="{_quoted(model)}"}} {rows}'
    name = f"{_PREFIX}request_latency"
    yield f"# TYPE {name} histogram"
    for (model, api, door), times in sorted(counts.latency.items()):
        labels = f'model_name="{_quoted(model)}",API="{api}",entrypoint="{door}"'
        yield from _histogram(name, labels, times)
    name = f"{_PREFIX}runtime_latency"
    yield f"# TYPE {name} histogram"
    for (model, api), times in sorted(counts.runtime.items()):
        labels = f'model_name="{_quoted(model)}",API="{api}",runtime="TF1"'
        yield from _histogram(name, labels, times)


def _histogram(name: str, labels: str, times: Histogram) -> Iterator[str]:
    total = 0
    bounds = [f"{bound:g}" for bound in BOUNDS_US] + ["+Inf"]
    for bound, count in zip(bounds, times.buckets, strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
    yield f"{name}_sum{{{labels}}} {times.total:g}"
    yield f"{name}_count{{{labels}}} {times.count}"


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
