"""Jobs of a sweep on this machine: composed, checked, planned and run, in stacks or in worker processes."""
