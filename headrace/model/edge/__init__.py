"""A version as a folder that answers by itself, without Headrace and without a network."""
