"""Programs that run inside the environment, with its Python, after the step that they check."""
