"""Which base makes the vectors of a model's inputs."""

from __future__ import annotations

from headrace.declared import chosen, read_declared
from headrace.model.text.config import Config
from headrace.model.text.vectors import Embedder, shared_embedder
from headrace.settings import Settings


def embedder_of(settings: Settings, model: str) -> Embedder:
    """Return the embedder of a model: of the base that `headrace.toml` declares for its texts.

    It is the base that Headrace brings where none is declared.

    Raises:
        ModelError: the base cannot be loaded.
        SettingError: the file is wrong.
    """
    config = Config()
    declared = read_declared(settings.models_path).get(model)
    if declared is not None and declared.recipe:
        _, found = chosen(declared, f"{settings.models_path.name}: models.{model}")
        if isinstance(found, Config):
            config = found
    return shared_embedder(config.base, config.tokens)
