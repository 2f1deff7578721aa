"""Configs: read, checked, changed without touching the user's, and written."""
