"""The trainer: what a due trigger becomes, from its claim to a published version."""
