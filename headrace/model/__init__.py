"""The model: its network, what it reads of an event, and its files."""
