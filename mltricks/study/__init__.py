"""Studies: trials suggested by a sampler, kept in a storage, given up by a pruner."""
