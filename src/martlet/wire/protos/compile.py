"""Compile the .proto files beside this one into ``protos.desc``: run it after changing one.

Needs grpcio-tools, which nothing else here does: ``python -m martlet.wire.protos.compile``.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path


def descriptor_set(folder: Path) -> bytes:
    """Return the serialized FileDescriptorSet of every .proto file in *folder*."""
    import tempfile

    import grpc_tools
    from grpc_tools import protoc

    google = files(grpc_tools).joinpath("_proto")
    sources = sorted(each.name for each in folder.glob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.desc"
        failed = protoc.main(
            ["protoc", f"-I{folder}", f"-I{google}", f"--descriptor_set_out={out}", *sources]
        )
        if failed:
            sys.exit(failed)
        return out.read_bytes()


if __name__ == "__main__":
    here = Path(__file__).parent
    (here / "protos.desc").write_bytes(descriptor_set(here))
