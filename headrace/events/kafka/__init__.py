"""The event log on Kafka: a way in, and the way from there into the database."""

import warnings

with warnings.catch_warnings():
    # kafka-python reads its schemas in a way that Python 3.11 calls old.
    warnings.simplefilter("ignore", DeprecationWarning)
    import kafka.admin  # noqa: F401
