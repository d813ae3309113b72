"""The experiments of the tutorials: networks trained on worlds of pictures, and their tables."""
