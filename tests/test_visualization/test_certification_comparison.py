"""Compared certifications say the same in text, Markdown and HTML."""

from mmsharp.visualization import comparison_markdown, comparison_text, write_comparison
from mmsharp.visualization.certification_comparison import compared_rows

from .test_comparison import COMPARISON


def run(name, pca):
    at = [
        dict(eps=1e-2, draws=1000, supported=True, pca=pca, pca_capped=pca, exact=pca / 2),
        dict(eps=1e-3, draws=1000, supported=False, pca=pca, pca_capped=0.0, exact=0.0),
    ]
    return dict(name=name, clean_accuracy=0.8, empirical_robust_accuracy=0.7, images=10, confidence=0.999, eps=at)


CERTIFICATION = dict(
    transforms=[dict(transform='blur:1', runs=[run('dense', 0.4), run('<slim|>', 0.6)])], notes=['seed: was 0, is 1']
)


def test_models_stand_one_below_the_other():
    """At every failure rate."""
    rows = compared_rows(CERTIFICATION)
    assert [row[:2] for row in rows] == 2 * [['blur:1', 'dense'], ['blur:1', '<slim|>']]
    assert rows[0] == ['blur:1', 'dense', '80.0 %', '70.0 %', '0.01', '1000', '40.0 %', '40.0 %', '20.0 %']
    assert rows[3] == ['blur:1', '<slim|>', '80.0 %', '70.0 %', '0.001 *', '1000', '60.0 %', '0.0 %', '0.0 %']


def test_rates_are_not_mixed():
    """A model that was certified at one rate stands beside the others at that rate alone."""
    one = dict(run('short', 0.5), eps=run('short', 0.5)['eps'][1:])
    rows = compared_rows(dict(transforms=[dict(transform='blur:1', runs=[run('dense', 0.4), one])]))
    assert [(row[1], row[4]) for row in rows] == [('dense', '0.01'), ('dense', '0.001 *'), ('short', '0.001 *')]


def test_every_form_holds_rows_and_notes(tmp_path):
    """Names are text, and marks are marks."""
    whole = dict(COMPARISON, certification=CERTIFICATION)
    text, markdown = comparison_text(whole), comparison_markdown(whole)
    assert 'Certified under random transforms' in text
    assert 'note: seed: was 0, is 1' in text
    assert '| blur:1 | <slim\\|> | 80.0 % | 70.0 % | 0.001 \\* |' in markdown
    write_comparison(tmp_path, whole)
    page = (tmp_path / 'compare.html').read_text()
    assert '<h2>Certified under random transforms</h2>' in page
    assert '<td>0.001 *</td>' in page
    assert '<slim' not in page


def test_no_transform_in_common_has_no_table():
    """The notes say so."""
    alone = dict(COMPARISON, certification=dict(transforms=[], notes=['blur:1 is left out']))
    for found in (comparison_text(alone), comparison_markdown(alone)):
        assert 'blur:1 is left out' in found
    assert 'no transform was certified in all of them' in comparison_markdown(alone)


def test_without_certification_nothing_is_added():
    """As before."""
    assert comparison_text(dict(COMPARISON, certification=None)) == comparison_text(COMPARISON)
