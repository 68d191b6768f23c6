"""The peer: FastAPI as somebody who measures would write it. orjson in and out, no pydantic, the
model called on the loop, one thread, two uvicorn workers."""

import os

import numpy as np
import onnxruntime as ort
import orjson
from fastapi import FastAPI, Request, Response

options = ort.SessionOptions()
options.intra_op_num_threads = 1
folder = os.environ["MODELS"]
m1 = ort.InferenceSession(f"{folder}/m1.onnx", options)
half = ort.InferenceSession(f"{folder}/half.onnx", options)
FLOATS = {"dense": np.float32, "x": np.float32}
app = FastAPI()


def reply(session: ort.InferenceSession, output: str, body: bytes) -> Response:
    inputs = {k: np.array(v, FLOATS.get(k, np.int64)) for k, v in orjson.loads(body).items()}
    answer = orjson.dumps({output: session.run(None, inputs)[0]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(answer, media_type="application/json")


@app.get("/healthz")
def health() -> dict[str, bool]:
    return {"live": True}


@app.post("/m1")
async def rank(request: Request) -> Response:
    return reply(m1, "score", await request.body())


@app.post("/half")
async def half_plus_two(request: Request) -> Response:
    return reply(half, "y", await request.body())
