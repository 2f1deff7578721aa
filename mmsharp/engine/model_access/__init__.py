"""A model of the toolboxes as the pure packages want it: unwrapped, with losses, probabilities and samples."""
