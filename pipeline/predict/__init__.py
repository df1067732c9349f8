"""The command `predict`, and its Python API: a trained method on new images.

from pipeline.predict import Predictor
"""

from pipeline.predict.predictor import Prediction, Predictor

__all__ = ["Prediction", "Predictor"]
