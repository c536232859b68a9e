"""Feast over the live views: definitions, and the two stores that read them."""
