"""A softmax classifier's loss by hand, as a course teaches it with TensorFlow.

    python examples/from_tensorflow.py

The cells are written for TensorFlow; only their import is another.
"""

# %% Imports
import numpy as np

from csoftmax.compat import tensorflow as tf  # was: import tensorflow as tf

print(tf.__version__)

# %% Artificial data: five samples as columns, with four features, of three classes
X = np.array([[6, 4, 7, 7, 7], [4, 3, 7, 8, 5], [5, 8, 4, 6, 5], [9, 6, 9, 5, 8]])
y = np.array([1, 2, 0, 2, 1])
num_features, num_labels = X.shape[0], 3
print(X)
print(y)

# %% One-hot labels
y = tf.keras.utils.to_categorical(y)
print(y)


# %% A generic layer
class Layer:
    def __init__(self):
        self.input = None
        self.output = None

    def forward(self, input):
        pass

    def backward(self, output_gradient, learning_rate):
        pass


# %% Softmax as a layer
class Softmax(Layer):
    def forward(self, input):
        self.input = input
        self.output = np.array(tf.nn.softmax(input))
        return self.output

    def backward(self, output_gradient, learning_rate):
        # Right for a column; on the vectors below, output.T would be output itself.
        identity = np.identity(np.size(self.output))
        return np.dot((identity - self.output.T) * self.output, output_gradient)


# %% Categorical cross-entropy; built in: tf.keras.losses.CategoricalCrossentropy()
def cce(y, yhat):
    return -np.sum(y * np.log(yhat))


def cce_gradient(y, yhat):
    return -y / yhat


# %% Step 1: a feature of ones, whose weights are the biases
X_bias = np.vstack((X, np.ones(X.shape[1])))
print(X_bias)

# %% Step 2: random weights
np.random.seed(0)  # noqa: NPY002
W = np.random.rand(num_labels, num_features + 1)  # noqa: NPY002

# %% Steps 3 and 4: a layer, and the loss of each sample
softmax = Softmax()
for i in range(X.shape[1]):
    z = np.dot(W, X_bias[:, i])
    softmax.forward(z)
    cce_loss = cce(y[i, :], softmax.output)
    gradient = cce_gradient(y[i, :], softmax.output)
    print(f"Sample {i}, Cross-Entropy Loss: {cce_loss} and Gradient: {gradient}")

# %% The gradient of the last sample
print(gradient)

# %% The built-in loss of all samples: the mean of the losses above
logits = np.dot(W, X_bias).T
loss = tf.keras.losses.CategoricalCrossentropy()
print(f"CategoricalCrossentropy: {loss(y, tf.nn.softmax(logits))}")
loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True)
print(f"CategoricalCrossentropy of logits: {loss(y, logits)}")
