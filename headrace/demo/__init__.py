"""The demo: a real stream, a model that falls behind, and the loop that catches it up."""
