"""A fault of the simulators that survival is tested with: requests redirected elsewhere."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest

from tools.harness import VOICE
from tools.simulator.openai_server import OpenAISimulator
from tools.simulator.waiting import PATIENCE


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def test_requests_can_be_redirected_to_another_host() -> None:
    with OpenAISimulator(ears=VOICE, mouth=VOICE) as openai:
        openai.redirect_to = "http://127.0.0.1:9"
        opener = urllib.request.build_opener(NoRedirect)
        with pytest.raises(urllib.error.HTTPError) as answer:
            opener.open(f"{openai.base_url}/realtime?model=x", timeout=PATIENCE)
        assert answer.value.code == 307
        assert answer.value.headers["Location"] == "http://127.0.0.1:9/v1/realtime?model=x"
        assert [request.status for request in openai.requests] == [307]
        assert openai.refusals == []
