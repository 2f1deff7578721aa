"""Several processes: their group, and what one decides for all."""
