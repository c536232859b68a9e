"""A version behind plain FastAPI: one request is one forward pass, on the threads of FastAPI.

``python -m benchmarks.plain FOLDER PORT`` serves the version in a folder at ``POST /predict``; a
text classifier's encoder is torch's, with the adapter merged. Nothing is logged.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from headrace.model.inputs import Example
from headrace.model.recipe import Predictor
from headrace.trainer.recipes import load


class Asked(BaseModel):
    """A request."""

    text: str
    request_id: str | None = None


def app(predictor: Predictor) -> FastAPI:
    """Return the application."""
    made = FastAPI()

    @made.post("/predict")
    def predict(asked: Asked) -> dict[str, Any]:
        (row,) = predictor.predict([Example(asked.text)])
        scores = dict(zip(predictor.labels, map(float, row), strict=True))
        return {"prediction": max(scores, key=scores.__getitem__), "scores": scores}

    return made


def by_torch(folder: Path) -> Predictor:
    """Load a version; torch answers a text classifier's texts."""
    _, predictor = load(folder)
    if (folder / "adapter_model.safetensors").is_file():
        from headrace.model.text.encoder import shared_encoder
        from headrace.model.text.lora import Lora
        from headrace.model.text.version import TextClassifier, read_config

        assert isinstance(predictor, TextClassifier)
        base = shared_encoder(read_config(folder)["base"])
        return replace(predictor, encoder=base.merged(Lora.read(folder)))
    return predictor


if __name__ == "__main__":
    folder, port = sys.argv[1:]
    uvicorn.run(app(by_torch(Path(folder))), port=int(port), log_level="warning", access_log=False)
