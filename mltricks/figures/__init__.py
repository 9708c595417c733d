"""Figures and parts of an HTML page, as pure functions; matplotlib is imported when the first figure is drawn."""
