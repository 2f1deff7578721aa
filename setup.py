"""Packaging of mmsharp: requirements from ``requirements/``, configs and tools shipped where mim looks for them.

Configs and tools go to ``mmsharp/.mim`` of the installed package, where mim looks for them. A wheel gets copies there;
an editable install gets symbolic links, so that an edited config is the config that runs.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PACKAGED_FOLDERS = ('configs', 'tools')


def read_version() -> str:
    """Return ``__version__`` of ``mmsharp/version.py`` without importing mmsharp, which needs the toolboxes."""
    namespace: dict[str, str] = {}
    exec((ROOT / 'mmsharp' / 'version.py').read_text(encoding='utf-8'), namespace)
    return namespace['__version__']


def read_requirements(name: str) -> list[str]:
    """Return the requirements that ``requirements/<name>.txt`` lists, without comments and blank lines."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith('#')]


def remove(path: Path) -> None:
    """Remove a link, a file or a folder, if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def link_or_copy(source: Path, target: Path) -> None:
    """Make ``target`` a relative link to ``source``, or a copy where the file system refuses links."""
    remove(target)
    try:
        target.symlink_to(Path('..') / '..' / source.name, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__'))


class BuildWithMim(build_py):
    """``build_py`` that also fills ``mmsharp/.mim``, without leaving copies in the source tree."""

    def run(self) -> None:
        """Build the package, then link (editable) or copy (wheel) the configs and tools into it."""
        super().run()
        for name in PACKAGED_FOLDERS:
            source = ROOT / name
            if not source.is_dir():
                continue
            if self.editable_mode:
                target = ROOT / 'mmsharp' / '.mim' / name
                target.parent.mkdir(exist_ok=True)
                link_or_copy(source, target)
            else:
                target = Path(self.build_lib) / 'mmsharp' / '.mim' / name
                remove(target)
                shutil.copytree(source, target, ignore=shutil.ignore_patterns('__pycache__', '*.pyc'))


TOOLBOXES = read_requirements('toolboxes') + read_requirements('mmcv')

setup(
    name='mmsharp',
    version=read_version(),
    description='Sharpness-aware pruning for the OpenMMLab toolboxes: compact networks that stay accurate on corrupted input',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8') if (ROOT / 'README.md').is_file() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Operating System :: POSIX :: Linux',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
    ],
    packages=find_packages(include=['mmsharp', 'mmsharp.*']),
    package_data={'mmsharp': ['py.typed']},
    include_package_data=False,
    install_requires=read_requirements('runtime'),
    extras_require={
        'toolboxes': TOOLBOXES,
        'demo': read_requirements('demo'),
        'export': read_requirements('export'),
        'tests': read_requirements('demo') + read_requirements('export') + read_requirements('tests'),
        'all': TOOLBOXES + read_requirements('demo') + read_requirements('export') + read_requirements('tests'),
    },
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
)
