"""Shells that plug the parts into MMEngine; they own no mathematics."""
