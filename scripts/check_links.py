"""Check that the relative links of Markdown files lead to files: ``python scripts/check_links.py README.md docs``."""

import re
import sys
from pathlib import Path

LINK = re.compile(r'\]\(([^)\s]+)\)')


def documents(paths: list[str]) -> list[Path]:
    """Return the Markdown files that ``paths`` name, folders searched through."""
    found: list[Path] = []
    for path in map(Path, paths):
        found += sorted(path.rglob('*.md')) if path.is_dir() else [path]
    return found


def broken_links(document: Path) -> list[str]:
    """Return the links of ``document`` that point to a file which is not there; web addresses are not followed."""
    targets = (
        link.partition('#')[0] for link in LINK.findall(document.read_text(encoding='utf-8')) if '://' not in link
    )
    return [target for target in targets if target and not (document.parent / target).exists()]


def main() -> int:
    """Print every broken link; return 1 if there is one."""
    checked = documents(sys.argv[1:])
    broken = [f'{document}: {link} does not exist' for document in checked for link in broken_links(document)]
    print('\n'.join([*broken, f'{len(checked)} documents, {len(broken)} broken links']))
    return 1 if broken else 0


if __name__ == '__main__':
    sys.exit(main())
