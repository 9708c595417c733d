"""A run of stages: several ordinary runs in a row, as one command."""
