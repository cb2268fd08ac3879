# shellcheck shell=bash
# Sourced by the scripts beside this folder: finds what they need, installs what is missing, once. Debian's
# packages go to the system; what PyPI and npm hold goes to target/interop and nowhere else.
# Leaves $repository, $cache and, after `proxy_under_test`, $proxy.
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
built=${CARGO_TARGET_DIR:-$repository/target}
cache=$built/interop
mkdir -p "$cache"
# Two scripts that start together must not install into one folder at once.
exec 9>"$cache/lock"
export PATH=$PATH:/usr/sbin NO_UPDATE_NOTIFIER=1
export PYTHONPATH=$repository/tests/interop/kit PYTHONDONTWRITEBYTECODE=1
ulimit -n "$(ulimit -Hn)"

# debian PACKAGE[:COMMAND]…: installs each package whose command (the package's name by default) is absent.
debian() {
  local missing=() each
  for each in "$@"; do
    command -v "${each#*:}" >/dev/null || missing+=("${each%%:*}")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing ${missing[*]}"
  local sudo
  sudo=$([ "$(id -u)" = 0 ] || echo sudo)
  flock 9
  # Run level 1: no package may start a server of its own.
  { $sudo apt-get update -qq && $sudo env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "${missing[@]}"; } </dev/null >/dev/null 2>"$cache/apt.log" ||
    { cat "$cache/apt.log" && return 1; }
  flock -u 9
}

# from_npm PACKAGE@VERSION…: into $cache/node; programs find them by NODE_PATH.
from_npm() {
  debian nodejs:node npm
  export NODE_PATH=$cache/node/node_modules
  local missing=() each
  for each in "$@"; do
    grep -qs "\"version\": \"${each##*@}\"" "$NODE_PATH/${each%@*}/package.json" || missing+=("$each")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing ${missing[*]}"
  flock 9
  mkdir -p "$cache/node"
  npm install --prefix "$cache/node" --no-audit --no-fund --ignore-scripts --loglevel=error "${missing[@]}" </dev/null
  flock -u 9
}

# from_pypi PACKAGE==VERSION…: into the virtual environment whose interpreter is $python.
from_pypi() {
  python=$cache/python/bin/python3
  local missing=() each
  for each in "$@"; do
    compgen -G "$cache/python/lib/python3*/site-packages/${each%==*}-${each#*==}.dist-info" >/dev/null || missing+=("$each")
  done
  [ ${#missing[@]} -eq 0 ] && return
  echo "installing ${missing[*]}"
  flock 9
  if [ ! -x "$python" ]; then
    python3 -c 'import ensurepip' 2>/dev/null || debian python3-venv:no-such-command
    python3 -m venv "$cache/python"
  fi
  "$python" -m pip install -q --disable-pip-version-check "${missing[@]}" </dev/null
  flock -u 9
}

# proxy_under_test [nginx|haproxy|ALBEDO]: a peer, or a built binary; target/release/albedo by default.
proxy_under_test() {
  proxy=${1:-$built/release/albedo}
  case $proxy in
    nginx) [ -n "${NGINX:-}" ] || debian nginx ;;
    haproxy) [ -n "${HAPROXY:-}" ] || debian haproxy ;;
    *) [ -x "$proxy" ] || cargo build --release --locked --manifest-path "$repository/Cargo.toml" 9>&- ;;
  esac
}

debian python3 openssl
