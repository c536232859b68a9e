"""Vectors of recent inputs: who makes them, and which are nearest."""
