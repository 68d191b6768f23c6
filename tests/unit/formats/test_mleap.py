"""MLeap bundles: models that Spark trained, written as MLeap writes them, with Spark's answers."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet.errors import InvalidInput, UnsupportedModel

pytest.importorskip("pyarrow", reason="the models to write as bundles are Spark's")
sys.path.insert(0, str(Path(__file__).parent))

from bundles import Node, Tensor, files, write_folder, write_zip

from martlet.formats.spark.disk import Saved, matrix, vector

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "spark"


def tensor(values: np.ndarray) -> Tensor:
    """A matrix goes column by column, as Spark's and MLeap's own classes keep it."""
    return Tensor(values.ravel(order="F").tolist(), list(values.shape))


def ports(word: str, names: list[str]) -> dict[str, str]:
    return {f"{word}{i}": name for i, name in enumerate(names)}


def indexer(s: Saved) -> Node:
    labels = s.row()["labelsArray"]
    attributes = {"labels_length": len(labels), "handle_invalid": s.text("handleInvalid")}
    attributes.update({f"labels_array_{i}": each for i, each in enumerate(labels)})
    return Node(s.uid, "string_indexer", attributes,
                ports("input", s.inputs()), ports("output", s.outputs()))  # fmt: skip


def one_hot(s: Saved) -> Node:
    attributes = {
        "category_sizes": s.row()["categorySizes"],
        "handle_invalid": s.text("handleInvalid"),
        "drop_last": s.param("dropLast"),
    }
    return Node(s.uid, "one_hot_encoder", attributes,
                ports("input", s.inputs()), ports("output", s.outputs()))  # fmt: skip


def assembler(s: Saved) -> Node:
    return Node(s.uid, "vector_assembler", {}, ports("input", s.inputs()),
                {"output": s.text("outputCol")})  # fmt: skip


def scaler(s: Saved) -> Node:
    std = tensor(vector(s.row()["std"], s.name))
    return Node(s.uid, "standard_scaler", {"std": std}, {"input": s.text("inputCol")},
                {"output": s.text("outputCol")})  # fmt: skip


def columns(s: Saved, *kinds: str) -> tuple[dict[str, str], dict[str, str]]:
    outputs = {"raw_prediction": "rawPrediction", "probability": "probability"}
    chosen = {port: outputs[port] for port in kinds}
    return {"features": s.text("featuresCol")}, {"prediction": "prediction", **chosen}


def logistic(s: Saved) -> Node:
    row = s.row()
    coefficients, intercept = (
        matrix(row["coefficientMatrix"], ""),
        vector(row["interceptVector"], ""),
    )
    if row["isMultinomial"]:
        attributes = {"num_classes": 3, "coefficient_matrix": tensor(coefficients),
                      "intercept_vector": tensor(intercept),
                      "thresholds": s.numbers("thresholds")}  # fmt: skip
    else:
        attributes = {
            "num_classes": 2,
            "coefficients": tensor(coefficients[0]),
            "intercept": float(intercept[0]),
            "threshold": s.number("threshold"),
        }
    return Node(s.uid, "logistic_regression", attributes,
                *columns(s, "raw_prediction", "probability"))  # fmt: skip


def tree_lines(rows: list[dict[str, Any]], classify: bool) -> list[dict[str, Any]]:
    by_id = {row["id"]: row for row in rows}
    lines: list[dict[str, Any]] = []

    def walk(row: dict[str, Any]) -> None:
        if row["leftChild"] < 0:
            values = row["impurityStats"] if classify else [row["prediction"]]
            lines.append({"type": "leaf", "values": values})
            return
        split = row["split"]
        chosen, size = split["leftCategoriesOrThreshold"], split["numCategories"]
        if size < 0:
            test: dict[str, Any] = {"type": "continuous", "threshold": chosen[0]}
        else:
            left = len(chosen) <= size // 2
            rest = [float(c) for c in range(size) if c not in chosen]
            test = {"type": "categorical", "isLeft": left, "numCategories": size,
                    "categories": chosen if left else rest}  # fmt: skip
        lines.append({"type": "internal", "split": {"featureIndex": split["featureIndex"], **test}})
        walk(by_id[row["leftChild"]])
        walk(by_id[row["rightChild"]])

    walk(by_id[0])
    return lines


def ensemble(op: str, classify: bool, *kinds: str) -> Callable[[Saved], Node]:
    def build(s: Saved) -> Node:
        grouped: dict[int, list[dict[str, Any]]] = {}
        for row in s.rows():
            grouped.setdefault(row.get("treeID", 0), []).append(row.get("nodeData", row))
        attributes: dict[str, Any] = {"num_features": s.extra["numFeatures"]}
        if classify:
            attributes["num_classes"] = s.extra.get("numClasses", 2)
        if op.startswith("decision_tree"):
            return Node(s.uid, op, attributes, *columns(s, *kinds),
                        trees={"": tree_lines(grouped[0], classify)})  # fmt: skip
        weights = {row["_1"]: row["_3"] for row in s.rows("treesMetadata")}
        names = [f"tree{i}" for i in sorted(grouped)]
        attributes.update(trees=names, tree_weights=[weights[i] for i in sorted(grouped)])
        if op == "gbt_classifier":
            attributes["num_classes"] = 2
        inner = {"num_features": s.extra["numFeatures"]}
        return Node(
            s.uid, op, attributes, *columns(s, *kinds),
            trees={n: tree_lines(grouped[i], classify) for i, n in enumerate(names)},
            models=dict.fromkeys(names, ("decision_tree", inner)),
        )  # fmt: skip

    return build


def bayes(s: Saved) -> Node:
    row = s.row()
    theta = matrix(row["theta"], "")
    attributes = {"num_features": theta.shape[1], "num_classes": theta.shape[0],
                  "pi": tensor(vector(row["pi"], "")), "theta": tensor(theta),
                  "model_type": s.text("modelType")}  # fmt: skip
    return Node(s.uid, "naive_bayes", attributes, *columns(s, "raw_prediction", "probability"))


def perceptron(s: Saved) -> Node:
    attributes = {"layers": s.param("layers"), "weights": tensor(vector(s.row()["weights"], ""))}
    kinds = ("raw_prediction", "probability")
    return Node(s.uid, "multi_layer_perceptron_classifier", attributes, *columns(s, *kinds))


def kmeans(s: Saved) -> Node:
    rows = sorted(s.rows(), key=lambda row: row["clusterIdx"])
    centres = [tensor(vector(row["clusterCenter"], "")) for row in rows]
    attributes = {"cluster_centers": centres, "num_features": centres[0].sizes[0]}
    return Node(s.uid, "k_means", attributes, *columns(s))


def survival(s: Saved) -> Node:
    row = s.row()
    attributes = {"coefficients": tensor(vector(row["coefficients"], "")),
                  "intercept": row["intercept"], "scale": row["scale"],
                  "quantile_probabilities": s.numbers("quantileProbabilities")}  # fmt: skip
    inputs, outputs = columns(s)
    return Node(s.uid, "aft_survival_regression", attributes, inputs,
                {**outputs, "quantiles": "quantiles"})  # fmt: skip


BUILDERS: dict[str, Callable[[Saved], Node]] = {
    "StringIndexerModel": indexer,
    "OneHotEncoderModel": one_hot,
    "VectorAssembler": assembler,
    "StandardScalerModel": scaler,
    "LogisticRegressionModel": logistic,
    "DecisionTreeClassificationModel": ensemble(
        "decision_tree_classifier", True, "raw_prediction", "probability"
    ),
    "DecisionTreeRegressionModel": ensemble("decision_tree_regression", False),
    "RandomForestClassificationModel": ensemble(
        "random_forest_classifier", True, "raw_prediction", "probability"
    ),
    "RandomForestRegressionModel": ensemble("random_forest_regression", False),
    "GBTClassificationModel": ensemble("gbt_classifier", False, "raw_prediction", "probability"),
    "GBTRegressionModel": ensemble("gbt_regression", False),
    "NaiveBayesModel": bayes,
    "MultilayerPerceptronClassificationModel": perceptron,
    "KMeansModel": kmeans,
    "AFTSurvivalRegressionModel": survival,
}
CASES = ["ctr", "logistic_three", "tree_class", "tree_reg", "forest_class", "forest_reg",
         "boost_class", "boost_reg", "bayes", "perceptron", "kmeans", "survival"]  # fmt: skip


def bundle(case: str, form: str) -> dict[str, bytes]:
    root = Saved.read(FIXTURES / case / "model")
    stages = sorted((root.path / "stages").iterdir(), key=lambda path: int(path.name.split("_")[0]))
    saved = [Saved.read(path) for path in stages]
    return files([BUILDERS[each.kind](each) for each in saved], form)


def rows_for(model: martlet.Checked) -> dict[str, Any]:
    rows = json.loads((FIXTURES / "rows.json").read_text(encoding="utf-8"))
    inputs = model.signatures["serving_default"].inputs
    return {name: [_plain(each) for each in rows[name]] for name in inputs}


def _plain(value: Any) -> Any:
    return float(value) if value in ("NaN", "Infinity", "-Infinity") else value


class TestBundles:
    @pytest.mark.parametrize("form", ["json", "protobuf"])
    @pytest.mark.parametrize("case", CASES)
    def test_answer_as_the_spark_model_they_were_made_of(
        self, tmp_path: Path, case: str, form: str
    ) -> None:
        parts = bundle(case, form)
        paths = [write_zip(tmp_path / "b.zip", parts), write_folder(tmp_path / "b", parts)]
        wanted = json.loads((FIXTURES / case / "expected.json").read_text(encoding="utf-8"))
        for path in paths:
            with martlet.load(path) as model:
                found = model.predict(rows_for(model))
            compared = [name for name in found if name in wanted]
            assert "prediction" in compared
            for name in compared:
                expected = np.array(wanted[name], dtype=np.float64)
                np.testing.assert_allclose(found[name], expected, rtol=1e-9, atol=1e-12)

    def test_refuse_a_label_that_was_not_seen_where_they_say_so(self, tmp_path: Path) -> None:
        node = Node("i", "string_indexer", {"labels": ["a", "b"], "handle_invalid": "error"},
                    {"input": "x"}, {"output": "y"})  # fmt: skip
        model = martlet.load(write_zip(tmp_path / "b.zip", files([node], "json")))
        assert model.predict({"x": ["b", "a"]})["y"].tolist() == [1.0, 0.0]
        with pytest.raises(InvalidInput, match=r"string_indexer i .*'c', which the model has not"):
            model.predict({"x": ["c"]})


class TestBundlesBefore08:
    def test_keep_type_and_value_apart(self, tmp_path: Path) -> None:
        parts = files([], "json")
        inputs, outputs = {"port": "features", "name": "x"}, {"port": "prediction", "name": "y"}
        node = {"name": "l", "shape": {"inputs": [inputs], "outputs": [outputs]}}
        model = {
            "op": "linear_regression",
            "attributes": {
                "coefficients": {
                    "type": {"type": "tensor", "base": "double"},
                    "value": {"dimensions": [2], "values": [2.0, 3.0]},
                },
                "intercept": {"type": "double", "value": 1.0},
            },
        }
        parts["root/node.json"] = json.dumps(node).encode()
        parts["root/model.json"] = json.dumps(model).encode()
        loaded = martlet.load(write_zip(tmp_path / "b.zip", parts))
        assert loaded.predict({"x": [[1.0, 10.0]]})["y"].tolist() == [33.0]


def spoiled(name: str, data: bytes) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda parts: {**parts, name: data}


class TestBrokenBundles:
    @pytest.mark.parametrize(
        ("spoil", "says"),
        [
            (spoiled("root/model.json", b'{"op": "pipeline", "attributes": {"nodes": {"type": '
                     b'"list", "string": ["../../etc"]}}}'), "holds no"),
            (spoiled("root/model.json", b'{"op": "magic", "attributes": {}}'), "'magic'"),
            (spoiled("root/model.json", b"{" * 100_000), "not JSON"),
            (spoiled("../outside", b""), "outside its own folder"),
            (spoiled("/outside", b""), "outside its own folder"),
            (spoiled("zeros", bytes(1 << 26)), "would unpack to"),
            (lambda parts: {k: v for k, v in parts.items() if "node" not in k}, "holds no"),
        ],
        ids=["outside", "unknown", "deep", "parent", "absolute", "bomb", "no node"],
    )  # fmt: skip
    def test_are_refused_in_a_sentence(
        self, tmp_path: Path, spoil: Callable[[dict[str, bytes]], dict[str, bytes]], says: str
    ) -> None:
        path = write_zip(tmp_path / "b.zip", spoil(bundle("ctr", "json")))
        with pytest.raises(UnsupportedModel, match=says):
            martlet.load(path)

    def test_a_link_in_a_zip_is_refused(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "b.zip", bundle("ctr", "json"))
        with zipfile.ZipFile(path, "a") as archive:
            link = zipfile.ZipInfo("root/link")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        with pytest.raises(UnsupportedModel, match="link"):
            martlet.load(path)

    def test_a_cut_zip_or_message_is_refused(self, tmp_path: Path) -> None:
        path = write_zip(tmp_path / "b.zip", bundle("ctr", "json"))
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(UnsupportedModel):
            martlet.load(path, format="mleap")
        for name in ("root/model.pb", "root/node.pb"):
            parts = bundle("boost_class", "protobuf")
            parts[name] = parts[name][:-3]
            with pytest.raises(UnsupportedModel):
                martlet.load(write_zip(tmp_path / "c.zip", parts))

    def test_a_tree_that_ends_too_soon_is_refused(self, tmp_path: Path) -> None:
        parts = bundle("tree_class", "json")
        name = next(each for each in parts if each.endswith("tree.json"))
        parts[name] = b"\n".join(parts[name].splitlines()[:-1])
        with pytest.raises(UnsupportedModel, match="cut short"):
            martlet.load(write_zip(tmp_path / "b.zip", parts))
