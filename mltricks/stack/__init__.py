"""Stacks: train K trials at once, with one step over stacked states."""
