"""The softmax and cross-entropy functions of TensorFlow 2.21 and its Keras 3.15, for NumPy arrays.

TensorFlow itself is not needed: ``from csoftmax.compat import tensorflow as tf``, and ``tf.nn``,
``tf.math`` and ``tf.keras`` have what csoftmax covers. What differs:

- Arrays instead of tensors: NumPy arrays or anything that NumPy can read go in, arrays and NumPy
  scalars come out (no ``.numpy()``, no tapes, no graphs). `name` names nothing.
- float64 stays float64: a loss is computed in the dtype of `y_pred` unless `dtype` names another,
  and Python floats are float64. Keras casts to float32 unless told otherwise, TensorFlow makes
  Python floats float32.
- Integers and bools become float64 where TensorFlow refuses them. longdouble is accepted.
- float16 and bfloat16 are computed in float32; Keras clips and reduces in the dtype itself.
- A target probability of exactly 0 on a logit of -inf contributes 0, in TensorFlow NaN; an infinite
  one gives NaN, in TensorFlow inf.
- In `softmax_cross_entropy_with_logits` the labels broadcast to the logits, not the reverse.
- Integer labels have any integer dtype, in TensorFlow int32 or int64.
  `SparseCategoricalCrossentropy` does not round them to the loss's dtype, takes any `axis` (Keras:
  the last), and compares `ignore_class` with labels cut to integers.
- The losses take nested lists, where Keras mostly wants arrays. They are called and no more: no
  `get_config`, no masks of Keras.
- No SyntaxWarning for a single class. `keras.backend.epsilon` is always 1e-7.
- `label_smoothing` outside [0, 1] is refused, as is an `axis` of None in the losses.
- A bad argument raises TypeError, ValueError or IndexError where TensorFlow may raise
  InvalidArgumentError.
"""

from csoftmax import __version__ as _version
from csoftmax.compat.tensorflow import keras, math, nn

__all__ = ["keras", "math", "nn"]

__version__ = f"2.21.0+csoftmax.{_version}"
