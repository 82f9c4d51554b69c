"""One training loop for every objective, its optimizers and checkpoints, and this machine's speed."""
