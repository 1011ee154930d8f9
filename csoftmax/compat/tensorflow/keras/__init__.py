"""``tf.keras``: `losses` and `utils`."""

from csoftmax.compat.tensorflow.keras import losses, utils

__all__ = ["losses", "utils"]
