"""One model in the layouts of Spark 2.0 to 4.0 answers alike; the numbers are of its formula."""

from __future__ import annotations

import gzip
import math
import shutil
import tarfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spark_files import LAYOUTS, Layout, matrix, uid, vector, write_pipeline, write_stage

import martlet
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.spark import packed

pa = pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")

ROWS = np.array([[1.0, 2.0], [-3.0, 0.5], [0.0, 0.0]])
CLASSIFIER = {
    "featuresCol": "features", "predictionCol": "prediction",
    "probabilityCol": "probability", "rawPredictionCol": "rawPrediction",
}  # fmt: skip


@pytest.fixture(params=LAYOUTS, ids=str)
def layout(request: pytest.FixtureRequest) -> Layout:
    return LAYOUTS[request.param]


def answers(path: Path, rows: Any = ROWS, name: str = "features") -> dict[str, np.ndarray]:
    with martlet.load(path) as model:
        return model.predict({name: rows}, "columns")


def before(layout: Layout, version: str) -> bool:
    return tuple(map(int, layout.version.split(".")[:2])) < tuple(map(int, version.split(".")))


class TestLogisticRegression:
    def write(self, folder: Path, layout: Layout, **params: Any) -> Path:
        weights, intercept = [0.5, -1.0], 0.25
        if before(layout, "2.1"):
            row = {"numClasses": 2, "numFeatures": 2, "intercept": intercept,
                   "coefficients": vector(weights)}  # fmt: skip
        else:
            row = {"numClasses": 2, "numFeatures": 2, "interceptVector": vector([intercept]),
                   "coefficientMatrix": matrix([weights], transposed=True),
                   "isMultinomial": False}  # fmt: skip
        return write_stage(
            folder, "classification.LogisticRegressionModel", params, [row],
            defaults={**CLASSIFIER, "threshold": 0.5}, layout=layout,
        )  # fmt: skip

    def test_scores_alike(self, tmp_path: Path, layout: Layout) -> None:
        found = answers(self.write(tmp_path / "m", layout))
        margin = ROWS @ [0.5, -1.0] + 0.25
        np.testing.assert_allclose(found["probability"][:, 1], 1 / (1 + np.exp(-margin)))
        np.testing.assert_array_equal(found["prediction"], margin > 0)

    def test_thresholds_that_were_set_go_before_the_threshold_by_default(
        self, tmp_path: Path, layout: Layout
    ) -> None:
        found = answers(self.write(tmp_path / "m", layout, thresholds=[0.9, 0.1]))
        # 1 / (1 + 0.9 / 0.1)
        np.testing.assert_array_equal(found["prediction"], found["probability"][:, 1] > 0.1)

    def test_a_probability_of_0_is_not_above_a_threshold_of_0(
        self, tmp_path: Path, layout: Layout
    ) -> None:
        names = {"rawPredictionCol": "", "probabilityCol": ""}
        path = self.write(tmp_path / "m", layout, threshold=0.0, **names)
        found = answers(path, np.array([[0.0, 700.0], [0.0, 800.0]]))
        np.testing.assert_array_equal(found["prediction"], [1.0, 0.0])


class TestStringIndexer:
    def test_labels_stand_in_one_list_or_in_one_a_column(
        self, tmp_path: Path, layout: Layout
    ) -> None:
        row: dict[str, Any] = {"labels": ["b", "", "łódź"]}
        if not before(layout, "3.0"):
            row = {"labelsArray": [row["labels"]]}
        write_stage(
            tmp_path / "m", "feature.StringIndexerModel", {"inputCol": "c", "outputCol": "i"},
            [row], defaults={"handleInvalid": "error"}, layout=layout,
        )  # fmt: skip
        assert answers(tmp_path / "m", ["łódź", "b", ""], "c")["i"].tolist() == [2.0, 0.0, 1.0]
        with pytest.raises(InvalidInput, match="not seen"):
            answers(tmp_path / "m", ["x"], "c")


class TestOneHotEncoder:
    def test_is_a_model_or_a_transformer_that_asks_its_indexer(
        self, tmp_path: Path, layout: Layout
    ) -> None:
        old = before(layout, "2.3")
        kind = "feature.OneHotEncoder" if old else "feature.OneHotEncoderModel"
        index = "feature.StringIndexerModel"
        first, second = write_pipeline(tmp_path / "m", [uid(index), uid(kind)], layout)
        labels = ["a", "b", "c"]
        write_stage(
            first, index, {"inputCol": "c", "outputCol": "i", "handleInvalid": "keep"},
            [{"labels": labels} if before(layout, "3.0") else {"labelsArray": [labels]}],
            layout=layout,
        )  # fmt: skip
        columns = {"inputCol": "i", "outputCol": "v"} if old else {
            "inputCols": ["i"], "outputCols": ["v"], "handleInvalid": "error"}  # fmt: skip
        write_stage(
            second, kind, {**columns, "dropLast": True}, None if old else [{"categorySizes": [4]}],
            layout=layout,
        )  # fmt: skip
        found = answers(tmp_path / "m", ["c", "unseen", "a"], "c")["v"]
        np.testing.assert_array_equal(found, [[0, 0, 1], [0, 0, 0], [1, 0, 0]])


class TestPerceptron:
    def test_layers_stand_beside_the_weights_or_among_the_parameters(
        self, tmp_path: Path, layout: Layout
    ) -> None:
        rng = np.random.default_rng(3)
        first, bias, last, end = (rng.normal(size=s) for s in [(2, 3), 3, (3, 2), 2])
        # Each layer's matrix by columns, then its biases.
        weights = np.concatenate([first.ravel(), bias, last.ravel(), end])
        layers = [2, 3, 2]
        old = before(layout, "3.0")
        row = (
            {"layers": layers, "weights": vector(weights)} if old else {"weights": vector(weights)}
        )
        write_stage(
            tmp_path / "m", "classification.MultilayerPerceptronClassificationModel",
            {} if old else {"layers": layers}, [row], defaults=CLASSIFIER, layout=layout,
        )  # fmt: skip
        hidden = 1 / (1 + np.exp(-(ROWS @ first + bias)))
        scores = hidden @ last + end
        found = answers(tmp_path / "m")
        np.testing.assert_allclose(found["rawPrediction"], scores, rtol=1e-12)
        np.testing.assert_array_equal(found["prediction"], scores.argmax(axis=1))


def tree_row(
    number: int, left: int, right: int, value: float, limit: float = 0.0
) -> dict[str, Any]:
    return {
        "id": number, "prediction": value, "impurity": 0.5, "impurityStats": [1.0, value, 0.0],
        "gain": -1.0 if left < 0 else 0.1, "leftChild": left, "rightChild": right,
        "split": {"featureIndex": -1 if left < 0 else 0, "leftCategoriesOrThreshold":
                  [] if left < 0 else [limit], "numCategories": -1},
    }  # fmt: skip


class TestBoostedTrees:
    def test_rows_of_all_trees_in_any_order_and_in_several_parts(
        self, tmp_path: Path, layout: Layout
    ) -> None:
        trees = [
            [tree_row(0, 1, 2, 9.0, limit), tree_row(1, -1, -1, -value), tree_row(2, -1, -1, value)]
            for limit, value in [(0.0, 2.0), (-1.0, 5.0)]
        ]
        extra = {} if before(layout, "3.0") else {"rawCount": 3}
        rows = [
            {"treeID": i, "nodeData": {**node, **extra}}
            for i, tree in enumerate(trees)
            for node in tree
        ]
        metadata = [{"treeID": i, "metadata": "{}", "weights": w} for i, w in enumerate([1.0, 0.1])]
        write_stage(
            tmp_path / "m", "regression.GBTRegressionModel", {}, rows[::-1],
            extra={"numFeatures": 2, "numTrees": 2}, tables={"treesMetadata": metadata[::-1]},
            defaults={"featuresCol": "features", "predictionCol": "prediction"}, layout=layout,
        )  # fmt: skip
        found = answers(tmp_path / "m")["prediction"]
        x = ROWS[:, 0]
        np.testing.assert_allclose(found, np.where(x <= 0, -2, 2) + 0.1 * np.where(x <= -1, -5, 5))


class TestWord2Vec:
    def test_has_a_row_a_word_or_two_long_lists(self, tmp_path: Path, layout: Layout) -> None:
        words = {"a": [1.0, 2.0], "b": [3.0, -4.0], "c": [0.5, 0.5]}
        rows: Any = [{"word": word, "vector": each} for word, each in words.items()]
        if before(layout, "2.1"):
            index = pa.array(
                [[*zip(words, range(3), strict=True)]], pa.map_(pa.string(), pa.int32())
            )
            flat = pa.array([[v for each in words.values() for v in each]])
            rows = pa.table({"wordIndex": index, "wordVectors": flat})
        write_stage(
            tmp_path / "m", "feature.Word2VecModel", {"inputCol": "w", "outputCol": "v"}, rows,
            layout=layout,
        )  # fmt: skip
        given = np.array([["a", "b", "nobody"], ["c", None, None]], dtype=object)
        np.testing.assert_allclose(
            answers(tmp_path / "m", given, "w")["v"], [[4 / 3, -2 / 3], [0.5, 0.5]]
        )


class TestKMeansAndALS:
    def test_centres_may_come_in_any_order(self, tmp_path: Path, layout: Layout) -> None:
        centres = [[0.0, 0.0], [1.0, 2.0], [-3.0, 1.0]]
        rows = [{"clusterIdx": i, "clusterCenter": vector(c)} for i, c in enumerate(centres)]
        write_stage(
            tmp_path / "m", "clustering.KMeansModel", {}, rows[::-1], layout=layout,
            defaults={"featuresCol": "features", "predictionCol": "prediction"},
        )  # fmt: skip
        assert answers(tmp_path / "m")["prediction"].tolist() == [1, 2, 0]

    def test_factors_may_lie_in_several_parts(self, tmp_path: Path, layout: Layout) -> None:
        def table(ids: list[int], scale: float) -> list[dict[str, Any]]:
            return [{"id": i, "features": [scale * i, 1.0]} for i in ids]

        write_stage(
            tmp_path / "m", "recommendation.ALSModel", {"userCol": "u", "itemCol": "v"},
            extra={"rank": 2}, layout=layout, defaults={"predictionCol": "prediction"},
            tables={"userFactors": table([7, 3, 5], 1.0), "itemFactors": table([2, 9, 4], 0.5)},
        )  # fmt: skip
        with martlet.load(tmp_path / "m") as model:
            found = model.predict({"u": [5, 7, 8], "v": [4, 9, 2]})["prediction"]
        np.testing.assert_allclose(found, [5 * 2 + 1, 7 * 4.5 + 1, math.nan])


class TestWhatHoldsOthers:
    def svc(self, folder: Path, weights: list[float], layout: Layout) -> None:
        write_stage(
            folder, "classification.LinearSVCModel", {}, [
                {"coefficients": vector(weights), "intercept": 0.0}],
            defaults={**CLASSIFIER, "threshold": 0.0}, layout=layout,
        )  # fmt: skip

    def test_one_model_a_class(self, tmp_path: Path, layout: Layout) -> None:
        write_stage(
            tmp_path / "m", "classification.OneVsRestModel", {}, layout=layout,
            extra={"numClasses": 2, "labelMetadata": "{}"}, defaults=CLASSIFIER,
        )  # fmt: skip
        self.svc(tmp_path / "m" / "model_0", [1.0, 0.0], layout)
        self.svc(tmp_path / "m" / "model_1", [0.0, 1.0], layout)
        found = answers(tmp_path / "m")
        np.testing.assert_array_equal(found["prediction"], [1, 1, 0])

    def test_a_pipeline_in_a_pipeline_in_a_tuned_model(
        self, tmp_path: Path, layout: Layout
    ) -> None:
        scale, svc = "feature.MaxAbsScalerModel", "classification.LinearSVCModel"
        write_stage(
            tmp_path / "m", "tuning.CrossValidatorModel", {"numFolds": 2, "estimatorParamMaps": []},
            extra={"avgMetrics": [0.5]}, layout=layout,
        )  # fmt: skip
        (inner,) = write_pipeline(tmp_path / "m" / "bestModel", ["PipelineModel_1"], layout)
        one, two = write_pipeline(inner, [uid(scale), uid(svc)], layout)
        write_stage(one, scale, {"inputCol": "features", "outputCol": "scaled"}, [
            {"maxAbs": vector([2.0, 4.0])}], layout=layout)  # fmt: skip
        self.svc(two, [1.0, 1.0], layout)
        part = next((two / "metadata").glob("part-00000"))
        part.write_text(part.read_text().replace('"features"', '"scaled"'))
        found = answers(tmp_path / "m")
        np.testing.assert_allclose(found["rawPrediction"][:, 1], ROWS @ [0.5, 0.25])

    def test_a_pipeline_of_more_stages_than_its_folders_is_refused(self, tmp_path: Path) -> None:
        write_pipeline(tmp_path / "m", ["Tokenizer_1"])
        (tmp_path / "m" / "stages").mkdir()
        with pytest.raises(UnsupportedModel, match="no folder for the stage 'Tokenizer_1'"):
            martlet.load(tmp_path / "m")


class TestSqlBeforeOtherStages:
    """What SQL makes is whole, true or text to the stages that come after it."""

    def load(self, folder: Path, statement: str, after: str, params: dict[str, Any]) -> Any:
        kinds = {"feature.SQLTransformer": {"statement": statement}, after: params}
        places = write_pipeline(folder, [uid(kind) for kind in kinds])
        for place, (kind, given) in zip(places, kinds.items(), strict=True):
            write_stage(place, kind, given)
        return martlet.load(folder)

    def hashed(self, folder: Path, expression: str, listed: list[str], **rows: Any) -> np.ndarray:
        statement = f"SELECT *, {expression} AS made FROM __THIS__"
        params = {"inputCols": ["made"], "outputCol": "h", "numFeatures": 1 << 10,
                  "categoricalCols": listed}  # fmt: skip
        with self.load(folder, statement, "feature.FeatureHasher", params) as model:
            return np.flatnonzero(model.predict(rows, "columns")["h"][0])

    def place(self, text: str) -> list[int]:
        from martlet.formats.stages.hashing import hasher

        return [hasher(1 << 10)(text)]

    def test_a_whole_number_hashes_as_one(self, tmp_path: Path) -> None:
        at = np.array(["2024-05-01 13:00:00"], dtype=object)
        assert self.hashed(tmp_path, "hour(at)", ["made"], at=at) == self.place("made=13")

    def test_a_whole_number_that_another_stage_takes_too_hashes_as_one(
        self, tmp_path: Path
    ) -> None:
        hashed = {"inputCols": ["zone"], "outputCol": "h", "numFeatures": 1 << 10,
                  "categoricalCols": ["zone"]}  # fmt: skip
        joined = {"inputCols": ["zone"], "outputCol": "x", "handleInvalid": "keep"}
        kinds = {"feature.FeatureHasher": hashed, "feature.VectorAssembler": joined}
        places = write_pipeline(tmp_path / "m", [uid(kind) for kind in kinds])
        for place, (kind, given) in zip(places, kinds.items(), strict=True):
            write_stage(place, kind, given)
        with martlet.load(tmp_path / "m") as model:
            found = model.predict({"zone": np.array([12.0, 0.5, np.nan])}, "columns")["h"]
        places_of = [np.flatnonzero(row).tolist() for row in found]
        assert places_of == [self.place("zone=12"), self.place("zone=0.5"), []]

    def test_truth_hashes_as_a_category(self, tmp_path: Path) -> None:
        a = np.array([3.0])
        assert self.hashed(tmp_path, "a > 1", [], a=a) == self.place("made=true")

    def test_a_number_that_may_be_whole_is_refused_as_a_category(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedModel, match="whether 'made' is whole"):
            self.hashed(tmp_path, "a + 1", ["made"], a=np.array([3.0]))

    def test_a_new_name_is_asked_for_by_the_old(self, tmp_path: Path) -> None:
        params = {"inputCols": ["years", "fare"], "outputCol": "x", "handleInvalid": "keep"}
        statement = "SELECT *, age AS years FROM __THIS__"
        with self.load(tmp_path, statement, "feature.VectorAssembler", params) as model:
            assert set(model.signatures["serving_default"].inputs) == {"age", "fare"}
            found = model.predict({"age": np.array([3.0]), "fare": np.array([4.0])})
        np.testing.assert_array_equal(found["x"], [[3.0, 4.0]])

    def test_labels_of_a_column_of_truth_are_found_by_truth(self, tmp_path: Path) -> None:
        path = write_stage(
            tmp_path, "feature.StringIndexerModel",
            {"inputCol": "flag", "outputCol": "i", "handleInvalid": "error"},
            [{"labels": ["true", "false"]}], layout=LAYOUTS["2.4"],
        )  # fmt: skip
        with martlet.load(path) as model:
            flags = np.array([True, False, "true"], dtype=object)
            np.testing.assert_array_equal(model.predict({"flag": flags})["i"], [0, 1, 0])


BASKETS = [
    (["5"], 2), (["5", "1"], 2), (["5", "1", "2"], 2), (["5", "2"], 2), (["1"], 3),
    (["1", "2"], 3), (["2"], 3),
]  # fmt: skip


class TestFrequentPatterns:
    """The example of Spark's documentation: three baskets, and what it predicts for each."""

    def load(self, folder: Path, confidence: float) -> Any:
        rows = [{"items": items, "freq": count} for items, count in BASKETS]
        params = {"itemsCol": "items", "predictionCol": "prediction", "minConfidence": confidence}
        return martlet.load(write_stage(folder, "fpm.FPGrowthModel", params, rows))

    def test_what_baskets_hold_too_is_added(self, tmp_path: Path) -> None:
        rows = np.array([["1", "2", "5", None], ["1", "2", "3", "5"], ["1", "2", None, None]], "O")
        with self.load(tmp_path, 0.6) as model:
            found = model.predict({"items": rows})["prediction"]
        assert found.tolist() == [[None], [None], ["5"]]

    def test_only_as_surely_as_is_wanted(self, tmp_path: Path) -> None:
        rows = np.array([["1", "2"], ["5", None]], "O")
        with self.load(tmp_path, 0.7) as model:
            found = model.predict({"items": rows})["prediction"]
        assert [set(row) - {None} for row in found.tolist()] == [set(), {"1", "2"}]


class TestWhereTheFolderLies:
    """Folders are passed on in archives, and archives unpack to a folder in a folder."""

    @pytest.fixture
    def inner(self, tmp_path: Path) -> Path:
        folder = tmp_path / "outer" / "model"
        return write_stage(
            folder, "feature.Binarizer", {"inputCol": "a", "outputCol": "b", "threshold": 1.0}
        )

    @pytest.mark.parametrize("form", ["zip", "tar", "gztar"])
    @pytest.mark.parametrize("within", [True, False], ids=["a folder", "its files"])
    def test_in_an_archive(self, inner: Path, form: str, within: bool) -> None:
        root = inner.parent if within else inner
        packed = shutil.make_archive(str(inner.parent.parent / "packed"), form, root)
        with martlet.load(packed) as model:
            found = model.predict({"a": np.array([0.0, 2.0])})
        np.testing.assert_array_equal(found["b"], [0.0, 1.0])

    def test_in_a_folder_of_its_own(self, inner: Path) -> None:
        (inner.parent / "__MACOSX").mkdir()
        with martlet.load(inner.parent) as model:
            found = model.predict({"a": np.array([0.0, 2.0])})
        np.testing.assert_array_equal(found["b"], [0.0, 1.0])

    @pytest.mark.parametrize("name", ["../out", "/out", "model/link"])
    def test_a_tar_that_leads_out_is_refused(self, inner: Path, name: str) -> None:
        path = inner.parent / "model.tar"
        with tarfile.open(path, "w") as archive:
            archive.add(inner, "model")
            member = tarfile.TarInfo(name)
            if name.endswith("link"):
                member.type, member.linkname = tarfile.SYMTYPE, "/etc"
            archive.addfile(member)
        with pytest.raises(UnsupportedModel, match=r"outside its own folder|no plain file"):
            martlet.load(path)

    @pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
    def test_a_tar_with_a_header_of_a_gigabyte_is_no_model_and_takes_no_room(
        self, kind: bytes, inner: Path
    ) -> None:
        path = inner.parent / "model.tar.gz"
        header = tarfile.TarInfo("x")
        header.type, header.size = kind, 1 << 30
        with gzip.open(path, "wb", 1) as file:
            file.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(64 << 20))
        tracemalloc.start()
        with pytest.raises(UnsupportedModel, match="does not unpack: a header of 1073741824 bytes"):
            martlet.load(path, format="spark")
        assert not packed.is_packed(path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert most < 8 << 20

    @pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.DIRTYPE])
    def test_a_tar_with_a_size_below_zero_is_refused(self, kind: bytes, inner: Path) -> None:
        path = inner.parent / "model.tar"
        member = tarfile.TarInfo("model/x")
        member.type, member.size = kind, -1024
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            archive.add(inner, "model")
            archive.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
        with pytest.raises(UnsupportedModel, match=r"far more|does not unpack"):
            martlet.load(path)
