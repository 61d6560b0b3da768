"""What the app is measured against: a bridge as anybody would write it with the same libraries.

It relays sound both ways, without signatures, workflow, marks or timers.
"""

import json
import os
from contextlib import suppress
from threading import Thread
from typing import Any

from flask import Flask, request
from flask_sock import Sock
from websocket import WebSocket, WebSocketException, create_connection

TWIML = """<Response><Connect><Stream url="wss://voice.example.com/media-stream">
<Parameter name="caller" value="{}"/></Stream></Connect></Response>"""
PCMU = {"format": {"type": "audio/pcmu"}}
SESSION = {"type": "realtime", "audio": {"input": PCMU, "output": PCMU}}
GREETING = {
    "type": "message",
    "role": "user",
    "content": [{"type": "input_text", "text": "Hello!"}],
}

app = Flask(__name__)
sock = Sock(app)


@app.get("/health")
def health() -> dict[str, str]:
    """Tell that it is up."""
    return {"status": "healthy"}


@app.post("/voice")
def voice() -> tuple[str, dict[str, str]]:
    """Connect a call to its stream."""
    return TWIML.format(request.form["From"]), {"Content-Type": "text/xml"}


@sock.route("/media-stream")
def media_stream(twilio: Any) -> None:
    """Relay one call."""
    url = f"ws{os.environ['OPENAI_BASE_URL'][4:]}/realtime?model=gpt-realtime-2.1-mini"
    key = {"Authorization": f"Bearer {os.environ['OPENAI_API_KEY']}"}
    realtime = create_connection(url, header=key)
    realtime.send(json.dumps({"type": "session.update", "session": SESSION}))
    realtime.send(json.dumps({"type": "response.create", "response": {"input": [GREETING]}}))
    try:
        while True:
            message = json.loads(twilio.receive())
            if message["event"] == "media":
                audio = message["media"]["payload"]
                realtime.send(json.dumps({"type": "input_audio_buffer.append", "audio": audio}))
            elif message["event"] == "start":
                Thread(target=speak, args=[realtime, twilio, message["streamSid"]]).start()
            elif message["event"] == "stop":
                break
    finally:
        realtime.close()


def speak(realtime: WebSocket, twilio: Any, stream_sid: str) -> None:
    """Relay what Realtime says."""
    with suppress(WebSocketException, OSError, ValueError):
        while True:
            event = json.loads(realtime.recv())
            if event["type"] == "response.output_audio.delta":
                media = {"payload": event["delta"]}
                twilio.send(json.dumps({"event": "media", "streamSid": stream_sid, "media": media}))
