"""The seven steps of tuning with few GPUs: one file a step."""
