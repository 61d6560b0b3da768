"""A certificate for 127.0.0.1, made on the spot, so that the app speaks TLS as with OpenAI."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class NoCertificate(Exception):
    """It could not be made; the text says why."""


class Certificate:
    """A self-made certificate: `file` is to be trusted, `context` serves with it."""

    def __init__(self, folder: Path) -> None:
        """Make it in `folder`. Raises NoCertificate."""
        self.file, key = folder / "certificate.pem", folder / "key.pem"
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt"]
        command += ["ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        command += ["-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", str(key), "-out", str(self.file)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        except FileNotFoundError as error:
            raise NoCertificate("A certificate is made with openssl, which isn't here.") from error
        except subprocess.CalledProcessError as error:
            raise NoCertificate(f"openssl made no certificate: {error.stderr.decode()}") from error
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.file, key)
