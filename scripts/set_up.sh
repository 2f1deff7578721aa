#!/bin/sh
# Find a Python that mmsharp supports and set the environment up with it. `PYTHON=/path/to/python3.11` chooses one.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
supported='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'

for candidate in ${PYTHON:-python3 python3.11 python3.12 python3.10}; do
    if command -v "$candidate" >/dev/null 2>&1 && "$candidate" -c "$supported" >/dev/null 2>&1; then
        exec "$candidate" "$here/set_up.py"
    fi
done

found=$(${PYTHON:-python3} --version 2>&1 || true)
echo "error: mmsharp needs Python 3.10, 3.11 or 3.12; ${PYTHON:-python3} is: ${found:-not there}." \
    "On Debian 12 run: sudo apt install python3 python3-venv python3-dev; elsewhere: make PYTHON=/path/to/python3.11 ..." >&2
exit 2
