from csoftmax.kernels.baseline import *  # noqa: F403
