"""Matrix products by cuBLAS, with the compute type of the call and no global state."""

from typing import Any

import numpy as np


def multiply(a: Any, b: Any, out: Any, *, accumulate: bool, tf32: bool) -> None:
    """out = a b, or out += a b, for batches of matrices with one axis of stride 1."""
    from cupy.cuda import cublas, device

    compute = _compute_type(cublas, out.dtype, tf32)
    scale = np.float64 if out.dtype == np.float64 else np.float32
    one, beta = np.ones((), scale), np.full((), accumulate, scale)
    batch, m, n = out.shape
    # cuBLAS is column-major: the product of the transposes, in the other order
    (b_turned, b_leading), (a_turned, a_leading) = _matrix(b), _matrix(a)
    _, leading = _matrix(out)
    cublas.gemmStridedBatchedEx(
        device.get_cublas_handle(), b_turned, a_turned, n, m, a.shape[2],
        one.ctypes.data, b.data.ptr, _type(b), b_leading, _step(b),
        a.data.ptr, _type(a), a_leading, _step(a),
        beta.ctypes.data, out.data.ptr, _type(out), leading, _step(out),
        batch, compute, cublas.CUBLAS_GEMM_DEFAULT,
    )  # fmt: skip


def _compute_type(cublas: Any, dtype: Any, tf32: bool) -> Any:
    if dtype == np.float64:
        return cublas.CUBLAS_COMPUTE_64F
    return cublas.CUBLAS_COMPUTE_32F_FAST_TF32 if tf32 else cublas.CUBLAS_COMPUTE_32F


def _matrix(a: Any) -> tuple[int, int]:
    """Whether the matrices of a batch are turned (0 or 1), and their leading dimension."""
    _, by_row, by_column = (stride // a.itemsize for stride in a.strides)
    _, rows, columns = a.shape
    if by_column == 1 or columns == 1:
        return 0, max(by_row if rows > 1 else columns, columns)
    return 1, max(by_column, rows)


def _step(a: Any) -> int:
    return int(a.strides[0] // a.itemsize)


def _type(a: Any) -> int:
    """The CUDA data type of an array's numbers (library_types.h)."""
    return {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}[a.dtype.name]
