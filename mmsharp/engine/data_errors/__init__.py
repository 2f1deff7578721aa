"""Files of a data set that cannot be read, named in one line."""
