"""Studies: a searcher suggests trials, a storage keeps them, a pruner stops hopeless ones early."""
