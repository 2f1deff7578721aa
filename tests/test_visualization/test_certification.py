"""Tables and section of a certification: every number with the draws behind it, flags, and harmless text."""

import csv
import io

import pytest

from mmsharp.robustness import CertificationSettings, ImageCertificate, certification_scores
from mmsharp.visualization import (
    certification_csv,
    certification_markdown,
    certification_section,
    certification_text,
    write_certification_report,
    write_certification_tables,
)
from mmsharp.visualization.certified_curves import CURVES, certified_curves


@pytest.fixture
def summary():
    """Two images, one of them wrong, under one transform."""
    settings = CertificationSettings(eps=(1e-2, 1e-3))
    found = [
        ImageCertificate(str(label), label, 1, 0.4, 1000, 0, 0, 1e-9, 0.0056, 0.0069, bool(label), 20)
        for label in (0, 1)
    ]
    scores = certification_scores(found, 'blur:1+<b>', settings).to_dict()
    bounds = {'bound': [1e-9], 'capped_bound': [0.0056], 'exact_bound': [0.0069]}
    return {
        'identity': {},
        'settings': {**settings.identity(), 'eps': list(settings.eps)},
        'transforms': [{**scores, 'seconds': 1.0, 'bounds': bounds}],
    }


def test_draws_stand_beside_every_eps_and_unsupported_rates_are_flagged(summary, tmp_path):
    """In text, Markdown and CSV."""
    text = certification_text(summary['transforms']).splitlines()
    assert [line.split()[-7:] for line in text[2:4]] == [
        ['1000', '50.0', '%', '50.0', '%', '50.0', '%'],
        ['1000', '50.0', '%', '0.0', '%', '0.0', '%'],
    ]
    assert ' 0.01  ' in text[2]
    assert ' 0.001 *  ' in text[3]
    assert text[-1].startswith('* not supported by 1000 draws')
    markdown = certification_markdown(summary['transforms'])
    assert '| 0.001 \\* | 1000 |' in markdown
    [first, second] = csv.DictReader(io.StringIO(certification_csv(summary['transforms'])))
    assert (first['eps'], first['draws'], first['supported'], first['pca']) == ('0.01', '1000', 'True', '0.5')
    assert (second['supported'], second['pca'], second['exact']) == ('False', '0.5', '0.0')
    assert second['confidence'] == '0.999'
    write_certification_tables(tmp_path, summary)
    assert (tmp_path / 'certification.md').read_text() == markdown


def test_supported_rates_need_no_flag(summary):
    """No note where there is nothing to say."""
    [scores] = summary['transforms']
    scores['eps'] = scores['eps'][:1]
    assert '*' not in certification_text([scores])


def test_the_section_names_draws_escapes_text_and_replaces_itself(summary, tmp_path):
    """Written twice it is there once; a report without a place for it is kept, beside another."""
    path = tmp_path / 'report.html'
    summary['checkpoint'] = '<i>model.pth'
    write_certification_report(path, summary)
    write_certification_report(path, summary)
    text = path.read_text()
    assert text.count('Certified under random transforms') == 1
    assert '1000 draws each (10 groups of 100)' in text
    assert '<b>&' not in text
    assert '<i>' not in text
    assert '&lt;i&gt;model.pth' in text
    assert text.count('<figure>') == text.count('</figure>') == 1
    path.write_text('an old report')
    write_certification_report(path, summary)
    assert path.read_text() == 'an old report'
    assert 'Certified under' in path.with_name('certification.html').read_text()


def test_the_published_arithmetic_is_said(summary):
    """A reader of the report knows which numbers these are."""
    assert 'published code' not in certification_section(summary)
    summary['settings']['compat'] = 'official'
    assert 'published code' in certification_section(summary)


def test_curves_end_at_the_shares_and_shade_what_is_not_supported():
    """One line per bound; the shade ends at 5 / draws."""
    bounds = {name: [0.01, 0.1] for name in CURVES}
    drawn = certified_curves(bounds, 4, 0.005, 'blur:1')
    assert drawn.count('<path') == 3
    assert drawn.count('50.0 % at eps 1') == 3
    assert 'below 0.005' in drawn
    assert '<rect' not in certified_curves(bounds, 4, 0.0, 'blur:1')
    assert '0.0 % at eps 1' in certified_curves({'bound': []}, 4, 0.005, 'blur:1')
