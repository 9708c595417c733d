"""Short measurements before and around training: the initial loss, overfitting a small sample, the learning rate."""
