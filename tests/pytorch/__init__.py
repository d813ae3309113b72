"""`deformable_convnets.gpu.torch`; needs torch, which is in no extra: `make test-torch` has it.

The folder is not called torch: tests/ is on the path, and `import torch` would find it.
"""
