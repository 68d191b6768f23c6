"""gRPC over TLS, as ``--ssl_config_file`` asks for it, with certificates made on the spot."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")
pytest.importorskip("cryptography")
pytest.importorskip("onnx")

from cryptography import x509  # noqa: E402
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402
from cryptography.x509.oid import NameOID  # noqa: E402

from martlet.wire.openinference.contents import ModelInferRequest, ModelInferResponse  # noqa: E402

from . import models  # noqa: E402
from .running import Server, serving  # noqa: E402


@dataclass
class Pair:
    """A certificate and its key, as PEM; signed by itself."""

    cert: str
    key: str


def pair(name: str) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    whose = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(whose)
        .issuer_name(whose)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Pair(cert.public_bytes(pem).decode(), private.decode())


OURS, CLIENTS, STRANGERS = (pair(name) for name in ("server", "client", "stranger"))


def text(value: str) -> str:
    return '"' + value.replace("\n", "\\n") + '"'


def config(folder: Path, **fields: str) -> str:
    file = folder / "ssl.config"
    file.write_text("".join(f"{name}: {value}\n" for name, value in fields.items()))
    return f"--ssl_config_file={file}"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sums={models.sums(tmp_path_factory.mktemp('tls') / 'sums.onnx')}"


@pytest.fixture(scope="module")
def server(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    fields = {"server_key": text(OURS.key), "server_cert": text(OURS.cert)}
    flag = config(tmp_path_factory.mktemp("ssl"), **fields)
    with serving("--model", model, flag, workers=2) as found:
        yield found


@pytest.fixture(scope="module")
def mutual(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that asks for its clients' certificates."""
    fields = {"server_key": text(OURS.key), "server_cert": text(OURS.cert)}
    fields |= {"custom_ca": text(CLIENTS.cert), "client_verify": "true"}
    with serving("--model", model, config(tmp_path_factory.mktemp("ssl"), **fields)) as found:
        yield found


def ask(channel: Any) -> list[float]:
    request = ModelInferRequest(model_name="sums")
    request.inputs.add(name="x", datatype="FP32", shape=[1, 2]).contents.fp32_contents.extend(
        [1, 2]
    )
    with channel:
        raw = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(
            request.SerializeToString(), timeout=60
        )
    return list(ModelInferResponse.FromString(raw).outputs[0].contents.fp32_contents)


def secured(server: Server, root: Pair, own: Pair | None = None) -> Any:
    credentials = grpc.ssl_channel_credentials(
        root.cert.encode(),
        None if own is None else own.key.encode(),
        None if own is None else own.cert.encode(),
    )
    return grpc.secure_channel(server.grpc, credentials)


def test_who_trusts_the_certificate_is_answered_by_every_worker(server):
    assert [ask(secured(server, OURS)) for _ in range(8)] == [[3.0]] * 8


@pytest.mark.parametrize(
    "channel",
    [lambda s: grpc.insecure_channel(s.grpc), lambda s: secured(s, STRANGERS)],
    ids=["plain text", "who trusts another"],
)
def test_others_are_not(server, channel):
    with pytest.raises(grpc.RpcError) as caught:
        ask(channel(server))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_clients_show_a_certificate_where_they_are_asked_to(mutual):
    assert ask(secured(mutual, OURS, CLIENTS)) == [3.0]
    for own in (None, STRANGERS):
        with pytest.raises(grpc.RpcError) as caught:
            ask(secured(mutual, OURS, own))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"server_key": text("no key"), "server_cert": text(OURS.cert)}, "server_key"),
        ({"server_key": text(OURS.key), "server_cert": text("none")}, "server_cert"),
        ({"server_key": text(OURS.key), "server_cert": text(CLIENTS.cert)}, "server_key"),
        ({"server_key": text(OURS.key)}, "server_cert"),
        (
            {
                "server_key": text(OURS.key),
                "server_cert": text(OURS.cert),
                "custom_ca": text("none"),
            },
            "custom_ca",
        ),
    ],
    ids=["no key", "no certificate", "another's certificate", "none at all", "no authority"],
)
def test_certificates_that_are_none_stop_the_start_and_say_so(tmp_path, model, fields, reason):
    command = [sys.executable, "-m", "martlet", "serve", "--model", model, "--rest-port=0"]
    command += ["--grpc-port=0", config(tmp_path, **fields)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert reason in done.stderr
