"""Laws of the figure of ratios: every line has its place, and what is not known is a gap."""

import cv2

from mmsharp.visualization.pruning_ratios import draw_pruning_ratios, ratios_over_time


def line(iteration, group, zeroed=4, protected=1):
    return dict(
        iteration=iteration,
        group=group,
        sparsity_ratio=0.1,
        pruning_ratio=zeroed / 8,
        zeroed=zeroed,
        protected=protected,
    )


def test_tables_have_a_value_for_every_line_and_gaps_for_the_rest():
    """Groups in the model's order, iterations rising, no share of nothing."""
    groups, iterations, tables = ratios_over_time([line(3, 'stem'), line(3, 'inner', 0, 0), line(1, 'stem', 2, 1)])
    assert (groups, iterations) == (['stem', 'inner'], [1, 3])
    assert tables['pruning_ratio'] == [[0.25, 0.5], [None, 0.0]]
    assert tables['returned'] == [[0.5, 0.25], [None, None]]


def test_a_picture_is_drawn_of_one_line_and_of_many(tmp_path):
    """A PNG that can be read, also for more groups and steps than there is room for names."""
    for number, lines in enumerate(([line(0, 'stem')], [line(i, f'g{j}') for i in range(40) for j in range(90)])):
        path = tmp_path / f'{number}.png'
        draw_pruning_ratios(path, lines)
        assert cv2.imread(str(path)).shape[1] > 600
