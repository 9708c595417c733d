"""The results of a sweep as a table, ``sweep.csv``, and as a page, ``sweep.html``."""
