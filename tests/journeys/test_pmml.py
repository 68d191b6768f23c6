"""A PMML model over every protocol: text, dates, what is missing, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest

from .running import Server, ask, serving

grpc = pytest.importorskip("grpc")

from martlet.wire.openinference.contents import ModelInferRequest, ModelInferResponse  # noqa: E402
from martlet.wire.tfserving import messages  # noqa: E402

MODEL = """<?xml version="1.0"?>
<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4"><Header/><DataDictionary>
<DataField name="income" optype="continuous" dataType="double"/>
<DataField name="age" optype="continuous" dataType="integer">
  <Interval closure="closedClosed" leftMargin="18" rightMargin="99"/></DataField>
<DataField name="city" optype="categorical" dataType="string">
  <Value value="Riga"/><Value value="Oslo"/></DataField>
<DataField name="since" optype="continuous" dataType="date"/>
<DataField name="y" optype="continuous" dataType="double"/></DataDictionary>
<RegressionModel functionName="regression"><MiningSchema>
<MiningField name="y" usageType="target"/><MiningField name="income" missingValueReplacement="10"/>
<MiningField name="age"/><MiningField name="city"/><MiningField name="since"/></MiningSchema>
<Output><OutputField name="days" feature="transformedValue" dataType="integer" optype="continuous">
  <Apply function="dateDaysSinceYear" mapMissingTo="0"><FieldRef field="since"/>
  <Constant dataType="integer">2020</Constant></Apply></OutputField>
<OutputField name="place" feature="transformedValue" dataType="string" optype="categorical">
  <FieldRef field="city"/></OutputField></Output>
<RegressionTable intercept="1"><NumericPredictor name="income" coefficient="2"/>
<NumericPredictor name="age" coefficient="0.5"/>
<CategoricalPredictor name="city" value="Riga" coefficient="100"/></RegressionTable>
</RegressionModel></PMML>"""
ROWS = [
    {"income": 1.5, "age": 30, "city": "Riga", "since": "2020-01-31"},
    {"income": None, "age": 20, "city": None, "since": None},
]
"""The second row's income is 10, as its schema says; nothing else of it is known but the age."""
ANSWERS = {"y": [119.0, 31.0], "days": [30.0, 0.0], "place": ["Riga", None], "_reason": [None] * 2}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("pmml") / "loan.pmml"
    path.write_text(MODEL)
    with serving("--model", f"loan={path}") as found:
        yield found


def column(name: str) -> list[Any]:
    return [row[name] for row in ROWS]


class TestTensorFlowServing:
    URL = "/v1/models/loan:predict"

    def test_rows_may_lack_values(self, server: Server):
        status, found = ask(server.rest, "POST", self.URL, {"instances": ROWS})
        assert status == 200
        wanted = [
            dict(zip(ANSWERS, row, strict=True)) for row in zip(*ANSWERS.values(), strict=True)
        ]
        assert found["predictions"] == wanted

    def test_so_may_columns(self, server: Server):
        inputs = {name: column(name) for name in ROWS[0]}
        status, found = ask(server.rest, "POST", self.URL, {"inputs": inputs})
        assert (status, found["outputs"]) == (200, ANSWERS)

    @pytest.mark.parametrize(
        ("row", "named"),
        [
            ({"income": "much"}, "income"),
            ({"income": True}, "income"),
            ({"city": 7}, "city"),
            ({"since": 20200131}, "since"),
            ({"incom": 1.0}, "incom"),
            ({"age": [30, 31]}, "age"),
        ],
    )
    def test_a_wrong_type_is_a_400_that_names_the_field(
        self, server: Server, row: dict[str, Any], named: str
    ):
        status, found = ask(server.rest, "POST", self.URL, {"instances": [ROWS[0] | row]})
        assert status == 400
        assert named in found["error"]

    def test_columns_of_different_lengths_are_a_400(self, server: Server):
        inputs = {"age": [30], "city": ["Riga", "Oslo"]}
        status, found = ask(server.rest, "POST", self.URL, {"inputs": inputs})
        assert (status, "'city' has 2" in found["error"]) == (400, True)

    def test_a_value_that_is_not_valid_fails_its_row_alone(self, server: Server):
        rows = [ROWS[0], ROWS[0] | {"city": "Rome"}, ROWS[0] | {"age": 30.5}]
        status, found = ask(server.rest, "POST", self.URL, {"instances": rows})
        first, *bad = found["predictions"]
        assert (status, first["y"]) == (200, 119.0)
        assert all(math.isnan(row["y"]) and row["place"] is None for row in bad)
        assert [row["_reason"] for row in bad] == [
            "field 'city' cannot be 'Rome'; allowed is categorical string: Riga, Oslo",
            "field 'age' cannot be 30.5; allowed is continuous integer: [18, 99]",
        ]

    def test_grpc_has_nan_for_numbers_that_are_missing(self, server: Server):
        request = messages.PredictRequest()
        request.model_spec.name = "loan"
        for name, values in {"income": [1.5, math.nan], "age": [30.0, 20.0]}.items():
            request.inputs[name].dtype = 2  # DT_DOUBLE
            request.inputs[name].tensor_shape.dim.add(size=2)
            request.inputs[name].double_val.extend(values)
        request.inputs["city"].dtype = 7  # DT_STRING
        request.inputs["city"].tensor_shape.dim.add(size=2)
        request.inputs["city"].string_val.extend([b"Riga", b"Oslo"])
        with grpc.insecure_channel(server.grpc) as channel:
            predict = channel.unary_unary(
                "/tensorflow.serving.PredictionService/Predict",
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=messages.PredictResponse.FromString,
            )
            found = predict(request, timeout=20).outputs
        assert list(found["y"].double_val) == [119.0, 31.0]
        assert list(found["_reason"].string_val) == [b"", b""]


class TestOpenInference:
    URL = "/v2/models/loan/infer"

    @staticmethod
    def asked(name: str, datatype: str, data: list[Any]) -> dict[str, Any]:
        return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}

    def test_a_null_is_a_missing_value_in_and_out(self, server: Server):
        inputs = [self.asked(n, "FP64", column(n)) for n in ("income", "age")]
        inputs += [self.asked(n, "BYTES", column(n)) for n in ("city", "since")]
        status, found = ask(server.rest, "POST", self.URL, {"inputs": inputs})
        assert status == 200
        assert {each["name"]: each["data"] for each in found["outputs"]} == ANSWERS

    def test_a_wrong_type_is_a_400_that_names_the_field(self, server: Server):
        body = {"inputs": [self.asked("age", "BYTES", ["30"])]}
        status, found = ask(server.rest, "POST", self.URL, body)
        assert (status, "'age'" in found["error"]) == (400, True)

    def test_grpc(self, server: Server):
        request = ModelInferRequest(model_name="loan")
        for name, values in {"income": [1.5, math.nan], "age": [30.0, 20.0]}.items():
            one = request.inputs.add(name=name, datatype="FP64", shape=[2])
            one.contents.fp64_contents.extend(values)
        one = request.inputs.add(name="city", datatype="BYTES", shape=[2])
        one.contents.bytes_contents.extend([b"Riga", b"Oslo"])
        with grpc.insecure_channel(server.grpc) as channel:
            infer = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=lambda m: m.SerializeToString(),
                response_deserializer=ModelInferResponse.FromString,
            )
            found = {each.name: each.contents for each in infer(request, timeout=20).outputs}
            assert list(found["y"].fp64_contents) == [119.0, 31.0]
            assert list(found["place"].bytes_contents) == [b"Riga", b"Oslo"]
            request.inputs[1].datatype = "BYTES"
            with pytest.raises(grpc.RpcError) as refused:
                infer(request, timeout=20)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "'age'" in refused.value.details()
