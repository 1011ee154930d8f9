import numpy as np

openmp: bool

def get_num_threads() -> int: ...
def set_num_threads(n: int) -> int: ...
def set_forked() -> None: ...

softmax: np.ufunc
softmax_where: np.ufunc
log_softmax: np.ufunc
log_softmax_where: np.ufunc
logsumexp: np.ufunc
logsumexp_where: np.ufunc
softmax_vjp: np.ufunc
log_softmax_vjp: np.ufunc
cce: np.ufunc
cce_gradient: np.ufunc
cross_entropy_labels: np.ufunc
cross_entropy_labels_with_grad: np.ufunc
cross_entropy_probabilities: np.ufunc
cross_entropy_probabilities_with_grad: np.ufunc
