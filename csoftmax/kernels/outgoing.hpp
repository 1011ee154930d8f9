// outgoing.hpp - Outgoing: results on their way to memory, past the caches.
//
// A few rows are worked on at a time. Their results are written to memory aside, which the first cache holds, and leave
// it in whole lines while the next terms are computed: stores past the caches that follow each other have to wait.
#pragma once

#include <utility>

#include "simd.hpp"

namespace csoftmax {

constexpr bool SENDS = REGISTER_BYTES >= LINE_BYTES;  // half lines take as long as they save

struct Outgoing {
    char* memory[2];         // that of the next results, and that of what goes out:
    const char* from;        // the next line of it,
    char* to;                // and its place;
    std::ptrdiff_t lines;    // of the run of lines that goes out,
    std::ptrdiff_t runs;     // and such runs after it,
    std::ptrdiff_t run, gap;  // of so many lines, with so many bytes between them
    // Of rows:
    std::ptrdiff_t before;   // bytes of the line behind them that are there already,
    std::ptrdiff_t foreign;  // or of the first line, and not part of the result
};

// `memory`: two times `room` bytes, in whole lines: those of some results, and one line beside.
inline Outgoing outgoing(void* memory, std::ptrdiff_t room) {
    Outgoing o = {};
    o.memory[0] = static_cast<char*>(memory);
    o.memory[1] = o.memory[0] + room;
    return o;
}
inline void begin_rows(Outgoing& o, char* out) {
    o.foreign = o.before = reinterpret_cast<std::uintptr_t>(out) % LINE_BYTES;
    o.to = out - o.before;
}
inline char* place_of_results(const Outgoing& o) { return o.memory[0] + o.before; }

template <int COUNT> CSOFTMAX_INLINE void send_lines(Outgoing& o) {
    constexpr int W = Vec<float>::LANES, BYTES = COUNT * LINE_BYTES;
    const float* from = reinterpret_cast<const float*>(o.from);
    float* to = reinterpret_cast<float*>(o.to);
    for (int k = 0; k < BYTES / int(sizeof(float)); k += W) stream(to + k, load(from + k));
    o.from += BYTES;
    o.to += BYTES;
    o.lines -= COUNT;
}
// What is left of a run.
CSOFTMAX_APART inline void end_run(Outgoing& o) {
    while (o.lines > 0) send_lines<1>(o);
    if (o.runs == 0) return;
    o.runs -= 1;
    o.to += o.gap;
    o.lines = o.run;
}
// As many lines as COUNT registers have, if that is one at least; none, if o is nullptr.
template <class T, int COUNT> CSOFTMAX_INLINE void send_registers(Outgoing* o) {
    constexpr int LINES = COUNT * Vec<T>::LANES * sizeof(T) / LINE_BYTES;
    if constexpr (!SENDS || LINES == 0) return;
    if (!o) return;
    if (o->lines >= LINES)
        send_lines<LINES>(*o);
    else if (o->lines + o->runs > 0)
        end_run(*o);
}
inline void send_rest(Outgoing& o) {
    while (o.lines + o.runs > 0) end_run(o);
}

// So many bytes of rows have been written, a line at least.
inline void send_rows(Outgoing& o, std::ptrdiff_t bytes) {
    constexpr std::ptrdiff_t LINE = LINE_BYTES;
    send_rest(o);
    const std::ptrdiff_t all = o.before + bytes;
    o.from = o.memory[0];
    o.lines = all / LINE;
    o.before = all % LINE;
    std::memcpy(o.memory[1], o.memory[0] + all - o.before, o.before);
    std::swap(o.memory[0], o.memory[1]);
    if (o.foreign == 0) return;
    std::memcpy(o.to + o.foreign, o.from + o.foreign, LINE - o.foreign);
    o.from += LINE;
    o.to += LINE;
    o.lines -= 1;
    o.foreign = 0;
}
// Or n classes of columns, each `width` bytes in whole lines of out, `stride` bytes apart.
inline void send_columns(Outgoing& o, char* out, std::ptrdiff_t n, std::ptrdiff_t width, std::ptrdiff_t stride) {
    send_rest(o);
    o.from = o.memory[0];
    o.to = out;
    o.lines = o.run = width / LINE_BYTES;
    o.runs = n - 1;
    o.gap = stride - width;
    std::swap(o.memory[0], o.memory[1]);
}
inline void end_sending(Outgoing& o) {
    send_rest(o);
    if (o.before > 0) std::memcpy(o.to, o.memory[0], o.before);
    end_stream();
}

}  // namespace csoftmax
