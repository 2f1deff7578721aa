"""Figures and reports: self-contained HTML, and predictions painted on pictures."""

from mmsharp.visualization.comparison import comparison_markdown, comparison_text, write_comparison
from mmsharp.visualization.drawing import Detection, paint_boxes, paint_label
from mmsharp.visualization.heat_map import diverging, heat_map, sequential
from mmsharp.visualization.page import escape, page
from mmsharp.visualization.pictures import SamplePicture, data_uri
from mmsharp.visualization.report import write_report

__all__ = [
    'Detection',
    'SamplePicture',
    'comparison_markdown',
    'comparison_text',
    'data_uri',
    'diverging',
    'escape',
    'heat_map',
    'page',
    'paint_boxes',
    'paint_label',
    'sequential',
    'write_comparison',
    'write_report',
]
