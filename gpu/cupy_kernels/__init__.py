"""Array programs for CuPy. `array_program` runs on any array module that looks like NumPy.

Importing this package imports no array module.
"""
