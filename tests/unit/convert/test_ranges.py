"""The ranges of ids are found by running the model, and its words in its file."""

from __future__ import annotations

import numpy as np
import pytest

from martlet.convert.asking.constants import Constants, constants_of
from martlet.convert.asking.ranges import domain_of
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.tensors import DType, Signature, Spec


class Picky:
    """Answers what *accepts* says, as a model with a check of its own does."""

    def __init__(self, spec: Spec, accepts):
        outputs = [Spec("y", DType.FLOAT32, (-1,))]
        self.signatures = {"serving_default": Signature.of([spec], outputs)}
        self._accepts = accepts
        self.asked = 0

    def predict(self, inputs, signature_name="serving_default"):
        self.asked += 1
        (value,) = inputs.values()
        if not all(map(self._accepts, value.ravel().tolist())):
            raise InvalidInput("no")
        return {"y": np.zeros(len(value), np.float32)}

    def close(self): ...


def test_a_gather_answers_ids_from_minus_its_size(lookup, opened):
    ranges = domain_of(opened(lookup())).ranges
    assert (ranges["user"].low, ranges["user"].high) == (-50, 49)
    assert (ranges["item"].low, ranges["item"].high) == (-20, 19)
    assert str(ranges["clock"]) == "any"


@pytest.mark.parametrize("high", [0, 1, 2, 1000, 30_000, 2**31 - 2])
def test_the_last_id_is_found_by_halving(high: int):
    model = Picky(Spec("id", DType.INT32, (-1,)), lambda v: -1 <= v <= high)
    found = domain_of(model).ranges["id"]
    assert (found.low, found.high) == (-1, high)
    assert model.asked < 150


def test_a_model_that_answers_every_id_has_no_ends():
    found = domain_of(Picky(Spec("id", DType.INT64, (-1,)), lambda v: True)).ranges["id"]
    assert (found.low, found.high) == (None, None)


def test_a_float_that_may_not_be_nan_is_told():
    spec = Spec("x", DType.FLOAT32, (-1, 3))
    assert domain_of(Picky(spec, lambda v: True)).ranges["x"].nan
    assert not domain_of(Picky(spec, lambda v: v == v)).ranges["x"].nan


class Histories:
    """Takes an id and a history a row, and declares no shape of either, as TorchScript does."""

    def __init__(self):
        inputs = [Spec("item", DType.INT64, None), Spec("history", DType.INT64, None)]
        outputs = [Spec("y", DType.FLOAT32, (-1,))]
        self.signatures = {"serving_default": Signature.of(inputs, outputs)}

    def predict(self, inputs, signature_name="serving_default"):
        if inputs["item"].ndim != 1 or inputs["history"].ndim != 2:
            raise InvalidInput("an id a row, and a history")
        return {"y": (inputs["history"] == inputs["item"][:, None]).sum(1).astype(np.float32)}

    def close(self): ...


def test_a_history_beside_an_id_is_found_where_neither_declares_its_shape():
    found = domain_of(Histories())
    history = found.signature.inputs["history"]
    assert (found.shape(history, 7), found.base["item"].shape) == ((7, 5), (1,))


def test_a_model_that_answers_no_made_row_wants_real_ones():
    model = Picky(Spec("x", DType.STRING, (-1,)), lambda v: v == "a very special word")
    with pytest.raises(UnsupportedModel, match="--rows"):
        domain_of(model)
    assert domain_of(model, logged={"x": np.array(["a very special word"], object)})


def test_the_words_of_a_savedmodel_are_its_vocabularies(shared):
    pytest.importorskip("tensorflow")
    path = shared / "sparrow/modeldata/MLPRec/002"
    # It has none: names of variables are no words.
    assert constants_of(path, "savedmodel").words == ()


class Shaped:
    """Declares no shapes, as TorchScript does, and takes rows of *widths* alone."""

    def __init__(self, **widths: int):
        specs = [Spec(name, DType.INT64, None) for name in widths]
        self.signatures = {"serving_default": Signature.of(specs, [Spec("y", DType.FLOAT32, None)])}
        self._widths = widths

    def predict(self, inputs, signature_name="serving_default"):
        for name, width in self._widths.items():
            if inputs[name].shape[1:] != ((width,) if width else ()):
                raise InvalidInput(f"{name} is of another shape")
        return {"y": np.zeros(len(inputs[next(iter(inputs))]), np.float32)}

    def close(self): ...


@pytest.mark.parametrize(
    ("widths", "named"),
    [
        ({"user": 0, "history": 20, "item": 0}, (20,)),
        ({"tags": 6, "dense": 4}, ()),
        ({"seq": 50, "item": 0}, (50,)),
        ({"user": 1, "item": 1}, ()),
    ],
)
def test_shapes_that_a_file_does_not_tell_are_found(widths, named):
    found = domain_of(Shaped(**widths), constants=Constants(numbers=named))
    expected = {name: (1, width) if width else (1,) for name, width in widths.items()}
    assert {name: value.shape for name, value in found.base.items()} == expected


def test_a_row_that_is_answered_only_alone_is_not_taken_where_another_is():
    class Broadcasting(Shaped):
        def predict(self, inputs, signature_name="serving_default"):
            if inputs["seq"].ndim == inputs["item"].ndim == 2 and len(inputs["seq"]) > 1:
                raise InvalidInput("axes do not go together")
            return {"y": np.zeros(len(inputs["seq"]), np.float32)}

    found = domain_of(Broadcasting(seq=1, item=0))
    assert found.base["item"].ndim == 1 or found.base["seq"].ndim == 1
