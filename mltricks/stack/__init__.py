"""K trials at once: one step over stacked states."""
