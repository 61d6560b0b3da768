"""A certificate for 127.0.0.1, made on the spot, so that the app speaks TLS as with OpenAI."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from pathlib import Path

from tools.bench.measure import BenchError


class Certificate:
    """A self-made certificate: `file` is to be trusted, `context` serves with it."""

    def __init__(self, folder: Path) -> None:
        openssl = shutil.which("openssl")
        if not openssl:
            raise BenchError("--tls makes its certificate with openssl, which isn't here.")
        self.file, key = folder / "certificate.pem", folder / "key.pem"
        command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        command += ["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext"]
        command += ["subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(self.file)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        except subprocess.CalledProcessError as error:
            raise BenchError(f"openssl made no certificate: {error.stderr.decode()}") from error
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.file, key)
