"""Settings that a test can start from."""

REQUIRED = {
    "twilio_account_sid": "AC" + "0123456789abcdef" * 2,
    "twilio_auth_token": "fedcba9876543210" * 2,
    "twilio_phone_number": "+15550001111",
    "webhook_url": "https://voice.example.com",
    "openai_api_key": "sk-proj-" + "A1b2" * 10,
    "agent_workflow_id": "workflow.json",
}
