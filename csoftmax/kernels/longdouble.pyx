ctypedef long double real

include "kernels.pxi"
