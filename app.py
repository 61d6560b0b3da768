"""The phone line for an OpenAI agent: Twilio's webhook, its media stream, and a health check."""

import functools
import logging
import sys
from typing import Any
from urllib.parse import urlencode

import requests
from flask import Flask, Response, abort, request
from flask_sock import Sock
from markupsafe import Markup
from twilio.request_validator import RequestValidator
from werkzeug.serving import make_server

import utils
from voice_handler import VoiceHandler
from workflow_client import WorkflowClient

log = logging.getLogger("voice_agent")
CONNECT = Markup(
    '<Response><Connect><Stream url="{}/media-stream">{}</Stream></Connect>'
    "<Redirect>/voice?{}</Redirect></Response>"
)
PARAMETER = Markup('<Parameter name="{}" value="{}"/>')
GIVE_UP = Markup("<Response><Say>{}</Say><Hangup/></Response>")
DIAL = Markup('<Response><Dial callerId="{}">{}</Dial></Response>')
BANNER = (
    "{0}\nVOICE AGENT SYSTEM STARTED\n{0}\nWorkflow ID: {1}\n{0}\nStarting server on port {2}..."
)
ASST = "Warning: OpenAI shut the Assistants API down on 2026-08-26; asst_ IDs need a compatible AGENT_BASE_URL. Against OpenAI use workflow.json: see the README."

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 65536
app.config["SOCK_SERVER_OPTIONS"] = {"max_message_size": 65536}
sock = Sock(app)
workflow = functools.cache(lambda: WorkflowClient(utils.settings()))


@app.before_request
def refuse_strangers() -> None:
    """Answer 403, before any upgrade, to what Twilio has not signed for our public address."""
    url = utils.settings().webhook_url + request.full_path.rstrip("?")
    if request.path == "/media-stream":
        url = "ws" + url.removeprefix("http")
    signature = request.headers.get("X-Twilio-Signature", "")
    validator = RequestValidator(utils.settings().twilio_auth_token)
    if request.path != "/health" and not validator.validate(url, request.form, signature):
        log.warning("refused %s, which Twilio has not signed for %s", request.path, url)
        abort(403)


@app.get("/health")
def health() -> dict[str, str]:
    """Tell an uptime monitor that the service answers."""
    return {"status": "healthy"}


@app.post("/voice")
def voice() -> Response:
    """Connect a call to its stream; if that breaks, Twilio comes back with the conversation."""
    call_sid, caller, called = (request.form.get(name, "") for name in ("CallSid", "From", "To"))
    attempt = request.args.get("attempt", 0, type=int)
    if attempt > 3:
        return Response(GIVE_UP.format(utils.settings().unavailable), mimetype="text/xml")
    conversation = request.args.get("conversation") or workflow().start(call_sid, caller, called)
    about = {"caller": caller, "called": called, "conversation": conversation, "attempt": attempt}
    parameters = Markup().join(PARAMETER.format(*item) for item in about.items())
    again = urlencode({"conversation": conversation, "attempt": attempt + 1})
    stream = "wss" + utils.settings().webhook_url.removeprefix("https")
    return Response(CONNECT.format(stream, parameters, again), mimetype="text/xml")


@sock.route("/media-stream")
def media_stream(ws: Any) -> None:
    """Carry one call."""
    VoiceHandler(ws, utils.settings(), workflow(), control).read_stream()


def control(action: str, call_sid: str, called: str) -> bool:
    """Hang up, or transfer to TRANSFER_NUMBER, over Twilio's REST API; tell whether that worked."""
    settings = utils.settings()
    account = f"{settings.twilio_api_url}/2010-04-01/Accounts/{settings.twilio_account_sid}"
    change = {"Status": "completed"}
    if action == "[transfer]":
        change = {"Twiml": DIAL.format(called, settings.transfer_number)}
    key = settings.twilio_account_sid, settings.twilio_auth_token
    try:
        requests.post(
            f"{account}/Calls/{call_sid}.json", change, auth=key, timeout=5
        ).raise_for_status()
        return True
    except requests.RequestException as error:
        log.error("[%s] %s failed: %s", call_sid, action, error)
        return False


def start() -> None:
    """Check the settings, open the log and print the banner; exit with every problem."""
    handler = logging.StreamHandler()
    handler.setFormatter(utils.MaskingFormatter())
    logging.basicConfig(handlers=[handler])
    log.setLevel(logging.INFO)
    try:
        settings, _ = utils.settings(), workflow()
    except ValueError as error:
        sys.exit(str(error))
    print(BANNER.format("=" * 70, settings.agent_workflow_id, settings.port))
    if settings.agent_workflow_id.startswith("asst_") and not settings.agent_base_url:
        print(ASST)


if __name__ == "__main__":
    start()
    make_server("0.0.0.0", utils.settings().port, app, threaded=True).serve_forever()
