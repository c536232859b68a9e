"""Alerts that reach people: what ``headrace.alerts`` shows is told to declared receivers."""
