"""Figures and reports: self-contained HTML, and predictions painted on pictures."""

from mmsharp.visualization.certification_section import certification_section, write_certification_report
from mmsharp.visualization.certification_tables import (
    certification_csv,
    certification_markdown,
    certification_text,
    write_certification_tables,
)
from mmsharp.visualization.comparison import comparison_markdown, comparison_text, write_comparison
from mmsharp.visualization.drawing import Detection, paint_boxes, paint_label
from mmsharp.visualization.heat_map import diverging, heat_map, sequential
from mmsharp.visualization.page import escape, page
from mmsharp.visualization.pictures import SamplePicture, data_uri
from mmsharp.visualization.repeated_runs import seeds_markdown
from mmsharp.visualization.report import write_report
from mmsharp.visualization.tables import cells_csv, summary_markdown, write_tables

__all__ = [
    'Detection',
    'SamplePicture',
    'cells_csv',
    'certification_csv',
    'certification_markdown',
    'certification_section',
    'certification_text',
    'comparison_markdown',
    'comparison_text',
    'data_uri',
    'diverging',
    'escape',
    'heat_map',
    'page',
    'paint_boxes',
    'paint_label',
    'seeds_markdown',
    'sequential',
    'summary_markdown',
    'write_certification_report',
    'write_certification_tables',
    'write_comparison',
    'write_report',
    'write_tables',
]
