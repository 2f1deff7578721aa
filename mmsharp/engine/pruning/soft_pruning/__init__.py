"""Soft pruning steps of a training: when they come, what is watched after them, and what the log says."""
