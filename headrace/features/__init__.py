"""Features: Feast over the live views, for predictions and for training sets."""

from headrace.features.reader import FeatureReader

__all__ = ["FeatureReader"]
