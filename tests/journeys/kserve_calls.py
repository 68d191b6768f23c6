"""What the kserve client is asked to do. Run by kserve's own Python: it pins what we do not.

Prints one JSON object; ``test_kserve.py`` reads it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np

# kserve is imported in the functions: pytest looks into this file for examples.
ROWS = np.array([[1, 2], [3, 4], [5, 6.5]], np.float32)


def request(binary: bool) -> Any:
    from kserve.protocol.infer_type import InferInput, InferRequest

    given = InferInput("x", list(ROWS.shape), "FP32")
    given.set_data_from_numpy(ROWS, binary_data=binary)
    return InferRequest(model_name="sums", infer_inputs=[given], request_id="7")


def values(found: Any) -> Any:
    return [float(each) for each in found.outputs[0].as_numpy()]


async def main(rest: str, grpc: str) -> dict[str, Any]:
    from kserve import InferenceGRPCClient, InferenceRESTClient, RESTConfig

    said: dict[str, Any] = {}
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    url = f"http://{rest}"
    said["rest_live"] = await client.is_server_live(url)
    said["rest_ready"] = await client.is_server_ready(url)
    said["rest_model_ready"] = await client.is_model_ready(url, "sums")
    for name, binary in (("rest_json", False), ("rest_binary", True)):
        said[name] = values(await client.infer(url, request(binary), model_name="sums"))
    try:
        await client.infer(url, request(False), model_name="nobody")
    except Exception as exc:
        said["rest_unknown"] = f"{type(exc).__name__}: {exc}"
    over_grpc = InferenceGRPCClient(grpc)
    said["grpc_live"] = await over_grpc.is_server_live()
    said["grpc_ready"] = await over_grpc.is_server_ready()
    said["grpc_model_ready"] = await over_grpc.is_model_ready("sums")
    for name, binary in (("grpc_typed", False), ("grpc_raw", True)):
        said[name] = values(await over_grpc.infer(request(binary)))
    await over_grpc.close()
    return said


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(*sys.argv[1:]))))
