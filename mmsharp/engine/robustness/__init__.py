"""Robustness evaluation on MMEngine's test loop.

``sources`` gives the corrupted images and ``placement`` puts them into pipelines; ``evaluation`` runs the grid on a
model that ``config`` prepared; ``identity`` and ``data_digest`` say what the values depend on.
"""
