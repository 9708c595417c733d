"""A step as a graph of operations: traced, recorded, rewritten, replayed, captured on CUDA."""
