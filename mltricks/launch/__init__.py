"""The launcher: composes, checks, plans and runs the jobs of a sweep on this machine, in stacks or worker processes."""
