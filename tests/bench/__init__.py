"""The CPU benchmark and the other libraries it is measured beside; not part of the installation."""

THREADS = 2
