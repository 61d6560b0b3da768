"""A certificate for 127.0.0.1, made on the spot, so that the app speaks TLS as with OpenAI."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme


class Certificate:
    """A certificate and who issued it: `file` is to be trusted, `context` serves with it."""

    def __init__(self, folder: Path) -> None:
        """Write the file into a folder."""
        issuer = trustme.CA()
        self.file = folder / "issuer.pem"
        issuer.cert_pem.write_to_path(self.file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert("127.0.0.1").configure_cert(self.context)
