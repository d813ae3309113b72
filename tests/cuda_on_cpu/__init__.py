"""The kernels of CUDA C++, unmodified, on the CPU."""
