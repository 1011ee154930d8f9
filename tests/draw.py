"""Random shapes, axes, numbers, memory layouts and junk for test_fuzz.py, all from one seed."""

import math

import numpy as np

SIDES = [0, 1, 1, 2, 2, 3, 5, 8, 9, 17, 24]
FLOATS = [*["float32", "float64"] * 3, "float16", "longdouble"]
INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
OTHERS = ["complex64", "complex128", "object", "U3", "S3", "M8[s]", "m8[s]", [("a", "f8")]]
SCALARS = [
    *(None, True, False, np.True_, 0, 1, 2, -1, -5, 2**70, np.int8(1), np.uint64(2), np.array(1)),
    *(0.5, 1.5, -0.5, math.nan, math.inf, np.float16(0.5), np.array(0.5), 1j, (), (0,), (0, 1)),
    *((1, -1), (0, 0), (-3, 0), (0.0,), [], [0], [[0], [0, 1]], [0.5, 0.5], {}, slice(None), ...),
    *("", "mean", "sum", "none", "median", b"mean", "float32", ">f8", "int8", np.float32, object()),
]


class Draw:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def one_of(self, choices):
        return choices[self.rng.integers(len(choices))]

    def shape(self, min_dims=0, max_dims=5, limit=None):
        limit = limit or self.one_of([20000] * 29 + [150000])  # the last for several threads
        shape = [self.one_of(SIDES) for _ in range(self.rng.integers(min_dims, max_dims + 1))]
        if shape:
            length = self.one_of([*SIDES, *self.rng.integers(1, 210, 12), 511, 4095, 4096, 8193])
            shape[self.rng.integers(len(shape))] = int(length)
        while math.prod(shape) > limit:
            shape[shape.index(min(n for n in shape if n > 1))] = 1
        return tuple(shape)

    def axis(self, shape):
        some = tuple(self.rng.permutation(len(shape))[: self.rng.integers(len(shape) + 1)].tolist())
        one = range(-len(shape), len(shape))
        return self.one_of(
            [self.one_of(one), self.one_of(one), some, None] if shape else [None, ()]
        )

    def numbers(self, shape, special=True, dtype=None):
        """Of any real dtype, floats mostly; `special`: with zeros, infinities and the like."""
        rng, dtype = self.rng, np.dtype(dtype or self.one_of([*FLOATS * 3, *INTEGERS, "bool"]))
        if dtype.kind == "b":
            return np.asarray(rng.random(shape) < 0.5)
        limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
        special = special and self.one_of([True, False])
        if dtype.kind in "iu":
            a = np.asarray(rng.integers(max(limits.min, -100), 101, shape), dtype)
            odd = [limits.min, limits.max, 0]
        else:
            spread, offset = self.one_of([(1, 0), (1, 0), (10, 0), (80, 0), (5, -900), (5, 1100)])
            a = np.asarray(rng.normal(size=shape) * spread + offset, dtype)
            odd = [-np.inf, -np.inf, 0.0, -0.0, limits.tiny / 4, 1, limits.max / 64]
            odd += self.one_of([[], [], [np.inf], [np.nan], [-limits.max / 64]])
        if special:
            where = rng.random(shape) < self.one_of([0.02, 0.3, 1])
            a = np.where(where, np.array(odd, dtype)[rng.integers(len(odd), size=shape)], a)
        if self.one_of([True, *[False] * 7]):
            some = [self.one_of([slice(None), slice(1)]) for _ in shape]
            a = np.broadcast_to(a[(*some, ...)], shape)
        return np.asarray(a)

    def lay_out(self, a):
        """The same values in any order, stride, alignment and byte order, in a larger buffer."""
        order, steps, dtype, before, after = np.arange(a.ndim), [1] * a.ndim, a.dtype, 64, 65
        if self.one_of([True, False]):
            order = self.rng.permutation(a.ndim)
            steps = [self.one_of([1, 1, 1, -1, 2, -3]) for _ in order]
            dtype = dtype.newbyteorder(self.one_of(["=", "=", "S"]))
            # 0: the end of the memory, for AddressSanitizer (tools/sanitize)
            before, after = self.one_of([(64, 65), (65, 64), (0, 0)])
        sides = [n * abs(s) for n, s in zip(a.shape, steps, strict=True)]
        size = math.prod(sides) * dtype.itemsize
        whole = np.full(before + size + after, 85, np.uint8)[before : before + size].view(dtype)
        view = whole.reshape([sides[i] for i in order]).transpose(np.argsort(order))
        view = view[(*(slice(None, None, s) for s in steps), ...)]
        view[...] = a
        return view

    def output(self, like, *operands):
        """The operands laid out, and as `out` nothing, any array, an operand, or what overlaps."""
        laid, kind = [self.lay_out(a) for a in operands], self.one_of(["none", "any", "overlap"])
        usable = [
            i for i, a in enumerate(operands) if (a.dtype, a.shape) == (like.dtype, like.shape)
        ]
        if kind == "none":
            return *laid, None
        if kind == "any" or not usable:
            return *laid, self.lay_out(np.full_like(like, 7))
        i, shift = self.one_of(usable), self.one_of(["operand", 0, 1, 3])
        if shift == "operand":
            return *laid, laid[i]
        buffer = np.zeros(like.size + shift, like.dtype)
        ends = [buffer[shift:][:: self.one_of([1, -1])], buffer[: like.size]]
        laid[i], out = (ends[k].reshape(like.shape) for k in self.one_of([(0, 1), (1, 0)]))
        laid[i][...] = operands[i]
        return *laid, out

    def junk(self, shape):
        """Anything at all, often an array of nearly this shape."""
        if self.one_of([True, False]):
            return self.one_of(SCALARS)
        shapes = [shape, shape, shape[1:], shape[:-1], shape[::-1], (*shape, 1), (2, *shape)]
        shape = self.one_of([*shapes, (1,) * len(shape), (*shape[:-1], 3), (*shape, 0)])
        a = np.asarray(self.rng.integers(-1, 6, shape))
        a = a.astype(self.one_of([*FLOATS, *INTEGERS, "bool", *OTHERS]))
        if self.one_of([True, False, False]):
            a.flags.writeable = False
        return self.one_of([a, a, a if a.dtype.hasobject else self.lay_out(a), a.tolist()])


def memory_beside(a):
    """The bytes around and between the entries of an array."""
    if a is None:
        return b""
    whole, entries = a, a.copy()
    while isinstance(whole.base, np.ndarray):
        whole = whole.base
    a[...] = 0
    beside = whole.tobytes()
    a[...] = entries
    return beside
