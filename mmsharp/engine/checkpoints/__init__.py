"""What checkpoints hold, whether they fit, and how a stranger's is read."""
