"""What a model costs on this machine, and what machine it is."""
