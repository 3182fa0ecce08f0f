"""TLS by uvicorn's options: a reload takes up new certificates, and broken ones change nothing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tests.system.server import Server

Start = Callable[..., Server]

needs_openssl = pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is missing")


def certify(folder: Path) -> str:
    """Put a new certificate in place; returns its serial number as openssl shows it."""
    issued = trustme.CA().issue_cert("localhost")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    return serial(["x509", "-in", str(folder / "cert.pem")])


def served(port: int) -> str:
    """The serial number of the certificate that a real handshake brings."""
    hello = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost"]
    shown = subprocess.run(hello, input=b"", capture_output=True, timeout=60, check=False)
    return serial(["x509"], shown.stdout)


def serial(command: list[str], given: bytes = b"") -> str:
    openssl = ["openssl", *command, "-noout", "-serial"]
    said = subprocess.run(openssl, input=given, capture_output=True, timeout=60, check=True)
    return said.stdout.decode().strip()


@needs_openssl
def test_a_reload_takes_up_new_certificates(start: Start, folder: Path) -> None:
    first = certify(folder)
    tls = ("--ssl-certfile", "cert.pem", "--ssl-keyfile", "key.pem")
    server = start(*tls).wait_until_ready()
    assert served(server.port) == first
    second = certify(folder)
    assert first != second
    assert served(server.port) == first
    assert server.reload() == "done"
    server.wait_for("the new certificate", lambda: served(server.port) == second)

    (folder / "cert.pem").write_text("not a certificate")
    assert server.reload() == "failed"
    assert served(server.port) == second
