"""Figures and the parts of an HTML page: pure functions, matplotlib loaded where it draws."""
