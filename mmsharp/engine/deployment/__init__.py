"""From a training checkpoint to a folder with a slim model: its config, what is refused, its report, its files."""
