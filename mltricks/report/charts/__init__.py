"""The figures of a sweep's page, as data: each is a pure function of the sweep's content."""
