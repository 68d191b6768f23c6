"""A package is opened only as it was certified, and treats ids as its manifest says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from martlet import certificate, formats
from martlet.certificate import Certificate, Comparison, Limits
from martlet.convert.package import write_package
from martlet.convert.rewriting.rewrite import rewrite
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.package.ids import MODULO, REFUSE, WRAP, ZERO, Ids
from martlet.stores.embeddings import Embeddings

TABLE = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)


def model():
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "id"], ["vectors"]),
            helper.make_node("ReduceSum", ["vectors", "axes"], ["score"], keepdims=0),
            helper.make_node("Identity", ["clock"], ["unused"]),
        ],
        "g",
        [helper.make_tensor_value_info(n, TensorProto.INT64, ["n"]) for n in ("id", "clock")],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [
            numpy_helper.from_array(TABLE, "table"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    source = tmp_path / "original.onnx"
    source.write_bytes(model().SerializeToString())
    original = formats.load(source)
    rows = {"id": np.array([1]), "clock": np.array([0])}
    found = rewrite(model(), [rows], original)
    written = write_package(
        tmp_path / "package",
        found.model,
        original.signatures["serving_default"],
        source,
        lookups=found.lookups,
        threshold_bytes=0,
    )
    certify(written.folder, written.files)
    return written.folder


def certify(folder: Path, files, faults: tuple[str, ...] = ()) -> None:
    made = Certificate(
        step="extract",
        original=certificate.digests_of(folder / "model"),
        candidate=certificate.digests_of(folder, files),
        limits=Limits(),
        comparisons=(Comparison("random", 8, faults=faults),),
    )
    certificate.write_certificates(folder / "certificate.json", [made])


class TestOpening:
    def test_it_is_found_by_content_and_answers(self, package: Path):
        assert formats.sniff(package).name == "package"
        found = formats.load(package)
        ids = np.array([3, 29, 3])
        score = found.predict({"id": ids, "clock": ids})["score"]
        np.testing.assert_allclose(score, TABLE[ids].sum(axis=1), rtol=1e-6)
        found.close()

    def test_the_signature_is_the_originals_with_its_dead_inputs(self, package: Path):
        (signature,) = formats.load(package).signatures.values()
        assert list(signature.inputs) == ["id", "clock"]

    def test_the_table_has_left_the_graph(self, package: Path):
        assert (package / "dense.onnx").stat().st_size < TABLE.nbytes
        np.testing.assert_array_equal(Embeddings(package / "tables/id.table").vectors, TABLE)

    @pytest.mark.parametrize("name", ["dense.onnx", "tables/id.table", "martlet-package.json"])
    def test_a_file_that_changed_since_is_refused_by_name(self, package: Path, name: str):
        content = (package / name).read_bytes()
        (package / name).write_bytes(content.replace(b"score", b"scare") + b" ")
        with pytest.raises(UnsupportedModel, match=f"{name} has changed since it was certified"):
            formats.load(package)

    def test_a_package_without_a_certificate_is_refused(self, package: Path):
        (package / "certificate.json").unlink()
        with pytest.raises(UnsupportedModel, match="holds no certificates"):
            formats.load(package)

    def test_a_certificate_that_failed_is_refused_with_its_reason(self, package: Path):
        files = json.loads((package / "certificate.json").read_text())
        names = files["certificates"][0]["candidate"]
        certify(package, names, faults=("'score' is off by 0.1",))
        with pytest.raises(UnsupportedModel, match=r"off by 0\.1"):
            formats.load(package)

    @pytest.mark.parametrize("name", ["../dense.onnx", "/etc/hostname", ""])
    def test_a_file_outside_the_package_is_refused(self, package: Path, name: str):
        path = package / "martlet-package.json"
        told = json.loads(path.read_text())
        told["main"]["graph"] = name
        path.write_text(json.dumps(told))
        with pytest.raises(UnsupportedModel, match="outside"):
            formats.load(package)


class TestLiveRows:
    def test_a_row_that_is_set_is_answered_with(self, package: Path):
        found = formats.load(package)
        rows = {"id": np.array([5]), "clock": np.array([0])}
        before = found.predict(rows)["score"][0]
        table = Embeddings(package / "tables/id.table")
        table.put_many(np.array([5]), np.full((1, 4), 2.0, np.float32))
        for each in found.tables.values():
            each.look()
        assert found.predict(rows)["score"][0] == 8.0 != before


class TestIds:
    def rows(self, ids: Ids, *keys):
        known = [k - ids.first if ids.first <= k <= ids.last else -1 for k in keys]
        return ids.resolve("id", np.array(keys), np.array(known, np.int64)).tolist()

    def test_zero_is_a_row_of_zeros(self):
        assert self.rows(Ids(5, below=ZERO, above=ZERO), -1, 4, 5) == [-1, 4, -1]

    def test_wrap_counts_from_the_end(self):
        assert self.rows(Ids(5, below=WRAP), -1, -5) == [4, 0]
        with pytest.raises(InvalidInput, match="holds -6; the model takes ids from -5 to 4"):
            self.rows(Ids(5, below=WRAP), -6)

    def test_modulo_is_of_the_distance_to_the_first(self):
        assert self.rows(Ids(5, first=2, below=MODULO, above=MODULO), 1, 7, 2) == [4, 0, 0]

    def test_special_ids_go_before_their_neighbours(self):
        ids = Ids(5, special={-1: ZERO, 9: 2})
        assert self.rows(ids, -1, 9, 3) == [-1, 2, 3]
        with pytest.raises(InvalidInput, match=r"from 0 to 4 and -1 and 9"):
            self.rows(ids, -2)

    def test_a_vocabulary_knows_its_words(self):
        ids = Ids(3, vocabulary={"a": 1, "b": 2}, below=0)
        found = ids.resolve("genre", np.array(["b", "?"], object), np.array([2, -1]))
        assert found.tolist() == [2, 0]

    @given(
        st.builds(
            Ids,
            count=st.integers(1, 99),
            first=st.integers(-9, 9),
            vocabulary=st.none() | st.dictionaries(st.text(), st.integers(0, 9), min_size=1),
            below=st.sampled_from([ZERO, REFUSE, WRAP, MODULO, 0]),
            above=st.sampled_from([ZERO, REFUSE, MODULO, 0]),
            special=st.dictionaries(st.integers(), st.sampled_from([ZERO, REFUSE, 1])),
        )
    )
    def test_the_manifest_gives_back_what_it_was_given(self, ids: Ids):
        assert Ids.from_json(json.loads(json.dumps(ids.to_json()))) == ids
