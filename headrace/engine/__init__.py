"""The engine: a PostgreSQL or a RisingWave, reached by one interface."""

from headrace.engine.reach import DIALECTS, Engine, Say, open_engine

__all__ = ["DIALECTS", "Engine", "Say", "open_engine"]
