"""The process that imports wandb and sends to it, and the training process's end of it."""
