"""Short measurements before and around training: the initial loss, a small sample by heart, the learning rate."""
