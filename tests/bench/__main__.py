"""`python -m bench`, with the number of threads set before NumPy is imported and reads it."""

import os

from . import THREADS

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(THREADS)

from .cpu import main  # noqa: E402

main()
