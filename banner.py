"""What is printed once the app listens."""

from settings import Settings

RULE = "=" * 70


def tell_started(settings: Settings) -> None:
    """Print what answers, where it listens, what Twilio must be given, and what is doubtful."""
    lines = [
        RULE,
        "VOICE AGENT SYSTEM STARTED",
        RULE,
        f"Workflow ID: {settings.agent_workflow_id}",
        RULE,
        settings.origin.summary,
        f"Starting server on port {settings.port}...",
        f"In Twilio's Console: A call comes in, Webhook, {settings.webhook_url}/voice, HTTP POST",
        *settings.warnings(),
    ]
    print("\n".join(lines), flush=True)
