# What the Cython kernels use of the headers.
from libc.stddef cimport ptrdiff_t
from libc.stdint cimport int32_t, int64_t, uint16_t, uintptr_t
from libcpp cimport bool as cpp_bool


cdef extern from "simd.hpp" namespace "csoftmax" nogil:
    const Py_ssize_t REGISTER_BYTES
    cdef cppclass Vec[T]:
        Vec operator+(Vec)
        Vec operator-(Vec)
        Vec operator*(Vec)
        Vec operator/(Vec)
    int lanes_of[T](const T*)
    Vec[T] load[T](const T*)
    void store[T](T*, Vec[T])
    void end_stream()
    Vec[T] broadcast[T](T)
    T lane_value "csoftmax::lane"[T](const Vec[T]&, int)
    Vec[T] fma[T](Vec[T], Vec[T], Vec[T])

cdef extern from "outgoing.hpp" namespace "csoftmax" nogil:
    const bint SENDS
    cdef cppclass Outgoing:
        pass
    Outgoing outgoing(void* memory, ptrdiff_t room)
    void begin_rows(Outgoing&, char* out)
    char* place_of_results(const Outgoing&)
    void send_rows(Outgoing&, ptrdiff_t bytes)
    void send_columns(Outgoing&, char* out, ptrdiff_t n, ptrdiff_t width, ptrdiff_t stride)
    void end_sending(Outgoing&)

cdef extern from "exact.hpp" namespace "csoftmax" nogil:
    cdef cppclass Exact[T]:
        Vec[T] value, error
    Exact[T] exact[T](Vec[T])
    Exact[T] add_any[T](Exact[T], Exact[T])
    Vec[T] rounded[T](Exact[T])

cdef extern from "vecmath.hpp" namespace "csoftmax" nogil:
    cdef cppclass Anchor[T]:
        Exact[T] peak
        Vec[T] finite
    Vec[T] vec_exp "csoftmax::exp"[T](Vec[T])

cdef extern from "summation.hpp" namespace "csoftmax" nogil:
    const Py_ssize_t CHUNK, FEW, PLAIN
    enum:
        BLOCK
    cdef cppclass LaneSums[T]:
        Exact[T]* sum
        Exact[T]* weight
        Exact[T]* spread
    cdef cppclass Order:
        bint fold
        int registers
    Order order_of[T](const T*, bint fold, ptrdiff_t n, bint products)

cdef extern from "row.hpp" namespace "csoftmax" nogil:
    cdef cppclass Divisor[T]:
        pass
    cdef cppclass Row[T]:
        Vec[T] max
        Anchor[T] anchor
        Vec[T] ties
        Exact[T] sum, weight, spread
        Divisor[T] divisor
        Vec[T] factor, offset, total, lack, peak, again
    cdef cppclass ChunkOfRow[T]:
        T max
        bint kept
    void start[T](Row[T]&, Order, bint weighted)
    ChunkOfRow[T] take_chunk[T](const Row[T]&, bint weighted)
    void add_chunk[T](Row[T]&, const ChunkOfRow[T]&, bint weighted)
    void begin_chunk[T](const LaneSums[T]&, Order, bint weighted, ptrdiff_t vectors)
    void end_chunk[T](const LaneSums[T]&, Order, bint weighted, bint common, Row[T]*, ptrdiff_t vectors)
    void set_anchor_so_far[T](Row[T]&)
    int powers_below[T](const Row[T]& so_far, const Row[T]& whole)
    void lower_terms[T](Row[T]&, int powers)
    void start_pieces[T](Row[T]&, Order, bint weighted)
    void raise_anchor[T](Row[T]&, bint fold, bint weighted)
    void set_anchors[T](Row[T]*, ptrdiff_t vectors)
    void spread_anchor[T](const Row[T]& rows, int i, Order, bint weighted, Row[T]& row)
    void spread_result[T](const Row[T]& rows, int i, Row[T]& row)
    void gather_maximum[T](Row[T]& rows, int i, const Row[T]& row)
    void gather_sums[T](Row[T]& rows, int i, bint weighted, const Row[T]& row)
    Vec[T] x_log_y[T](Vec[T], Vec[T])
    Vec[T] minus_ratio[T](Vec[T], Vec[T])
    Divisor[T] make_divisor "csoftmax::divisor"[T](Exact[T])
    Vec[T] divide[T](Vec[T], const Divisor[T]&)
    Exact[T] sum_of_terms[T](const Row[T]&, bint apart)

cdef extern from "logsumexp.hpp" namespace "csoftmax" nogil:
    void find_offsets[T](Row[T]*, ptrdiff_t vectors)
    void find_logsumexp[T](Row[T]*, ptrdiff_t vectors)
    bint any_again[T](const Row[T]&)
    void add_exact_terms[T](const T*, ptrdiff_t stride, ptrdiff_t steps, const Row[T]*, Exact[T]*)
    Vec[T] logsumexp_again[T](const Row[T]&, Vec[T] usual)

cdef extern from "loss.hpp" namespace "csoftmax" nogil:
    cdef cppclass Samples[T]:
        T* class_weight
        T* scale
        T* loss
        T kept, spread
    cdef cppclass Weights[T]:
        const T* data
        ptrdiff_t stride
        bint common
    void find_losses[T](Row[T]*, ptrdiff_t vectors, bint weighted, bint label, T* at_label, Samples[T]&)

cdef extern from "loops.hpp" namespace "csoftmax" nogil:
    void find_row_terms[T](const T* x, T* e, ptrdiff_t steps, const Row[T]* row)
    void find_terms[T](const T* x, ptrdiff_t stride, T* e, ptrdiff_t e_stride, ptrdiff_t steps,
                       const Row[T]* rows, ptrdiff_t vectors, Outgoing*)
    void find_maxima[T](const T* x, ptrdiff_t stride, ptrdiff_t steps, Row[T]*, ptrdiff_t vectors)
    ptrdiff_t add_blocks_of_columns[T](const T* x, ptrdiff_t stride, T* e, ptrdiff_t e_stride, ptrdiff_t steps,
                                       Order, Row[T]*, ptrdiff_t vectors, Exact[T]* lanes, Outgoing*)
    void add_terms[T](const T* e, ptrdiff_t stride, ptrdiff_t steps, bint apart, Order, Row[T]*,
                      ptrdiff_t vectors, Exact[T]* lanes)
    void add_products[T](const T* y, ptrdiff_t stride, const T* grad, ptrdiff_t grad_stride,
                         ptrdiff_t steps, Order, ptrdiff_t vectors, Exact[T]* lanes)
    void add_weights[T](const T* x, ptrdiff_t stride, const Weights[T]&, ptrdiff_t steps, Order, const Row[T]*,
                        ptrdiff_t vectors, const LaneSums[T]&)

cdef extern from "column_results.hpp" namespace "csoftmax" nogil:
    void write_products[T](const T* y, ptrdiff_t stride, const T* grad, ptrdiff_t grad_stride, T* out,
                           ptrdiff_t out_stride, ptrdiff_t steps, const Row[T]*, ptrdiff_t vectors,
                           bint streamed)
    void divide_terms[T](const T* x, ptrdiff_t stride, T* out, ptrdiff_t out_stride, ptrdiff_t steps,
                         bint kept, const Row[T]*, ptrdiff_t vectors, bint streamed)
    void write_log_softmax[T](const T* x, ptrdiff_t stride, T* out, ptrdiff_t out_stride,
                              ptrdiff_t steps, const Row[T]*, ptrdiff_t vectors, bint streamed)
    void write_gradients[T](const T* x, ptrdiff_t stride, const Weights[T]&, T* out,
                            ptrdiff_t out_stride, ptrdiff_t steps, bint kept, bint weighted,
                            const Row[T]*, ptrdiff_t vectors, bint streamed)

cdef extern from "problem.hpp" namespace "csoftmax" nogil:
    cdef cppclass View:
        char* data
        ptrdiff_t outer_stride, lane_stride, class_stride, run
        ptrdiff_t run_count[3]
        ptrdiff_t run_stride[3]
        bint half
        const char* mask
        ptrdiff_t mask_lane_stride, mask_class_stride
        double temperature
        uintptr_t end
    ptrdiff_t ahead_of(const View&, const void* p, ptrdiff_t bytes)
    bint lanes_adjacent(const View&)
    bint plain(const View&, ptrdiff_t stride, ptrdiff_t size)
    cdef cppclass Problem:
        View x, y, out, class_weight, loss
        ptrdiff_t outer, lanes, n
        const char* label
        int label_kind, scale_bytes
        long double factor
        const char* scale
        ptrdiff_t label_outer_stride, label_stride, scale_outer_stride, scale_stride
        double smoothing
        int64_t ignore_index
        ptrdiff_t count
        ptrdiff_t group, head, width, tile_classes
        bint streamed, direct, wide
        ptrdiff_t packed, ahead, out_ahead, aside
        Outgoing* outgoing
        int row_threads
        bint piecewise, kept
    bint has_weights(const Problem&)
    Problem matrix(const Problem&, ptrdiff_t outer)
    Problem part(const Problem&, ptrdiff_t outer, ptrdiff_t lane, ptrdiff_t lanes)
    int64_t read_label(const char* at, int kind)
    uint16_t float_to_half(float)
    void set_end(View&, const Problem&, ptrdiff_t size)
    T read_like[T](const T*, const char*, bint half)  # T is that of the first
    void write[T](char*, T, bint half)

cdef extern from "tile.hpp" namespace "csoftmax" nogil:
    enum:
        MAX_LANES
    const ptrdiff_t NEXT
    ptrdiff_t round_up(ptrdiff_t n, ptrdiff_t unit)
    cdef cppclass Scratch[T]:
        T tiles[2][4096]
        LaneSums[T] lane_sums
        T* packed
        ptrdiff_t kept_from
    void load_tile[T](T* tile, const View&, ptrdiff_t lane, ptrdiff_t lanes,
                      ptrdiff_t j0, ptrdiff_t j1, ptrdiff_t width, T fill)
    void store_tile[T](const T* tile, const View&, ptrdiff_t lane, ptrdiff_t lanes,
                       ptrdiff_t j0, ptrdiff_t j1, ptrdiff_t width, T fill)
    void weigh_targets[T](T* tile, const View& class_weight, ptrdiff_t j0, ptrdiff_t j1,
                          ptrdiff_t width, T scale, T offset)
    void divide_rows[T](const T*, const Problem&, ptrdiff_t lane, ptrdiff_t lanes)

cdef extern from "operations.hpp" namespace "csoftmax" nogil:
    cdef enum Operation:
        SOFTMAX
        LOG_SOFTMAX
        LOGSUMEXP
        LOGSUMEXP_AGAIN
        CROSS_ENTROPY
        ENTROPY
        TOPK
        SAMPLE
        SOFTMAX_VJP
        LOG_SOFTMAX_VJP
        CCE
        CCE_GRADIENT
    cdef enum Sweep:
        MAXIMUM
        ADD_UP
        WRITE
    cdef enum Step:
        START_ROWS
        ADD_PIECE
        FIND_LOSSES
        WRITE_PIECE
    bint takes_pair(Operation)
    bint writes_rows(Operation)

cdef extern from "few_columns.hpp" namespace "csoftmax" nogil:
    cdef cppclass Columns[T]:
        T* data
        ptrdiff_t stride, ahead
        bint dense
    void copy_and_fill[T](T* to, const void* rows, ptrdiff_t entries, ptrdiff_t whole, T fill)
    bint lie_dense[T](const T*, const View&, ptrdiff_t n)

cdef extern from "few_classes.hpp" namespace "csoftmax" nogil:
    enum:
        FEW_CLASSES
    void compute_few_classes[T](Operation, ptrdiff_t n, const Columns[T]& x, const Columns[T]& out, Row[T]*,
                                ptrdiff_t vectors)
    void sum_some_again[T](const Columns[T]& x, ptrdiff_t n, ptrdiff_t vectors, Row[T]*)
    void multiply_few_classes[T](ptrdiff_t n, const Columns[T]& y, const Columns[T]& grad, const Columns[T]& out,
                                 ptrdiff_t vectors)

cdef extern from "row_products.hpp" namespace "csoftmax" nogil:
    bint multiplies_rows[T](const T*, const Problem&)
    void multiply_rows[T](const T*, const Problem&, ptrdiff_t lane, ptrdiff_t lanes)

cdef extern from "few_losses.hpp" namespace "csoftmax" nogil:
    enum:
        NO_LABEL
        IGNORED
    void find_losses_of_few_classes[T](ptrdiff_t n, const Columns[T]& x, const Columns[T]& w, bint weighted,
                                       bint labelled, const Columns[T]& out, const T* label, Samples[T]&,
                                       ptrdiff_t vectors)

cdef extern from "wide_columns.hpp" namespace "csoftmax" nogil:
    void add_classes[T](const T* x, ptrdiff_t stride, T* e, ptrdiff_t e_stride, const Weights[T]&, ptrdiff_t steps,
                        bint apart, bint weighted, Order, Row[T]*, ptrdiff_t vectors, const LaneSums[T]&)
    ptrdiff_t bytes_of_columns[T](const T*, ptrdiff_t lanes)
    void multiply_columns[T](const T* y, ptrdiff_t stride, const T* grad, ptrdiff_t grad_stride, T* out,
                             ptrdiff_t out_stride, ptrdiff_t n, ptrdiff_t lanes, bint streamed,
                             void* memory)

cdef extern from "rows.hpp" namespace "csoftmax" nogil:
    bint sweeps_rows[T](const T*, Operation, const Problem&)
    cdef enum Weighing:
        BY_TARGET
    Weighing weighing_of[T](const T*, const Problem&)
    void sweep_rows[T](Operation, Sweep, const Problem&, ptrdiff_t lane, ptrdiff_t lanes, ptrdiff_t j0,
                       ptrdiff_t j1, T* terms, int powers, Row[T]*)

ctypedef long double longdouble

cdef extern from "labels.hpp" namespace "csoftmax" nogil:
    bint read_labels(const Problem&, ptrdiff_t lane, ptrdiff_t lanes, int64_t* labels)
    T sample_scale[T](const T*, const Problem&, ptrdiff_t lane)
    cdef cppclass LongSum[T]:
        long double value()
    void add_to_sum[T](LongSum[longdouble]&, const T*, ptrdiff_t n)
    long double sum_weights[T](const Problem&, cpp_bool weighted, cpp_bool ignores, cpp_bool& bad)

cdef extern from "kernels.hpp" namespace "csoftmax" nogil:
    cdef cppclass Kernels:
        Py_ssize_t size
        const void* one
        void (*run)(Operation, Problem&, int threads) noexcept
        long double (*sum_weights)(const Problem&, cpp_bool weighted, cpp_bool ignores, cpp_bool& bad) noexcept
        void (*add_to_sum)(LongSum[longdouble]&, const char* x, Py_ssize_t n) noexcept
        Py_ssize_t (*bytes_of_rows)(Py_ssize_t lanes) noexcept
        void (*take_step)(char* memory, Step, Problem&, Py_ssize_t first, Py_ssize_t last, int threads) noexcept
        cpp_bool (*multiply)(const View& a, const View& b, const View& out, Py_ssize_t rows, Py_ssize_t terms,
                             Py_ssize_t columns, cpp_bool add, int threads) noexcept

cdef extern from "entropy.hpp" namespace "csoftmax" nogil:
    void add_entropy[T](const T* x, ptrdiff_t stride, const T* e, ptrdiff_t e_stride,
                        ptrdiff_t steps, Order, const Row[T]*, ptrdiff_t vectors, const LaneSums[T]&)
    Vec[T] row_entropy "csoftmax::entropy"[T](const Row[T]&)

cdef extern from "topk.hpp" namespace "csoftmax" nogil:
    void select_top[T](const T* x, ptrdiff_t stride, const Problem&, ptrdiff_t lane, ptrdiff_t lanes,
                       ptrdiff_t j0, ptrdiff_t j1)
    void finish_top[T](const Problem&, ptrdiff_t lane, T max, T offset)

cdef extern from "sampling.hpp" namespace "csoftmax" nogil:
    ptrdiff_t sampled_lanes[T](const T*, const Problem&, ptrdiff_t threads)
    void sample_lanes[T](const T*, const Problem&, ptrdiff_t lane, ptrdiff_t lanes)

cdef extern from "product.hpp" namespace "csoftmax" nogil:
    cdef cppclass Matrix[T]:
        T* data
        ptrdiff_t rows, columns, row_stride, column_stride
    ptrdiff_t product_scratch[T](const T*)
    void multiply_part[T](const Matrix[T]& a, const Matrix[T]& b, const Matrix[T]& out, bint add,
                          ptrdiff_t number, ptrdiff_t parts, T* scratch)
