"""MMEngine metrics of mmsharp's own; none yet, the robust scores are computed from the toolboxes' metrics."""
