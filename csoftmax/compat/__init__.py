"""The functions of other libraries under their own names and signatures, on csoftmax's kernels."""
