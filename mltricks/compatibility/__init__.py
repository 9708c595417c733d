"""Combinations that cannot be right, and settings without effect, are refused here."""
