"""The record of a sweep as a table and as a page: ``sweep.csv`` and ``sweep.html``."""
