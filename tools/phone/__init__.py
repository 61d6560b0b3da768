"""A phone in the browser, on the real phone path: `python -m tools.phone`."""
