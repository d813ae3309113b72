"""The kernels of CUDA C++ compiled by NVRTC, with no GPU: registers, stack, loads; and the cache.

Every variant is compiled for three architectures. None may spill or use a stack: then each array of
a kernel is in registers.
"""

import re
from itertools import product

import pytest
from cuda_on_cpu import nvrtc

from deformable_convnets.gpu.cupy_kernels import compiler
from deformable_convnets.gpu.cupy_kernels.build import Build

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
TYPES = (  # T, P and the widest load
    ("float32", "float32", 4), ("float64", "float64", 2), ("float16", "float16", 8),
    ("float16", "float32", 8), ("bfloat16", "bfloat16", 8), ("bfloat16", "float32", 8),
)  # fmt: skip
VARIANTS = [
    ("deform_conv.cu", Build(T, P, vec, lanes, wide, fixed))
    for (T, P, widest) in TYPES
    for vec, lanes, wide, fixed in (
        (widest, 32, False, (256, 256, 1, 9)), (widest, 32, False, None), (1, 1, False, None),
        (widest, 8, True, None),
    )
] + [
    ("layout.cu", Build(T, T, 1, wide=wide))
    for T, wide in product(("float32", "float64", "float16", "bfloat16"), (False, True))
] + [
    ("roi_pool.cu", Build(T, P, vec, lanes, wide, None, pooling))
    for (T, P, widest) in TYPES
    for vec, lanes, wide, pooling in (
        (widest, 32, False, (2, 4, 256)), (1, 1, True, None),
    )
]  # fmt: skip
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024, 2) f(float* x, int n) {
    float a[100];
    for (int i = 0; i < 100; ++i) a[i] = x[i + threadIdx.x];
    for (int k = 0; k < n; ++k)
        for (int i = 0; i < 100; ++i) a[i] = a[i] * a[(i + 1) % 100] + x[k];
    for (int i = 0; i < 100; ++i) x[i * 1024 + threadIdx.x] = a[i];
}
"""


@pytest.fixture(autouse=True)
def needs_nvrtc():
    if nvrtc.missing():
        pytest.skip(nvrtc.missing())


def of_stack(log):
    """The lines of a log that tell of a stack or of spills."""
    lines = [line for line in log.splitlines() if "bytes stack frame" in line]
    return [line for line in lines if re.findall(r"(\d+) bytes", line) != ["0"] * 3]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("source", "build"), VARIANTS, ids=str)
def test_compiles_without_stack_or_spills(source, build, architecture):
    code, log = compiler.compiled(source, build, architecture, nvrtc)
    kernels = re.findall(r'extern "C" __global__ void (\w+)', compiler.sources()[source])
    assert code.startswith(b"\x7fELF")
    assert sorted(re.findall(r"entry function '(\w+)'", log)) == sorted(kernels)
    assert log.count("bytes stack frame") == len(kernels)
    assert of_stack(log) == []


def test_a_kernel_that_spills_is_seen():
    texts = compiler.sources() | {"spilling.cu": SPILLING}
    _, log = compiler.compiled("spilling.cu", VARIANTS[0][1], "sm_90", nvrtc, texts)
    assert of_stack(log)


@pytest.fixture(scope="module")
def instructions():
    """A function: how often each instruction on global memory is in a kernel, for sm_90."""

    def count(build, kernel):
        texts = compiler.sources()
        headers = {name: text.encode() for name, text in texts.items() if name.endswith(".cuh")}
        program = nvrtc.createProgram(
            texts["deform_conv.cu"], "deform_conv.cu", list(headers.values()),
            [name.encode() for name in headers],
        )  # fmt: skip
        told = compiler.options("deform_conv.cu", build, "compute_90")
        told = [option for option in told if "ptxas" not in option]
        nvrtc.compileProgram(program, told)
        bodies = re.split(r"\.visible \.entry ", nvrtc.getPTX(program))
        [body] = [b for b in bodies if b.startswith(f"{kernel}(")]
        found = re.findall(r"\b((?:ld|st|red|atom)\.global[\w.]+|\w+\.[\w.]*f64)", body)
        return {name: found.count(name) for name in found}

    return count


@pytest.mark.parametrize(
    ("T", "vec", "wide"),
    [("float32", 4, ".v4.f32"), ("float16", 8, ".v4.u32"), ("bfloat16", 8, ".v4.u32"),
     ("float64", 2, ".v2.f64")],
)  # fmt: skip
def test_four_corners_are_four_loads_of_16_bytes(instructions, T, vec, wide):
    found = instructions(Build(T, T, vec, 32), "columns")
    assert found[f"ld.global{wide}"] >= 4
    assert found[f"st.global{wide}"] == 1
    narrow = instructions(Build(T, T, 1, 32), "columns")
    assert narrow.get(f"st.global{wide}", 0) == 0


def test_x_is_added_to_by_vectors(instructions):
    build = Build("float32", "float32", 4, 32)
    assert instructions(build, "grad_points")["red.global.add.v4.f32"] == 4


def test_float32_kernels_have_no_float64(instructions):
    for kernel in ("points", "columns", "grad_points", "destinations", "grad_x_gathered"):
        found = instructions(Build("float16", "float32", 8, 32), kernel)
        assert not [name for name in found if name.endswith("f64")]
    assert [n for n in instructions(Build("float64", "float64", 2), "points") if n.endswith("f64")]


BUILD = Build("float32", "float32", 4)


@pytest.fixture
def with_nvrtc(monkeypatch, tmp_path):
    """The compiler with the tests' NVRTC, and a folder of its own."""
    compiler.version.cache_clear()
    monkeypatch.setattr(compiler, "_nvrtc", lambda: nvrtc)
    monkeypatch.setenv("DEFORMABLE_CONVNETS_CACHE", str(tmp_path / "kept"))
    yield tmp_path / "kept"
    compiler.version.cache_clear()


def test_a_cubin_is_compiled_once(with_nvrtc, caplog):
    first = compiler.cubin("layout.cu", BUILD, "sm_90")
    assert "compiling layout.cu for sm_90" in caplog.text
    assert str(with_nvrtc) in caplog.text
    caplog.clear()
    assert compiler.cubin("layout.cu", BUILD, "sm_90") == first
    assert caplog.text == ""
    assert [f.suffix for f in with_nvrtc.iterdir()] == [".cubin"]


def test_a_folder_that_cannot_be_written(with_nvrtc, caplog):
    with_nvrtc.write_text("a file")
    assert compiler.cubin("layout.cu", BUILD, "sm_90").startswith(b"\x7fELF")
    assert "the compiled kernel is not kept" in caplog.text


def test_the_key_covers_all_that_a_cubin_is_made_from(with_nvrtc, monkeypatch):
    key = compiler.key("layout.cu", BUILD, "sm_90")
    assert compiler.key("layout.cu", BUILD, "sm_90") == key
    others = [
        compiler.key("deform_conv.cu", BUILD, "sm_90"),
        compiler.key("layout.cu", BUILD, "sm_80"),
        compiler.key("layout.cu", BUILD._replace(vec=2), "sm_90"),
    ]
    changed = compiler.sources() | {"numbers.cuh": compiler.sources()["numbers.cuh"] + "\n"}
    for name, other in (
        ("OPTIONS", (*compiler.OPTIONS, "--use_fast_math")), ("version", lambda: (1, 2)),
        ("sources", lambda: changed),
    ):  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setattr(compiler, name, other)
            others.append(compiler.key("layout.cu", BUILD, "sm_90"))
    assert len({key, *others}) == 7


def test_a_kernel_that_does_not_compile(with_nvrtc):
    texts = compiler.sources() | {"layout.cu": '#include "numbers.cuh"\nint x = y;'}
    with pytest.raises(RuntimeError) as error:
        compiler.compiled("layout.cu", BUILD, "sm_90", texts=texts)
    for part in ("layout.cu does not compile", "-DVEC=4", "vec=4", 'identifier "y" is undefined'):
        assert part in str(error.value)
