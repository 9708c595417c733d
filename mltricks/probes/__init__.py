"""Short diagnostic runs: initial loss, overfitting a small sample, learning-rate range test, update ratio."""
