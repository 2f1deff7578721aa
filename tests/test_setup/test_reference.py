"""The references in the documents name every registered part, with the arguments that it really has."""

import ast
import importlib
import inspect
import json
import re
from pathlib import Path

import pytest

from mmsharp.files import marked
from mmsharp.registry import ALLOCATIONS, ASCENTS, CRITERIA, IMAGE_TRANSFORMS, POLICIES, PROTECTIONS, SCHEDULES

DOCS = Path(__file__).parents[2] / 'docs'
TABLES = {
    'criteria': ('prune.md', CRITERIA),
    'allocations': ('prune.md', ALLOCATIONS),
    'schedules': ('prune.md', SCHEDULES),
    'protections': ('prune.md', PROTECTIONS),
    'ascents': ('train-sharpness-aware.md', ASCENTS),
    'policies': ('train-sharpness-aware.md', POLICIES),
    'image transforms': ('certify.md', IMAGE_TRANSFORMS),
}


def calls_in(document: str) -> dict[str, dict]:
    """``{'Magnitude': {'p': 2}}`` for every table row that begins with ``| `Magnitude(p=2)` |``."""
    text = (DOCS / document).read_text(encoding='utf-8')
    found = {}
    for written in re.findall(r'^\| `(\w+\([^`]*\))` \|', text, flags=re.MULTILINE):
        call = ast.parse(written, mode='eval').body
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Name)
        found[call.func.id] = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
    return found


@pytest.mark.parametrize('name', TABLES)
def test_every_part_is_in_the_reference_with_its_defaults(name: str) -> None:
    """A part that is registered, renamed or given another default does not go undocumented."""
    document, registry = TABLES[name]
    written = calls_in(document)
    ours = {part: kind for part, kind in registry.module_dict.items() if kind.__module__.startswith('mmsharp.')}
    assert set(ours) <= set(written)
    for part, kind in ours.items():
        parameters = inspect.signature(kind).parameters
        for argument, default in written[part].items():
            assert parameters[argument].default == default, f'{part}({argument}=...)'


@pytest.mark.parametrize(
    'name',
    [
        *('slim_latency', 'latency_budget', 'corruption_functions', 'robust_eval', 'bccd_robustness'),
        *('onnx_export', 'certification_bound', 'certification_cost'),
    ],
)
def test_the_table_is_that_of_the_record(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No figure without its record."""
    monkeypatch.syspath_prepend(DOCS.parent / 'benchmarks')
    benchmark = importlib.import_module(name)
    records = sorted((DOCS.parent / 'benchmarks' / 'results').glob(f'{name}_*.json'))
    assert records
    for record in records:
        rendered = benchmark.render(json.loads(record.read_text(encoding='utf-8')))
        assert marked(benchmark.DOCUMENT, record.stem) == rendered
