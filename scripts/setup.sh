# shellcheck shell=bash
# Sourced by demo, test and check. Assumes a shell and Python 3.11 or newer, nothing else.
#
#   prepare_python EXTRAS      .venv with the package installed, made anew when pyproject.toml or the Python changes
#   prepare_toolchain WHAT     the AVR toolchain and simulator, through apt where that is permitted
#
# PYTHON=/path/to/python chooses the interpreter; TINYML_APT=never keeps apt out of it.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

venv=$root/.venv
log=$root/.venv-setup.log
avr_packages=(gcc libc6-dev gcc-avr avr-libc simavr libsimavr-dev libelf-dev)
apt_is_fresh=no

say() { printf '%s\n' "$*" >&2; }
stop() { say "$*"; exit 1; }

# ---------------------------------------------------------------- apt

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_is_permitted() {
  [ "${TINYML_APT:-}" != never ] && command -v apt-get >/dev/null || return 1
  [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

apt_install() {
  apt_is_permitted || return 1
  say "Installing $* (apt) ..."
  if [ "$apt_is_fresh" = no ]; then
    as_root apt-get update -q </dev/null >>"$log" 2>&1 || true  # a package may be had from the old lists
    apt_is_fresh=yes
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends \
    -o DPkg::Lock::Timeout=300 "$@" </dev/null >>"$log" 2>&1
}

# ---------------------------------------------------------------- Python

python_is_usable() {
  "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
  local candidate
  if [ -n "${PYTHON:-}" ]; then
    python_is_usable "$PYTHON" || stop "PYTHON must be a Python of version 3.11 or newer. Got $PYTHON instead."
    command -v "$PYTHON"
    return
  fi
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    if python_is_usable "$candidate"; then command -v "$candidate"; return; fi
  done
  stop "No Python of version 3.11 or newer was found; install one, or name it with PYTHON=/path/to/python."
}

# A bare Debian ships Python without ensurepip, so without a working venv.
make_venv() {
  local python=$1 version modules
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  rm -rf "$venv"
  if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    apt_install "python$version-venv" || apt_install python3-venv || true
  fi
  if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    "$python" -m venv "$venv"
  elif "$python" -m pip --version >/dev/null 2>&1; then
    modules=$(mktemp -d)
    "$python" -m pip install -q --target "$modules" virtualenv </dev/null >>"$log" 2>&1
    PYTHONPATH=$modules "$python" -m virtualenv -q "$venv"
    rm -rf "$modules"
  else
    stop "Python $version has neither venv nor pip and apt may not be used: install python$version-venv (as root: apt-get install python$version-venv) and run this again."
  fi
}

# What the environment depends on; a difference to the last run means making it anew.
venv_key() {
  "$1" -c 'import sys; print(sys.version, sys.base_prefix)'
  cat pyproject.toml
}

prepare_python() {
  local extras=$1 python
  python=$(find_python)
  exec 9>>"$log"
  if command -v flock >/dev/null; then flock 9; fi  # two commands started at once share one set-up
  if [ "$(venv_key "$python")" != "$(cat "$venv/tinyml-key" 2>/dev/null)" ]; then
    say "Making a virtual environment in .venv for $("$python" -V) ..."
    make_venv "$python"
    venv_key "$python" >"$venv/tinyml-key"
  fi
  if [ ! -e "$venv/tinyml-has-$extras" ]; then
    say "Installing tinyml-toolkit[$extras] into .venv (a minute or two, once) ..."
    "$venv/bin/python" -m pip install --disable-pip-version-check -e ".[$extras]" </dev/null >>"$log" 2>&1 ||
      { tail -n 5 "$log" >&2; stop "The Python packages could not be installed; pip's last words are above, all of them in ${log#"$root"/}."; }
    touch "$venv/tinyml-has-$extras"
  fi
  exec 9>&-
  PATH=$venv/bin:$PATH
  NUMBA_CACHE_DIR=$("$venv/bin/python" scripts/numba_cache.py)
  export PATH NUMBA_CACHE_DIR
}

# ---------------------------------------------------------------- AVR toolchain

has_header() { printf '#include <%s>\n' "$1" | "${@:2}" -E -x c - >/dev/null 2>&1; }

avr_is_complete() {
  has_header avr/io.h avr-gcc -mmcu=atmega328p &&
    has_header simavr/sim_avr.h gcc && has_header libelf.h gcc && has_header stdint.h gcc
}

clang_has_sanitizers() {
  echo 'int main(void) { return 0; }' | clang -fsanitize=address,undefined -x c - -o /dev/null >/dev/null 2>&1
}

# Of use to a few tests only: each is tried once per environment, and doing without is no failure.
prepare_test_extras() {
  local missing=()
  [ ! -e "$venv/tinyml-apt-tried" ] && apt_is_permitted || return 0
  clang_has_sanitizers || missing+=(clang libclang-rt-dev)
  command -v g++ >/dev/null || missing+=(g++)
  command -v arduino-builder >/dev/null || missing+=(arduino-builder arduino-ctags)
  [ -d /usr/share/arduino/hardware/arduino/avr ] || missing+=(arduino-core-avr)
  for package in "${missing[@]}"; do apt_install "$package" || true; done
  touch "$venv/tinyml-apt-tried"
}

prepare_toolchain() {
  local what=$1
  if ! avr_is_complete && ! { apt_install "${avr_packages[@]}" && avr_is_complete; }; then
    say "The AVR toolchain is incomplete: install ${avr_packages[*]} (with apt-get, as root); until then $what."
  fi
}
