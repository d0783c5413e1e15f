# shellcheck shell=bash
# What the scripts share: an environment of their own, in .venv, with everything the
# command needs. Nothing is installed outside of it.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

VENV=.venv
PYTHON=$VENV/bin/python
[ -d "$VENV/Scripts" ] && PYTHON=$VENV/Scripts/python

# Print the name of a Python that is new enough. A name on the PATH is no proof that
# it runs: version managers leave names that only print a complaint.
find_python() {
  local candidate
  for candidate in "${TOKENWARD_PYTHON:-}" python3.14 python3.13 python3.12 python3.11 python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c \
      'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
      echo "$candidate"
      return
    fi
  done
  echo "Python 3.11 or newer, with its venv module, is needed and was not found." >&2
  echo "(Debian and Ubuntu: apt-get install python3 python3-venv)" >&2
  return 1
}

# prepare EXTRAS GROUP...: make .venv, and install the package with EXTRAS and the
# dependency groups, at the versions of constraints.txt. What was installed before
# is not asked for again until pyproject.toml or constraints.txt change.
prepare() {
  local extras=$1 group stamp wanted
  local -a groups=()
  shift
  for group in "$@"; do groups+=(--group "$group"); done

  if ! "$PYTHON" -c '' >/dev/null 2>&1; then
    local python
    python=$(find_python)
    echo "Making $VENV with $("$python" --version)" >&2
    "$python" -m venv --clear "$VENV"
  fi

  stamp=$VENV/.installed-$(echo "$extras" "$@" | tr -c 'a-z0-9\n' '-')
  wanted=$(cat pyproject.toml constraints.txt | git hash-object --stdin)
  if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "Installing what is needed into $VENV" >&2
    "$PYTHON" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m ensurepip >/dev/null
    # Dependency groups need pip 25.1.
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
    "$PYTHON" -m pip install --quiet --disable-pip-version-check \
      --constraint constraints.txt --editable ".[$extras]" ${groups[@]+"${groups[@]}"}
    echo "$wanted" >"$stamp"
  fi
}
