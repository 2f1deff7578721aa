"""The set-up program of the repository, standard library only; it is no part of the package ``mmsharp``."""
