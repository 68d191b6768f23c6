"""TensorFlow Serving's text-format files, as they are found in the wild."""

from __future__ import annotations

import pytest

from martlet.errors import InvalidInput
from martlet.wire.tfserving.config import (
    Batching,
    ModelEntry,
    read_batching,
    read_metrics_path,
    read_model_config,
    read_ssl,
    versions_in,
)

ONE = 'name: "m" base_path: "/models/m" model_platform: "tensorflow"'


def config(body: str = ONE) -> str:
    return f"model_config_list {{ config {{ {body} }} }}"


class TestModelConfig:
    @pytest.mark.parametrize(
        "text",
        [
            config(),
            "model_config_list: {\n config: {\n name: 'm',\n base_path: '/models/m',\n"
            " model_platform: 'tensorflow'\n }\n}",
            f"# models\nmodel_config_list < config < {ONE} > >",
            'model_config_list { config { name: "m"; base_path: "/models" "/m"; model_type: 1 } }',
        ],
    )
    def test_every_way_of_writing_it_is_read(self, text):
        assert read_model_config(text) == [ModelEntry("m", "/models/m")]

    @pytest.mark.parametrize(
        ("policy", "wanted"),
        [
            ("", [7]),
            ("model_version_policy { latest { num_versions: 2 } }", [7, 5]),
            ("model_version_policy { latest { num_versions: 0 } }", [7]),
            ("model_version_policy { all {} }", [7, 5, 3]),
            ("model_version_policy { specific { versions: 3 versions: 9 } }", [3]),
        ],
    )
    def test_a_policy_chooses_among_the_versions_that_are_there(self, policy, wanted):
        [entry] = read_model_config(config(f"{ONE} {policy}"))
        assert entry.wanted([3, 5, 7]) == wanted

    def test_labels_are_read(self):
        [entry] = read_model_config(config(ONE + ' version_labels { key: "stable" value: 3 }'))
        assert entry.labels == {"stable": 3}

    def test_an_empty_config_serves_nothing(self):
        assert read_model_config("") is None
        assert read_model_config("model_config_list {}") == []

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("improperly formatted file", "Error parsing text-format ModelServerConfig"),
            (config(ONE + " } config { " + ONE), "multiple times in config list"),
            (config('name: "m" base_path: "m" model_platform: "tensorflow"'), "absolute path"),
            (config('name: "m" base_path: "/m"'), "model_platform"),
            (config('name: "m" base_path: "/m" model_platform: "caffe"'), "'caffe'"),
            (config('base_path: "/m" model_platform: "tensorflow"'), "no name"),
            (config(ONE + " logging_config { sampling_config { sampling_rate: 1 } }"),
             "No request-logger-creator provided."),
            (config(ONE + " nonsense: 1"), "nonsense"),
        ],
    )  # fmt: skip
    def test_what_upstream_refuses_is_refused(self, text, said):
        with pytest.raises(InvalidInput, match=said.replace(".", r"\.")):
            read_model_config(text)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["00000123", "124"], {123: "00000123", 124: "124"}),
        (["0"], {0: "0"}),
        (["tmp", "1.bak", "-1", "", "٣", "9" * 19], {}),
    ],
)
def test_versions_are_the_children_that_are_numbers(names, found):
    assert versions_in(names) == found


class TestOtherFiles:
    def test_batching(self):
        text = "max_batch_size { value: 8 } allowed_batch_sizes: 2 allowed_batch_sizes: 8"
        assert read_batching(text) == Batching(max_batch_size=8, allowed_batch_sizes=(2, 8))
        assert read_batching("") == Batching()

    @pytest.mark.parametrize(
        "sizes", ["allowed_batch_sizes: 4", "allowed_batch_sizes: 8 allowed_batch_sizes: 4"]
    )
    def test_batch_sizes_that_contradict_each_other_are_refused(self, sizes):
        with pytest.raises(InvalidInput, match="allowed_batch_sizes"):
            read_batching("max_batch_size { value: 8 } " + sizes)

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ('prometheus_config: { enable: true, path: "/m" }', "/m"),
            ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
            ("prometheus_config { enable: false }", None),
            ("", None),
        ],
    )
    def test_monitoring(self, text, path):
        assert read_metrics_path(text) == path

    def test_ssl(self):
        found = read_ssl('server_key: "k" server_cert: "c" client_verify: true')
        assert (found.server_key, found.server_cert, found.client_verify) == ("k", "c", True)
