"""The page of a run, ``report.html``: its sections as data, and the template that shows them."""
