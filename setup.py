"""Builds the kernels: one source, one extension module for each instruction set and dtype."""

import os
import platform
from pathlib import Path

import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# GCC 12 and later copy structures by whole registers then, not 16 bytes at a time, which loads of
# registers would wait for.
WIDE_MOVES = ["-mmove-max=256", "-mstore-max=256"]
# Name of the module in csoftmax/kernels and what it is compiled with. A further set is a line here,
# its level in cpu.pyx, and three short .pyx: of that name and for each of DTYPES.
INSTRUCTION_SETS = {
    "x86_64": {
        "baseline": ["-march=x86-64-v2"],
        "avx2": ["-march=x86-64-v3", *WIDE_MOVES],
        "avx512": ["-march=x86-64-v4"],
    },
    "other": {"baseline": []},
}
DTYPES = ["float32", "float64"]  # longdouble has no SIMD, and one module for all instruction sets
# Products are fused where the source says so and nowhere else (simd.hpp); no -ffast-math.
UNIX_FLAGS = [
    "-std=c++17", "-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math",
    "-fvisibility=hidden", "-fno-exceptions", "-fno-rtti",
]  # fmt: skip
USES_OPENMP = "#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n"
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "freethreading_compatible": True,
}


class BuildKernels(build_ext):
    """Adds the flags of the compiler at hand, and compiles the modules side by side."""

    def finalize_options(self):
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def build_extensions(self):
        if self.compiler.compiler_type == "msvc":
            flags, openmp = ["/std:c++17", "/O2", "/fp:precise"], ["/openmp"]
        else:
            flags, openmp = UNIX_FLAGS, ["-fopenmp"]
        if not self.compiles(openmp, USES_OPENMP):
            print("csoftmax: this compiler has no OpenMP; the kernels will be serial")
            openmp = []
        wide_moves = self.compiles(WIDE_MOVES)
        for extension in self.extensions:
            if not wide_moves:
                args = extension.extra_compile_args
                extension.extra_compile_args = [arg for arg in args if arg not in WIDE_MOVES]
            if self.compiler.compiler_type == "msvc":
                extension.extra_compile_args = []
            extension.extra_compile_args += flags + openmp
            if openmp == ["-fopenmp"]:
                extension.extra_link_args += openmp
        super().build_extensions()

    def compiles(self, flags, program="int main() { return 0; }\n"):
        source = Path(self.build_temp) / "probe.cpp"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(program)
        try:
            objects = self.compiler.compile(
                [str(source)], output_dir=self.build_temp, extra_postargs=flags
            )
            self.compiler.link_executable(
                objects, str(source.with_suffix("")), extra_postargs=flags, target_lang="c++"
            )
        except Exception:  # whatever this compiler raises: it is a probe
            return False
        return True


def extension(name, flags, include_numpy=False):
    return Extension(
        f"csoftmax.kernels.{name}",
        [f"csoftmax/kernels/{name}.pyx"],
        language="c++",
        include_dirs=["csoftmax/kernels", *([numpy.get_include()] if include_numpy else [])],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_2_0_API_VERSION")],
        extra_compile_args=list(flags),
        depends=[str(path) for path in Path("csoftmax/kernels").glob("*.[hp][px][pdi]")],
    )


machine = "x86_64" if platform.machine().lower() in ("x86_64", "amd64") else "other"
instruction_sets = INSTRUCTION_SETS[machine]
modules = [
    *(extension(f"{name}_{t}", flags) for name, flags in instruction_sets.items() for t in DTYPES),
    extension("longdouble", instruction_sets["baseline"]),
    *(extension(name, flags, include_numpy=True) for name, flags in instruction_sets.items()),
    extension("cpu", []),
]

setup(
    ext_modules=cythonize(modules, compiler_directives=DIRECTIVES),
    cmdclass={"build_ext": BuildKernels},
)
