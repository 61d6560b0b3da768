"""The phone line for an OpenAI agent: Twilio's webhook, its media stream, and a health check."""

import functools
import logging
from threading import Thread

import requests
from flask import Flask, abort, render_template, request
from flask_sock import Sock
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Dial, VoiceResponse
from werkzeug.serving import make_server

from utils import log, settings
from voice_handler import VoiceHandler
from workflow_client import FAILURES, WorkflowClient

BANNER = "=\nVOICE AGENT SYSTEM STARTED\n=\nWorkflow ID: {}\n=\nStarting server on port {}..."
NO_ASSISTANTS = "OpenAI ended the Assistants API on 2026-08-26: set AGENT_WORKFLOW_ID=workflow.json"


class NoThread(Thread):
    """What simple-websocket gets for its reader: `read_stream` runs it in the request's thread."""

    def start(self) -> None:
        """Start nothing."""


app = Flask(__name__)
socket_options = {"max_message_size": 65536, "thread_class": NoThread}
app.config.update(MAX_CONTENT_LENGTH=65536, SOCK_SERVER_OPTIONS=socket_options)
sock = Sock(app)
workflow = functools.cache(lambda: WorkflowClient(settings()))


@app.before_request
def refuse_strangers() -> None:
    """Answer 403, before any upgrade, to what Twilio has not signed for our public address."""
    if request.path != "/health":
        url = settings().webhook_url + request.environ.get("RAW_URI", request.full_path)
        url = url.replace("http", "ws", 1) if request.path == "/media-stream" else url
        signed = request.headers.get("X-Twilio-Signature", "")
        if not RequestValidator(settings().twilio_auth_token).validate(url, request.form, signed):
            log.warning("refused %s: Twilio has not signed it for %s", request.path, url)
            abort(403)


@app.get("/health")
def health() -> dict[str, str]:
    """Tell an uptime monitor that the service answers."""
    return {"status": "healthy"}


@app.post("/voice")
def voice() -> tuple[str, dict[str, str]]:
    """Connect a call to its stream; if that breaks, Twilio comes back with the conversation."""
    call = [request.form.get(field, "") for field in ("CallSid", "From", "To")]
    talk = request.args.get("conversation", "")
    try:
        talk = talk or workflow().start(*call)
    except FAILURES as error:  # the first message will try again
        log.error("[%s] no conversation with the workflow yet: %s", call[0], error)
    about = {"conversation": talk, "attempt": request.args.get("attempt", 0, type=int)}
    return render_template("voice.xml", settings=settings(), **about), {"Content-Type": "text/xml"}


@sock.route("/media-stream")
def media_stream(twilio: object) -> None:
    """Carry one call."""
    VoiceHandler(twilio, settings(), workflow(), control).read_stream()


def control(action: str, call_sid: str, called: str) -> bool:
    """Hang up, or transfer to TRANSFER_NUMBER, over Twilio's REST API; tell whether that worked."""
    key = settings().twilio_account_sid, settings().twilio_auth_token
    url = f"{settings().twilio_api_url}/2010-04-01/Accounts/{key[0]}/Calls/{call_sid}.json"
    twiml = VoiceResponse().append(Dial(settings().transfer_number, caller_id=called))
    change = {"Twiml": str(twiml)} if action == "[transfer]" else {"Status": "completed"}
    try:
        requests.post(url, change, auth=key, timeout=5).raise_for_status()
    except requests.RequestException as error:
        log.error("[%s] %s failed: %s", call_sid, action, error)
        return False
    return True


def start() -> None:
    """Open the log, check the settings and print the banner; SettingsError ends the program."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("werkzeug").setLevel("WARNING")
    log.setLevel("INFO")
    banner = BANNER.format(settings().agent_workflow_id, settings().port)
    print(banner.replace("=", "=" * 70), flush=True)
    if settings().agent_workflow_id.startswith("asst_") and not settings().agent_base_url:
        log.warning(NO_ASSISTANTS)


if __name__ == "__main__":
    start()
    make_server("0.0.0.0", settings().port, app, threaded=True).serve_forever()
