#!/bin/sh
# Write constraints.txt: what a fresh environment gets today, pinned. Usage: tools/lock.sh [PYTHON]
set -eu
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT INT TERM

"${1:-python3}" -m venv "$folder/venv"
pip="$folder/venv/bin/python -m pip --quiet --disable-pip-version-check"
$pip install --upgrade 'pip>=25.1'
$pip install '.[all]' --group dev --group fuzz --group bench
{
    echo "# Made by \`make lock\`: the versions that set-up and CI use. Users get pyproject.toml's ranges."
    # Freeze leaves out pip itself; agent99 would appear as a path on this machine.
    $pip freeze --exclude agent99 | LC_ALL=C sort -f
} > "$folder/constraints.txt"
if grep -nE '://|^-e|@' "$folder/constraints.txt"; then
    echo "constraints.txt would name a place instead of a version" >&2
    exit 1
fi
cp "$folder/constraints.txt" constraints.txt
echo "constraints.txt: $(grep -c '==' constraints.txt) packages"
