"""How many calls one core carries, and how late their sound is: `python -m tools.bench`."""
