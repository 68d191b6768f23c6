"""``tensorflow_model_server``'s command line, taken by ``martlet serve``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from martlet.cli import tfserving_flags, tfserving_settings
from martlet.errors import InvalidInput
from martlet.serving.settings import ModelSettings
from martlet.wire.tfserving.config import ModelEntry


def test_the_docker_images_command_line_is_taken(tmp_path):
    flags = tfserving_flags.read(
        [
            "--port=8500",
            "--rest_api_port=8501",
            "--model_name=half",
            f"--model_base_path={tmp_path}/half",
        ]
    )
    assert (flags.port, flags.rest_api_port) == (8500, 8501)
    assert tfserving_settings.folders(flags).entries == (ModelEntry("half", f"{tmp_path}/half"),)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--enable_batching", True),
        ("--enable_batching=true", True),
        ("--enable_batching=false", False),
        ("--enable_batching=0", False),
    ],
)
def test_a_boolean_may_stand_bare(argument, value):
    assert tfserving_flags.read([argument]).enable_batching is value


def test_flags_without_meaning_here_are_kept_for_the_warning():
    flags = tfserving_flags.read(["--tensorflow_session_parallelism=4", "--mixed_precision=fp16"])
    assert flags.ignored == ("--tensorflow_session_parallelism=4", "--mixed_precision=fp16")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--rest_api_prot=1", "no such option: --rest_api_prot"),
        ("--port=many", "whole number"),
        ("--port", "needs a value"),
        ("--enable_batching=perhaps", "true or false"),
        ("models", "unexpected argument"),
    ],
)
def test_a_mistake_is_told(argument, said):
    with pytest.raises(InvalidInput, match=said):
        tfserving_flags.read([argument])


def test_the_files_that_flags_name_are_read(tmp_path):
    config, monitoring = tmp_path / "models", tmp_path / "monitoring"
    config.write_text(
        'model_config_list { config { name: "m" base_path: "/m" model_platform: "tensorflow" } }'
    )
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    flags = tfserving_flags.read(
        [
            f"--model_config_file={config}",
            "--model_config_file_poll_wait_seconds=60",
            f"--monitoring_config_file={monitoring}",
            "--rest_api_timeout_in_ms=500",
            "--enable_model_warmup=false",
        ]
    )
    folders = tfserving_settings.folders(flags)
    assert (folders.entries[0].name, folders.file, folders.file_poll_s) == ("m", config, 60)
    protocols = tfserving_settings.protocols(flags)
    assert (protocols.metrics_path, protocols.timeout_s, protocols.warm_ups) == (
        "/metrics",
        0.5,
        0,
    )


@pytest.mark.parametrize("argument", ["--model_config_file=/nowhere", "--ssl_config_file=/nowhere"])
def test_a_file_that_is_not_there_stops_the_start(argument):
    flags = tfserving_flags.read([argument])
    with pytest.raises(InvalidInput, match="cannot be read"):
        tfserving_settings.folders(flags)
        tfserving_settings.protocols(flags)


def test_batching_parameters_need_batching():
    flags = tfserving_flags.read(["--batching_parameters_file=x"])
    with pytest.raises(InvalidInput, match="without --enable_batching"):
        tfserving_settings.protocols(flags)


@pytest.mark.parametrize(
    ("arguments", "own", "found"),
    [
        ([], (None, None, None), ("127.0.0.1", 8501, None)),
        ([], ("::1", 0, 0), ("::1", 0, 0)),
        (["--port=1", "--rest_api_port=2"], (None, None, None), ("0.0.0.0", 2, 1)),
        (["--model_name=m"], (None, None, None), ("127.0.0.1", 8501, 8500)),
        (["--port=1"], ("127.0.0.1", 3, None), ("127.0.0.1", 3, 1)),
        (["--rest_api_port=0"], (None, None, None), ("0.0.0.0", 8501, 8500)),
    ],
)
def test_ports_are_what_each_servers_user_expects(arguments, own, found):
    ports = tfserving_settings.ports(tfserving_flags.read(arguments), *own)
    assert (ports.host, ports.rest, ports.grpc) == found


def test_rest_and_grpc_cannot_share_a_port():
    flags = tfserving_flags.read(["--port=8500", "--rest_api_port=8500"])
    with pytest.raises(InvalidInput, match="share port 8500"):
        tfserving_settings.ports(flags, None, None, None)


class TestBatchingOfOneModel:
    """``--enable_per_model_batching_parameters``: the version's own file says how it batches."""

    @pytest.fixture
    def flags(self, tmp_path):
        common = tmp_path / "batching.config"
        common.write_text("max_batch_size { value: 7 }\nnum_batch_threads { value: 3 }\n")
        arguments = ["--enable_batching", "--enable_per_model_batching_parameters"]
        return tfserving_flags.read([*arguments, f"--batching_parameters_file={common}"])

    def settings(self, flags, path):
        model = tfserving_settings.batching(flags, ModelSettings())
        return tfserving_settings.of_versions(flags)(path, model)

    def test_a_version_without_one_does_not_batch(self, flags, tmp_path):
        assert self.settings(flags, tmp_path) == ModelSettings()

    def test_its_own_file_counts_and_of_the_common_one_the_threads(self, flags, tmp_path):
        (tmp_path / "batching_params.pbtxt").write_text(
            "max_batch_size { value: 32 }\nbatch_timeout_micros { value: 2000 }\n"
            "num_batch_threads { value: 9 }\nallowed_batch_sizes: 8\nallowed_batch_sizes: 32\n"
        )
        found = self.settings(flags, tmp_path)
        assert (found.max_rows, found.linger_ms, found.threads) == (32, 2.0, 3)
        assert found.allowed_rows == (8, 32)

    def test_our_own_file_in_the_folder_counts_over_it(self, flags, tmp_path):
        (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 32 }")
        (tmp_path / "settings.toml").write_text("max_rows = 64\n")
        assert self.settings(flags, tmp_path).max_rows == 64

    def test_a_broken_one_is_named(self, flags, tmp_path):
        (tmp_path / "batching_params.pbtxt").write_text("max_batch_size: many")
        with pytest.raises(InvalidInput, match="batching_params"):
            self.settings(flags, tmp_path)

    def test_without_the_flag_the_common_file_counts_for_all(self, flags, tmp_path):
        (tmp_path / "batching_params.pbtxt").write_text("max_batch_size { value: 32 }")
        flags = replace(flags, enable_per_model_batching_parameters=False)
        assert self.settings(flags, tmp_path).max_rows == 7
