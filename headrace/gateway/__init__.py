"""The gateway: events in, predictions out, over HTTP."""
