"""The trainer: from a due trigger to a published version.

watch ─► claim ─► brief ─► run (dataset, finetune, gate, suspicion) ─► publish
"""
