# shellcheck shell=bash
# Sourced after setup.sh: Autobahn's test suite needs Python 2.7, which Debian has not shipped since release 11.
#
# python2 PACKAGE==VERSION: leaves in $python2 an interpreter that has the package. It is made from $PYTHON2, python2.7 or
# pyenv's if one works, else from release 11's, unpacked under target/interop: nothing of it is installed, root is not
# needed.
python2() {
  local home=$cache/python2 interpreter candidate
  if ! "$home/venv/bin/python" -c "import ${1%==*}" 2>/dev/null; then
    echo "installing $1 for Python 2.7"
    flock 9
    debian gcc:cc libc6-dev:cc
    python3 -m venv "$home/tools"
    # The last virtualenv that makes environments for 2.7; it brings the pip that they need.
    "$home/tools/bin/pip" install -q --disable-pip-version-check virtualenv==20.21.1 </dev/null
    for candidate in ${PYTHON2:-} python2.7 "${PYENV_ROOT:-$HOME/.pyenv}"/versions/2.7.*/bin/python2.7; do
      interpreter=$(command -v "$candidate") && "$interpreter" -c 'import ssl, ctypes' 2>/dev/null && break
      interpreter=
    done
    if [ -z "$interpreter" ]; then
      unpack_python2 "$home"
      interpreter=$home/root/usr/bin/python2.7
    fi
    of_release_11 "$home/tools/bin/virtualenv" -q -p "$interpreter" "$home/venv"
    of_release_11 "$home/venv/bin/pip" install -q --disable-pip-version-check --no-python-version-warning "$1" </dev/null
    flock -u 9
  fi
  python2=$home/venv/bin/python
}

# Runs a program with the libraries and headers of what was unpacked, if it was.
of_release_11() {
  local root=$cache/python2/root
  [ -d "$root" ] || { "$@" && return; }
  env LD_LIBRARY_PATH="$root/usr/lib/$(uname -m)-linux-gnu" CPATH="$root/usr/include/python2.7:$root/usr/include" "$@"
}

unpack_python2() {
  local home=$1 mirror package
  mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Origin: Debian' 2>/dev/null | grep -v security | head -1)
  mkdir -p "$home"/{lists/partial,archives/partial,packages,root}
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror:-http://deb.debian.org/debian} bullseye main" >"$home/sources.list"
  # An apt of its own, which knows that release alone and nothing of what is installed here.
  local apt=(apt-get -qq -o Dir::Etc::sourcelist="$home/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::status=/dev/null
    -o Dir::State::lists="$home/lists" -o Dir::Cache="$home" -o APT::Sandbox::User="$(id -un)")
  "${apt[@]}" update </dev/null
  (cd "$home/packages" && "${apt[@]}" download python2.7 python2.7-minimal libpython2.7-minimal libpython2.7-stdlib \
    libpython2.7 libpython2.7-dev libffi7 libssl1.1 </dev/null)
  for package in "$home"/packages/*.deb; do
    dpkg -x "$package" "$home/root"
  done
}
