"""Print as JSON what decides which compiled mmcv fits: run with the environment's Python, after torch is installed."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import torch
from torch.utils.cpp_extension import CUDA_HOME


def toolkit_version() -> str:
    """Return the version of the CUDA compiler, or an empty string without one."""
    nvcc = Path(CUDA_HOME or '') / 'bin' / 'nvcc'
    if not CUDA_HOME or not nvcc.is_file():
        return ''
    found = re.search(r'release (\d+\.\d+)', subprocess.run([nvcc, '--version'], capture_output=True, text=True).stdout)
    return found.group(1) if found else ''


def main() -> None:
    """Print the record on the last line."""
    record = {
        'python': f'cp{sys.version_info.major}{sys.version_info.minor}',
        'torch': torch.__version__,
        'platform': sysconfig.get_platform(),
        'gpu': torch.cuda.is_available(),
        'torch_cuda': torch.version.cuda or '',
        'toolkit': toolkit_version(),
    }
    print(json.dumps(record))


if __name__ == '__main__':
    main()
