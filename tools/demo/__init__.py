"""One scripted phone call through the real app, shown live: `python -m tools.demo`."""
