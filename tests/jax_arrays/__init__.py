"""Tests of `gpu.jax`, which need JAX: `make test-jax`.

The folder is not called jax, because tests/ is on the path and would shadow the real one.
"""
