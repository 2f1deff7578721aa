import importlib.util
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mmsharp.errors import MmsharpError
from mmsharp.files import marked

ROOT = Path(__file__).parents[2]


def dry_run(target: str) -> list[str]:
    """Return the commands that ``make <target>`` would run."""
    command = ['make', '--dry-run', '--no-print-directory', target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [line for line in done.stdout.splitlines() if line.startswith('.venv/bin/python ')]


def imported(name: str, path: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for the names of their annotations
    spec.loader.exec_module(module)
    return module


def test_the_readme_prints_the_commands_of_make_demo() -> None:
    """The block under the marker is what `make -n demo` shows, line by line; a backslash continues a line."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    found = re.search(r'<!-- demo commands.*?-->\s*```bash\n(.*?)```', text, flags=re.DOTALL)
    assert found, 'README.md has no block of demo commands'
    printed = found[1].replace('\\\n', ' ').splitlines()
    assert [' '.join(line.split()) for line in printed if line.strip()] == [
        ' '.join(x.split()) for x in dry_run('demo')
    ]


def test_the_first_block_has_the_three_lines_and_flags_that_the_tools_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is copied first is what the text above it says, and the tools read every command of it."""
    text = (ROOT / 'README.md').read_text(encoding='utf-8')
    lines, config, commands = re.search(
        r"```python\n(.*?)```.*?```bash\ncat > \S+ <<'END'\n(.*?)END\n(.*?)```", text, flags=re.DOTALL
    ).groups()
    assert config.endswith(lines)
    found = [shlex.split(line, comments=True) for line in commands.splitlines()]
    assert len(found) == 4
    for python, path, *arguments in found:
        assert python == 'python'
        monkeypatch.setattr(sys, 'argv', [path, *arguments])
        parsed = imported(f'readme_{Path(path).stem}', ROOT / path).parse_args()
        assert parsed.config in ('my_detector.py', 'my_detector_adasap.py', 'work_dirs/adasap/slim/config.py')


@pytest.mark.parametrize(
    'target', ['demo', 'classifier', 'lint', 'types', 'contracts', 'tests', 'bench', 'experiments', 'results', 'docs']
)
def test_every_target_sets_up_first(target: str) -> None:
    """No command assumes that somebody else made the environment."""
    done = subprocess.run(['make', '--dry-run', target], cwd=ROOT, capture_output=True, text=True, check=True)
    commands = [line for line in done.stdout.splitlines() if not line.startswith('make')]
    assert commands[0] == 'sh scripts/set_up.sh'


@pytest.mark.parametrize('target', ['demo', 'classifier'])
def test_the_demo_runs_configs_and_tools_that_exist(target: str) -> None:
    """A renamed config or tool does not go unnoticed."""
    for line in dry_run(target):
        for word in line.split():
            if word.startswith(('tools/', 'configs/')):
                assert (ROOT / word).is_file(), word


def test_the_classifier_is_trained_where_its_heirs_look_for_it() -> None:
    """Pruning starts from the dense network of the same target."""
    folder = next(line.split('--work-dir ')[1].split()[0] for line in dry_run('classifier') if 'configs/dense' in line)
    for method in ('magnitude', 'adasap'):
        assert f"load_from = '{folder}/" in (ROOT / f'configs/{method}/resnet18_digits.py').read_text(encoding='utf-8')


@pytest.mark.parametrize('target', ['demo', 'classifier'])
def test_the_documents_print_the_tables_of_the_records(target: str) -> None:
    """No number without its record: the table is the record, rendered."""
    record_demo = imported('record_demo', ROOT / 'tools/analysis_tools/record_demo.py')
    demo = record_demo.DEMOS[target]
    record = json.loads(demo.record.read_text(encoding='utf-8'))
    assert marked(demo.document, demo.name) == record_demo.render(record)
    assert [entry['name'] for entry in record['runs']] == ['dense', 'magnitude', 'adasap']
    assert record['runs'][0]['scores']['clean'] >= 0.8


def test_what_a_record_says_of_its_runs_is_read_from_them(tmp_path: Path) -> None:
    """The seed of all trainings, the minutes that the user gave; an answer where there is none."""
    record_demo = imported('record_demo', ROOT / 'tools/analysis_tools/record_demo.py')
    runs = []
    for name, seed in (('dense', 3), ('slim', 3), ('other', 4)):
        config = tmp_path / f'{name}.py'
        config.write_text(f'randomness = dict(seed={seed})\n')
        runs.append(dict(name=name, source=dict(config=str(config))))
    assert record_demo.seed_of(runs[:2]) == 3
    with pytest.raises(MmsharpError, match=r"no seed in common: {'dense': 3, 'slim': 3, 'other': 4}"):
        record_demo.seed_of(runs)
    assert record_demo.minutes_of('set-up=11.5') == ('set-up', 11.5)
    with pytest.raises(MmsharpError, match="'demo' is not NAME=VALUE"):
        record_demo.minutes_of('demo')


def test_every_variant_of_the_cost_is_in_the_record() -> None:
    """What was added to the benchmark was measured."""
    sam_cost = imported('sam_cost', ROOT / 'benchmarks' / 'sam_cost.py')
    for path in sorted((ROOT / 'benchmarks' / 'results').glob('sam_cost_*.json')):
        record = json.loads(path.read_text(encoding='utf-8'))
        assert set(record['variants']) == set(sam_cost.VARIANTS)
