"""Checking the command line before anything is composed."""
def check_overrides(overrides, folders): pass
