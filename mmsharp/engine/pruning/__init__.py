"""What the pruning hooks have in common: phases, what checkpoints carry, steps of soft pruning."""
