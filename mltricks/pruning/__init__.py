"""Pruning: a trial reports its scores to its study, and rules say whether it is given up."""
