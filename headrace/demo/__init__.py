"""The demo: a real stream, a model that degrades, and the loop that keeps it up to date."""
