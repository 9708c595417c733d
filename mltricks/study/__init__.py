"""Studies: trials suggested by a searcher, kept in a storage, given up by a pruner."""
