"""What a network costs, as a function of the channels that it keeps."""

from mmsharp.pruning.costs.complexity import count_macs, count_parameters, measure_latencies, measure_latency
from mmsharp.pruning.costs.cost import CostModel

__all__ = ['CostModel', 'count_macs', 'count_parameters', 'measure_latencies', 'measure_latency']
