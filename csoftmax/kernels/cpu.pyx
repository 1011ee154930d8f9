# cpu.pyx - which instruction sets this processor and operating system run; compiled for neither.
cdef extern from *:
    """
    #if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
    #include <cpuid.h>

    /* 2: x86-64-v2, 3: x86-64-v3, 4: x86-64-v4, as the x86-64 ABI defines them; 1 below, and 0
       elsewhere. */
    static int x86_64_level(void) {
        unsigned a, b, c, d, b7, c7, d7, low, high;
        const unsigned v2 = bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT;
        const unsigned v3 = bit_AVX | bit_FMA | bit_F16C | bit_MOVBE | bit_OSXSAVE;
        const unsigned v3_7 = bit_AVX2 | bit_BMI | bit_BMI2;
        const unsigned v4_7 = bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL;
        if (!__get_cpuid(1, &a, &b, &c, &d) || (c & v2) != v2) return 1;
        if ((c & v3) != v3 || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 2;
        if ((b7 & v3_7) != v3_7) return 2;
        if (!__get_cpuid(0x80000001, &a, &b, &c, &d) || !(c & (1u << 5))) return 2; /* LZCNT */
        /* XGETBV: does the operating system save the YMM registers, and the mask and ZMM ones? */
        __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        if ((low & 0x06) != 0x06) return 2;
        return (b7 & v4_7) == v4_7 && (low & 0xe6) == 0xe6 ? 4 : 3;
    }
    #else
    static int x86_64_level(void) { return 0; }
    #endif
    """
    int x86_64_level()


# Every instruction set of setup.py's table, best first, and the x86-64 level that it needs.
LEVELS = {"avx512": 4, "avx2": 3, "baseline": 2}


def supported():
    """Names of the instruction sets that this machine runs, best first."""
    level = x86_64_level()
    if level == 0:
        return ("baseline",)
    return tuple(name for name, needed in LEVELS.items() if needed <= level)
