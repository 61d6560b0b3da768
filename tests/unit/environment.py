"""Settings that a test can start from, and what proxies make of a request's headers."""

REQUIRED = {
    "twilio_account_sid": "AC" + "0123456789abcdef" * 2,
    "twilio_auth_token": "fedcba9876543210" * 2,
    "twilio_phone_number": "+15550001111",
    "webhook_url": "https://voice.example.com",
    "openai_api_key": "sk-proj-" + "A1b2" * 10,
    "agent_workflow_id": "workflow.json",
}

REWRITTEN = [
    {"X-Forwarded-Host": "voice.example.com", "X-Forwarded-Proto": "https"},
    {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http"},
    {"Host": "10.0.0.7:8080", "X-Forwarded-Port": "8080", "X-Forwarded-For": "10.1.1.1"},
    {"Forwarded": "host=evil.example;proto=http", "X-Original-URL": "/other"},
]
