"""Latency as a budget: a table measured on the user's device, and what it predicts for a slim model.

``measure_latency_table`` -> ``LatencyTable`` -> ``ChannelPruner(budget=dict(latency=0.5), latency_table=...)``.
"""

from mmsharp.pruning.latency.calibration import calibrate
from mmsharp.pruning.latency.engines import Engine, PyTorchEngine
from mmsharp.pruning.latency.measuring import measure_latency_table
from mmsharp.pruning.latency.table import LatencyTable, LayerTable

__all__ = ['Engine', 'LatencyTable', 'LayerTable', 'PyTorchEngine', 'calibrate', 'measure_latency_table']
