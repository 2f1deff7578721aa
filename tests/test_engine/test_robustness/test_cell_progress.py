"""The progress display counts cells and says what is left."""

import io

from mmsharp.engine.robustness.cell_progress import CellProgress
from mmsharp.robustness import Cell


def test_one_line_per_finished_cell_where_there_is_no_terminal():
    """Cells of an earlier run count as finished and are not printed."""
    stream = io.StringIO()
    progress = CellProgress(cells=3, finished=1, stream=stream)
    for name in ('fog', 'snow'):
        progress.begin(Cell(name, 1), batches=4)
        progress.after_test_iter(None, 1)
        progress.end('mAP 0.5')
    lines = stream.getvalue().splitlines()
    assert [line[:12] for line in lines] == ['[  2/3] fog/', '[  3/3] snow']
    assert lines[-1].endswith('0:00:00 left')


def test_silent_in_other_processes():
    """Only the first process shows progress."""
    stream = io.StringIO()
    progress = CellProgress(cells=1, stream=stream, enabled=False)
    progress.begin(Cell('fog', 1), batches=1)
    progress.end('done')
    assert stream.getvalue() == ''
