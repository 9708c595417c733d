"""Ablations: arms trained with paired seeds, and the effect of each technique with its confidence interval."""
