"""The event log on Kafka: a way in, and the way from there into the database."""
