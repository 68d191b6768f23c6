"""The protobuf messages of the protocols, in a descriptor pool of martlet's own.

TensorFlow, its serving stubs, tritonclient and kserve each bring messages of the same names in
Python's default pool, where a name may be registered once: ours must not be there too.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    message_factory,
    wrappers_pb2,
)
from google.protobuf.descriptor_pool import DescriptorPool


@cache
def pool() -> DescriptorPool:
    """Return the pool that holds every message and service of the .proto files beside this."""
    found = DescriptorPool()
    for known in (any_pb2, duration_pb2, wrappers_pb2):
        found.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    compiled = files(__name__).joinpath("protos.desc").read_bytes()
    for file in _in_order(descriptor_pb2.FileDescriptorSet.FromString(compiled).file):
        found.AddSerializedFile(file.SerializeToString())
    return found


def _in_order(given: Any) -> list[Any]:
    """Files after the files that they import: a pool takes them in no other order."""
    waiting, done = {file.name: file for file in given}, []
    while waiting:
        ready = [f for f in waiting.values() if not any(d in waiting for d in f.dependency)]
        for file in ready:
            done.append(waiting.pop(file.name))
    return done


def message(name: str) -> Any:
    """Return the class of the message called *name*, as ``tensorflow.TensorProto``."""
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(name))
