"""Every gRPC service of martlet, over one engine, on one port."""

from __future__ import annotations

from collections.abc import Sequence

from martlet.events import NOBODY, Sink
from martlet.servers.catalogue import Catalogue
from martlet.servers.grpc import inference, models, prediction
from martlet.servers.grpc.door import GrpcDoor, Limits, threads_for
from martlet.servers.grpc.lanes import Lanes
from martlet.servers.grpc.threads import Threads
from martlet.serving.engine import Engine
from martlet.wire.tfserving.config import Tls


def door(
    engine: Engine,
    catalogue: Catalogue,
    addresses: Sequence[str],
    limits: Limits,
    as_content: bool = False,
    tls: Tls | None = None,
    sink: Sink = NOBODY,
) -> GrpcDoor:
    """
    Return the door, not yet open.

    Args:
        engine: Whose models.
        catalogue: What there is, and who changes it.
        addresses: Each ``host:port`` or ``unix:path``.
        as_content: TensorFlow Serving's answers come in ``tensor_content``.
        sink: Hears of every answer.
    """
    threads = Threads(threads_for(), "grpc")
    lanes = Lanes(engine, threads)
    services = {
        prediction.SERVICE: prediction.PredictionService(
            engine, lanes, as_content, sink
        ).handlers(),
        models.SERVICE: models.ModelService(engine, catalogue.control).handlers(),
        inference.SERVICE: inference.InferenceService(
            engine, catalogue, lanes, threads, sink
        ).handlers(),
    }
    return GrpcDoor(services, addresses, limits, threads, tls)
