"""martlet's own API: ``:recommend``, ``:rank``, and what there is to ask."""

from __future__ import annotations

import re
from time import perf_counter_ns

import numpy as np
import orjson

from martlet.errors import InvalidInput
from martlet.events import NOBODY, Sink
from martlet.names import ModelRef, read_version
from martlet.recommend.recommender import Ask, Recommender
from martlet.recommend.subject import Subject
from martlet.servable import DEFAULT_SIGNATURE, Servable, form_of, signature_of
from martlet.servers.recommending import Recommending
from martlet.servers.routes import Handler, Request, Response, Route
from martlet.servers.shortcut import NONE, Form, Layout, Reading, Reply, Shortcuts
from martlet.servers.timed import Answer, Timed
from martlet.serving.engine import Engine, score
from martlet.serving.traffic import Variant
from martlet.tensors import Tensor, Tensors
from martlet.wire import recommendations as wire
from martlet.wire.document import Document, parse
from martlet.wire.rows import RowPlan

_WHICH = r"(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"


class Recommendations:
    """
    The recommender's paths, over one engine.

    Args:
        engine: Has the recommenders and models.
        sink: Is told of every ranking that a client asked of a model.
        timeout_s: An answer that takes longer becomes 504.
        shortcuts: Gets the paths whose rankings have a common form.
    """

    def __init__(
        self,
        engine: Engine,
        sink: Sink = NOBODY,
        timeout_s: float = 30.0,
        shortcuts: Shortcuts = NONE,
    ) -> None:
        self._engine = engine
        self._timed = Timed(engine, sink, timeout_s, shortcuts)
        self._recommending = Recommending(engine, timeout_s)
        self.routes = [
            Route("POST", re.compile(f"/v1/recommenders/{_WHICH}:recommend"), self._recommend),
            Route("POST", re.compile(f"/v1/models/{_WHICH}:rank"), self._rank),
            Route("GET", re.compile("/v1/recommenders"), lambda: self._list),
        ]

    def unmatched(self, request: Request) -> None:
        """Leave other paths to other dialects."""

    def _list(self, _: Request) -> Response:
        recommenders = self._engine.table.recommenders.values()
        return Response(
            200, orjson.dumps({"recommenders": [m.name for m in recommenders if m.variants]})
        )

    def _recommend(
        self, name: str, version: str | None = None, label: str | None = None
    ) -> Handler:
        ref = _instance_ref(name, version, label)

        def call(request: Request, apart: bool) -> Response:
            document = parse(request.body)
            variant = self._acquire(ref)
            try:
                recommender = _recommender(variant)
                unit = recommender.declared.unit
                asked = wire.recommend_request(document, unit)
                slate = recommender.recommend(
                    Ask(asked.unit, asked.size, asked.context, asked.history, asked.exclude), apart
                )
            finally:
                variant.release()
            about = {
                "answered_by": slate.step,
                "versions": slate.versions,
                "generation": slate.generation,
                **({"relaxed": slate.relaxed} if slate.relaxed else {}),
            }
            columns = {"item": slate.items, "score": slate.scores, **slate.features}
            return Response(
                200,
                wire.slate_reply(ref.name, (unit, asked.unit), columns, slate.sources, about),
            )

        return self._recommending.handler(call, ref)

    def _rank(self, name: str, version: str | None = None, label: str | None = None) -> Handler:
        ref = _ref(name, version, label)

        def call(request: Request) -> Answer:
            document = parse(request.body)
            if wire.is_joined(document):
                return self._rank_joined(ref, document)
            variant = self._engine.acquire(ref)
            try:
                signature_name = wire.text_of(document, "signature_name", DEFAULT_SIGNATURE)
                signature_of(variant.servable, signature_name)
                called = form_of(variant.servable, signature_name, wire.names_of(document))
                inputs = wire.rank_inputs(document, variant.servable.signatures[called])
                started = perf_counter_ns()
                found = score(variant, inputs, called)
                model_ns = perf_counter_ns() - started
            finally:
                variant.release()
            output = wire.text_of(document, "output", next(iter(found.outputs)))
            if output not in found.outputs:
                known = ", ".join(map(repr, found.outputs))
                raise InvalidInput(f"the model has no output {output!r}; its outputs are {known}")
            scores = _flat(found.outputs[output])
            reply = wire.scores_reply(found.name, found.version, scores)
            return Response(200, reply), found.version, len(scores), model_ns

        return self._timed.handler(call, "rank", ref, _form)

    def _rank_joined(self, ref: ModelRef, document: Document) -> Answer:
        variant = self._acquire(ModelRef.parse(wire.recommender_name(document)))
        try:
            recommender = _recommender(variant)
            asked = wire.joined_rank_request(document, recommender.declared.unit)
            subject = Subject(asked.unit, asked.context, asked.history)
            started = perf_counter_ns()
            scores, version = recommender.rank(ref, subject, asked.items)
            model_ns = perf_counter_ns() - started
        finally:
            variant.release()
        reply = wire.scores_reply(ref.name, version, np.ascontiguousarray(scores))
        return Response(200, reply), version, len(scores), model_ns

    def _acquire(self, ref: ModelRef) -> Variant[object]:
        return self._engine.acquire_recommender(ref)


def _recommender(variant: Variant[object]) -> Recommender:
    found = variant.servable
    assert isinstance(found, Recommender), "the manager opens recommenders under this kind"
    return found


def _form(variant: Variant[Servable]) -> Form | None:
    """Return how the common rankings by *variant* are read and written; None: there are none."""
    name, version = variant.name, variant.version
    signature = variant.servable.signatures.get(DEFAULT_SIGNATURE)
    plan = None if signature is None or signature.also else RowPlan.compile(signature)
    if plan is None:
        return None

    def write(outputs: Tensors, _: Reading) -> Response:
        scores = _flat(next(iter(outputs.values())))
        return Response(200, wire.scores_reply(name, version, scores))

    reply = Reply(wire.scores_begin(name, version), None, b"", b"}", Layout.COLUMN)
    return Form(DEFAULT_SIGNATURE, plan.decode_rank, (reply, reply), write)


def _flat(scores: Tensor) -> Tensor:
    return scores[:, 0] if scores.ndim == 2 and scores.shape[1] == 1 else scores


def _ref(name: str, version: str | None, label: str | None) -> ModelRef:
    return ModelRef(name, None if version is None else read_version(version), label)


def _instance_ref(name: str, version: str | None, label: str | None) -> ModelRef:
    # A version of a recommender is opened anew when its tables change: its number in the
    # registry is a label of what answers for it.
    return ModelRef(name, label=label if version is None else str(read_version(version)))
