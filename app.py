"""The phone line for an OpenAI agent: Twilio's webhook, its media stream, and a health check."""

import functools
import logging
import signal
import sys
from threading import Thread

import requests
from flask import Flask, abort, render_template, request
from flask_sock import Sock
from twilio.request_validator import RequestValidator
from werkzeug.serving import make_server
from wsproto.utilities import ProtocolError

from utils import log, settings
from voice_handler import DRAINING, VoiceHandler
from workflow_client import FAILURES, WorkflowClient

app = Flask(__name__)
# A thread that does nothing takes the place of simple-websocket's reader: `read_stream` reads.
socket_options = {"max_message_size": 65536, "thread_class": lambda **_: Thread()}
app.config.update(MAX_CONTENT_LENGTH=65536, SOCK_SERVER_OPTIONS=socket_options, SETTINGS=settings)
app.register_error_handler(ProtocolError, lambda _: ("", 400))  # a handshake that breaks the rules
sock, template = Sock(app), app.jinja_env.get_template
workflow = functools.cache(lambda: WorkflowClient(settings()))


@app.before_request
def refuse_strangers() -> None:
    """Answer 403, before any upgrade, to what Twilio has not signed for our public address.

    A stream that is too much gets 503: Twilio goes on with the TwiML, and comes back.
    """
    if request.path != "/health":
        url = settings().webhook_url + request.environ.get("RAW_URI", request.full_path)
        url = url.replace("http", "ws", 1) if request.path == "/media-stream" else url
        signed = request.headers.get("X-Twilio-Signature", "")
        if not RequestValidator(settings().twilio_auth_token).validate(url, request.form, signed):
            log.warning("refused %s: Twilio has not signed it for %s", request.path, url)
            abort(403)
    if request.path == "/media-stream" and full():
        abort(503)
    request.environ.pop("HTTP_SEC_WEBSOCKET_EXTENSIONS", None)  # offers to compress


def full() -> bool:
    """Tell whether to take no more calls."""
    return DRAINING.is_set() or len(workflow().calls) >= settings().max_calls


@app.get("/health")
def health() -> tuple[dict[str, str], int]:
    """Tell an uptime monitor, or a load balancer, whether to send callers here."""
    return ({"status": "draining"}, 503) if DRAINING.is_set() else ({"status": "healthy"}, 200)


@app.post("/voice")
def voice() -> tuple[str, dict[str, str]]:
    """Connect a call to its stream; if that breaks, Twilio comes back with the conversation."""
    call = [request.form.get(field, "") for field in ("CallSid", "From", "To")]
    talk, busy = request.args.get("conversation", ""), full()
    try:
        talk = talk if talk or busy else workflow().start(*call)
    except FAILURES as error:  # the first message will try again
        log.error("[%s] no conversation with the workflow yet: %s", call[0], error)
    return render_template("voice.xml", conversation=talk, busy=busy), {"Content-Type": "text/xml"}


@sock.route("/media-stream")
def media_stream(twilio: object) -> None:
    """Carry one call."""
    VoiceHandler(twilio, settings(), workflow(), control).read_stream()


def control(action: str, call_sid: str, called: str) -> None:
    """Hang up, or transfer to TRANSFER_NUMBER, by Twilio's REST API. An OSError tells why not."""
    key = settings().twilio_account_sid, settings().twilio_auth_token
    url = f"{settings().twilio_api_url}/2010-04-01/Accounts/{key[0]}/Calls/{call_sid}.json"
    twiml = template("transfer.xml").render(called=called)
    change = {"Twiml": twiml} if action == "[transfer]" else {"Status": "completed"}
    requests.post(url, change, auth=key, timeout=5).raise_for_status()


def start() -> None:
    """Open the log, check the settings and print the banner; SettingsError ends the program."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("werkzeug").setLevel("WARNING")
    log.setLevel("INFO")
    print(template("started.txt").render(), flush=True)


if __name__ == "__main__":
    start()
    signal.signal(signal.SIGTERM, lambda *_: DRAINING.set())
    server = make_server("0.0.0.0", settings().port, app, threaded=True)
    # Called twice a second: here the server ends when the last call has been handed over.
    server.service_actions = lambda: DRAINING.is_set() and not workflow().calls and sys.exit()  # type: ignore[method-assign,assignment]
    server.serve_forever()
