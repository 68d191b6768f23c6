"""Certificates that are checked when the settings are read: a worker finds out too late."""

from __future__ import annotations

import ssl
from pathlib import Path
from tempfile import TemporaryDirectory

from martlet.errors import InvalidInput
from martlet.wire.tfserving.config import Tls


def check(tls: Tls) -> None:
    """
    Check that *tls* holds certificates and the key that belongs to them, as PEM.

    Raises:
        InvalidInput: it does not; says which field.
    """
    _check_authorities("server_cert", tls.server_cert)
    if tls.custom_ca:
        _check_authorities("custom_ca", tls.custom_ca)
    elif tls.client_verify:
        raise InvalidInput(
            "client_verify wants custom_ca: who has signed the clients' certificates"
        )
    with TemporaryDirectory(prefix="martlet-") as folder:
        # The library reads a key from a file alone; the folder is its owner's.
        cert, key = Path(folder, "cert"), Path(folder, "key")
        cert.write_text(tls.server_cert, encoding="utf-8")
        key.write_text(tls.server_key, encoding="utf-8")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            # A key with a pass phrase is refused: nobody is there to type it.
            context.load_cert_chain(cert, key, password=lambda: "")
        except (ssl.SSLError, ValueError) as exc:
            raise InvalidInput(
                f"server_key is not a PEM key that belongs to server_cert: {exc}"
            ) from None


def _check_authorities(field: str, text: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as exc:
        raise InvalidInput(f"{field} holds no PEM certificate: {exc}") from None
