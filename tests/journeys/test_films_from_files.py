"""A recommender served from files, with no registry: by HTTP and by the commands that ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import Server, martlet, serving

BAD = {
    "malformed JSON": ("/v1/recommenders/films:recommend", b"{", 400),
    "JSON that is no object": ("/v1/recommenders/films:recommend", b"[]", 400),
    "a wrong name": ("/v1/recommenders/films:recommend", {"usr": 1}, 400),
    "a wrong type": ("/v1/recommenders/films:recommend", {"user": [1]}, 400),
    "a user of another kind": ("/v1/recommenders/films:recommend", {"user": "anna"}, 400),
    "a size beyond the limit": ("/v1/recommenders/films:recommend", {"size": 1000}, 400),
    "an unknown recommender": ("/v1/recommenders/songs:recommend", {"user": 1}, 404),
    "an unknown model": ("/v1/models/none:predict", {"instances": [1]}, 404),
    "an unknown user": (
        "/v1/models/ranker:rank",
        {"recommender": "films", "user": 10**9, "items": [1]},
        404,
    ),
    "an unknown input": ("/v1/models/light:rank", {"items": {"x": [1.0]}}, 400),
    "a wrong shape": ("/v1/models/light:rank", {"items": {"item": [[1.0]]}}, 400),
    "a wrong type in a row": ("/v1/models/light:predict", {"instances": ["a"]}, 400),
    "a version of thousands of digits": (f"/v1/models/light/versions/{'9' * 5000}:rank",
                                         {"items": {"item": [[1.0]]}}, 400),
    "a body over the limit": ("/v1/models/light:predict", b" " * 100_001, 413),
    "an unknown path": ("/v3/nothing", {"a": 1}, 404),
}  # fmt: skip


class TestFiles:
    """Serving files, with no registry."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, demo: Path) -> Iterator[Server]:
        files = demo / "files"
        declaration = files / "by_files.toml"
        text = (files / "films.toml").read_text()
        suffixes = {path.stem: path.name for path in files.iterdir() if path.suffix != ".toml"}
        head, tables = text.split("[tables]\n")
        tables = (
            re.sub(
                r'^(\w+ *= *)"(\w+)"',
                lambda m: f'{m.group(1)}"{suffixes[m.group(2)]}"',
                tables.split("[[candidates]]")[0],
                flags=re.MULTILINE,
            )
            + tables[tables.index("[[candidates]]") :]
        )
        declaration.write_text(f"{head}[tables]\n{tables}")
        words = ("--model", f"ranker={files / 'ranker/model.txt'}")
        words += ("--model", f"light={files / 'light/light.npz'}")
        with serving(*words, "--recommender", f"films={declaration}",
                     "--max-body-bytes", 100_000) as found:  # fmt: skip
            yield found

    def test_what_is_served_scores_as_the_stored_lists_do(self, server: Server, demo: Path):
        lists = json.loads((demo / "files" / "lists.json").read_text())
        for user in list(lists)[:20]:
            status, reply = server.ask(
                "/v1/recommenders/films:recommend", {"user": int(user), "size": 50}
            )
            assert status == 200 and reply["answered_by"] == "ranker"
            stored = dict(lists[user])
            got = {each["item"]: each["score"] for each in reply["items"]}
            both = stored.keys() & got.keys()
            assert len(both) >= 40
            assert max(abs(stored[i] - got[i]) for i in both) <= 1e-6

    def test_a_ranking_by_keys_is_a_ranking_by_values(self, server: Server):
        _, reply = server.ask("/v1/recommenders/films:recommend", {"user": 1, "size": 5})
        assert reply["versions"]["films"] == 1
        items = [each["item"] for each in reply["items"]]
        status, ranked = server.ask(
            "/v1/models/ranker:rank", {"recommender": "films", "user": 1, "items": items}
        )
        assert status == 200
        assert ranked["scores"] == pytest.approx([each["score"] for each in reply["items"]])

    def test_context_is_shared_by_every_row(self, server: Server):
        _, meta = server.ask("/v1/models/light/metadata")
        inputs = meta["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
        dim = int(inputs["user"]["tensor_shape"]["dim"][1]["size"])
        items = [[0.01 * (row + column) for column in range(dim)] for row in range(7)]
        user = [0.1] * dim
        _, ranked = server.ask(
            "/v1/models/light:rank", {"context": {"user": user}, "items": {"item": items}}
        )
        rows = [{"user": user, "item": item} for item in items]
        _, predicted = server.ask("/v1/models/light:predict", {"instances": rows})
        assert ranked["scores"] == pytest.approx(predicted["predictions"], abs=1e-7)

    @pytest.mark.parametrize(("path", "body", "status"), BAD.values(), ids=BAD.keys())
    def test_bad_input_is_told_and_the_next_request_is_answered(
        self, server: Server, path: str, body: object, status: int
    ):
        found, answer = server.ask(path, body)
        assert found == status
        assert len(answer["error"]) > 10
        assert server.ask("/v1/recommenders/films:recommend", {"user": 1})[0] == 200

    def test_the_commands_ask_it(self, server: Server):
        to = ("--server", server.url)
        reply = json.loads(martlet("recommend", "films", "--user", 1, "--size", 4, "--json", *to))
        assert (reply["user"], len(reply["items"])) == (1, 4)
        shown = martlet("recommend", "films", "--user", 1, "--size", 4, *to)
        assert all(each["title"] in shown for each in reply["items"])
        assert "answered by ranker" in shown
        items = [each["item"] for each in reply["items"]]
        body = json.dumps({"recommender": "films", "user": 1, "items": items})
        ranked = json.loads(martlet("rank", "ranker", "-", "--json", *to, stdin=body))
        assert ranked["scores"] == pytest.approx([each["score"] for each in reply["items"]])
        assert f"{ranked['scores'][0]:.6g}" in martlet("rank", "ranker", body, *to)
        assert "no recommender 'songs'" in martlet("recommend", "songs", *to, code=3)
        assert "is not JSON" in martlet("rank", "ranker", "{", *to, code=2)
        assert "no server answers at" in martlet("recommend", "films", "--server",
                                                 "http://127.0.0.1:1", code=6)  # fmt: skip
