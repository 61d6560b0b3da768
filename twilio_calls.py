"""What Twilio is told to do with a call: as TwiML in answer to a webhook, or by its REST API."""

import re
from time import sleep
from urllib.parse import urlencode

import requests
from jinja2 import Environment

from call import Call
from logs import log
from places import Finished
from settings import Settings
from settings_values import E164

REST_SECONDS = 5.0  # in which the REST API must answer; by itself it would have for ever
REST_PAUSES = (0.5, 1.0)  # seconds, before it is asked again
CONNECT_SECONDS = 2.0  # in which it must be reached
URGENT_SECONDS = 2.0  # in which it must answer while the caller hears nothing


def voice_path(conversation: str, attempt: int, **more: str | int) -> str:
    """Return the path of `/voice` at which a call comes back."""
    return "/voice?" + urlencode({"conversation": conversation, "attempt": attempt, **more})


class TwilioCalls:
    """Changes calls from outside their streams (`call.CallControl`).

    See https://www.twilio.com/docs/voice/api/call-resource#update-a-call-resource.
    """

    def __init__(self, settings: Settings, templates: Environment, finished: Finished) -> None:
        """Ask nothing yet; `finished` is where calls are noted that were to be hung up."""
        self._settings = settings
        self._templates = templates
        self._finished = finished

    def hang_up(self, call: Call) -> None:
        """End the call. Raises OSError; if the call comes back all the same, it `is_finished`."""
        self._finished.add(call.sid)
        self._update(call, Status="completed")

    def transfer(self, call: Call) -> None:
        """Connect the caller to TRANSFER_NUMBER; if nobody answers, the call comes back."""
        if not self._settings.transfer_number:
            raise OSError("TRANSFER_NUMBER is not set")
        afterwards = voice_path(call.conversation, call.attempt, since=call.since, after="transfer")
        twiml = self._render(
            "transfer.xml",
            caller_id=self._caller_id(call),
            afterwards=self._settings.webhook_url + afterwards,
        )
        self._update(call, Twiml=twiml)

    def hold(self, call: Call) -> None:
        """Ask the caller to wait, and have the call come back to its opening."""
        comes_back = voice_path(
            call.conversation,
            call.attempt + 1,
            since=call.since,
            after="hold",
            opening=call.opening,
        )
        twiml = self._render("hold.xml", comes_back=self._settings.webhook_url + comes_back)
        self._post(call, URGENT_SECONDS, Twiml=twiml)

    def give_up(self, call: Call) -> None:
        """Say UNAVAILABLE, and end the call."""
        self._post(call, URGENT_SECONDS, Twiml=self._render("unavailable.xml"))

    def is_finished(self, call_sid: str) -> bool:
        """Whether the call has come back though it was to be hung up."""
        return call_sid in self._finished

    def _caller_id(self, call: Call) -> str:
        if re.fullmatch(E164, call.called):
            return call.called
        return self._settings.twilio_phone_number

    def _render(self, template: str, **values: str) -> str:
        return self._templates.get_template(template).render(settings=self._settings, **values)

    def _update(self, call: Call, **change: str) -> None:
        for number, pause in enumerate(REST_PAUSES, 2):
            try:
                return self._post(call, REST_SECONDS, **change)
            except (requests.HTTPError, requests.ConnectionError) as error:
                if error.response is not None and not is_passing(error.response.status_code):
                    raise
                again = f"retrying Twilio in {pause:.1f} s, attempt {number}"
                log.warning("[%s] %s: %s", call.sid, again, error)
            sleep(pause)
        return self._post(call, REST_SECONDS, **change)

    def _post(self, call: Call, seconds: float, **change: str) -> None:
        account = self._settings.twilio_account_sid
        url = f"{self._settings.twilio_api_url}/2010-04-01/Accounts/{account}/Calls/{call.sid}.json"
        key = (account, self._settings.twilio_auth_token)
        answer = requests.post(url, change, auth=key, timeout=(CONNECT_SECONDS, seconds))
        if answer.status_code != requests.codes.not_found:  # the call has ended by itself
            answer.raise_for_status()


def is_passing(status: int) -> bool:
    """Tell whether what was refused with an HTTP status may be granted in a moment."""
    return status == requests.codes.too_many_requests or status >= 500
