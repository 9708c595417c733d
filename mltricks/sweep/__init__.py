"""The parts that all sweepers share: search spaces, the record of jobs, statistics; and the grid sweeper."""
