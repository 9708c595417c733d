"""The sweeper ``recipe``: seven steps of tuning with few GPUs, one file per step."""
