# Sourced by the other scripts: makes .venv once and again whenever what it is made from changes. Sets PYTHON.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
  for candidate in "${LATENTMETER_PYTHON:-}" python3.13 python3.12 python3.11 python3; do
    if [ -n "$candidate" ] && command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "latentmeter needs Python 3.11 to 3.13; set LATENTMETER_PYTHON to one" >&2
  return 1
}

# make_environment GROUP: GROUP is "run" (what users need) or "dev" (and what the tests need).
make_environment() {
  local group=$1 stamp base
  base=$(find_python)
  PYTHON=.venv/bin/python
  stamp=$(cat pyproject.toml constraints.txt scripts/environment.sh | sha256sum | cut -c1-16)
  # An environment for development holds everything that a run needs.
  if [ -x "$PYTHON" ] && grep -qsx -e "$stamp $group" -e "$stamp dev" .venv/made-from; then return; fi
  echo "making .venv with $base (torch is large: the first time takes minutes)" >&2
  "$base" -m venv .venv
  "$PYTHON" -m pip install --quiet --disable-pip-version-check "pip>=25.1"
  local extra=()
  if [ "$group" = dev ]; then extra=(--group dev); fi
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . "${extra[@]}"
  echo "$stamp $group" >>.venv/made-from
}
