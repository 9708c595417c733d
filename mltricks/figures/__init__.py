"""Figures as data, and the HTML pages that show them."""
