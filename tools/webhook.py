"""The app's webhook, asked as Twilio asks it, and the TwiML that it answers."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree import ElementTree

import requests

from tools.harness import CALLED, CALLER, PUBLIC_URL, Service
from tools.simulator.waiting import PATIENCE

SID = "CA" + "7" * 32
FORM = {"CallSid": SID, "From": CALLER, "To": CALLED, "CallStatus": "ringing", "Digits": ""}
UNAVAILABLE = "I'm sorry, we can't take your call right now. Please try again later."


def post(
    service: Service,
    path: str = "/voice",
    form: Mapping[str, str] | None = None,
    signature: str | None = "right",
    headers: Mapping[str, str] | None = None,
) -> requests.Response:
    """Ask as Twilio does. `signature`: "right", None for no header, or whatever is to be sent."""
    fields = dict(FORM if form is None else form)
    sent = dict(headers or {})
    if signature == "right":
        signature = service.network.signature(PUBLIC_URL + path, fields)
    if signature is not None:
        sent["X-Twilio-Signature"] = signature
    return requests.post(service.url + path, fields, headers=sent, timeout=PATIENCE)


def element(xml: str, name: str) -> ElementTree.Element:
    """Return the first element of this name. Raise AssertionError if there is none."""
    found = ElementTree.fromstring(xml).find(f".//{name}")
    assert found is not None, xml
    return found


def parameters(xml: str) -> dict[str, str]:
    """Return what the TwiML passes on to the stream."""
    nodes = ElementTree.fromstring(xml).iter("Parameter")
    return {node.attrib["name"]: node.attrib["value"] for node in nodes}
