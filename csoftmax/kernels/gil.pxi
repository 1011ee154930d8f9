# gil.pxi - what is known of the GIL, for functions that give it up and for the code of prange.
cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030D0000
    #define PyThreadState_GetUnchecked _PyThreadState_UncheckedGet
    #endif

    /* Whether this thread holds the GIL. PyGILState_Check() says yes to every thread once there has
       been a sub-interpreter, and the code of prange believes it: hence the macro. */
    static inline int holds_gil(void) {
        PyThreadState *mine = PyGILState_GetThisThreadState();
        return mine != NULL && mine == PyThreadState_GetUnchecked();
    }
    #define PyGILState_Check holds_gil
    """
    int holds_gil() nogil
