"""Measurements of speed and quality: `python -m benchmarks NAME`, with NAME a module of this folder."""
