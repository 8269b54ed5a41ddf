#!/bin/bash
# Puts promtool into .venv/bin, unless it is there or on the PATH. The tests of the alerts need it, the service does not.
# The Debian package `prometheus` is unpacked and not installed, because its installation starts a server.
set -euo pipefail
cd "$(dirname "$0")/.."

target=.venv/bin/promtool
[[ -x $target ]] || command -v promtool >/dev/null && exit 0

fail() {
    printf 'promtool: %s\n' "$@" >&2
    exit 1
}
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || fail "it is missing, and this machine has no apt-get:" \
    "install Prometheus 2.40 or newer so that promtool is on the PATH"

mkdir -p "${target%/*}"
folder=$(mktemp -d "${target%/*}/promtool.XXXXXX")
trap 'rm -rf "$folder"' EXIT

download() { (cd "$folder" && apt-get download -qq prometheus) >"$folder/log" 2>&1; }
if ! download; then
    # The lists of packages may be missing or old; only root may fetch them.
    [[ $(id -u) -ne 0 ]] || apt-get update -qq >/dev/null 2>&1 || true
    download || fail "apt-get could not download the package prometheus:" "$(tail -n 3 "$folder/log")" \
        "run \`apt-get update\` as root and try again, or put promtool on the PATH"
fi
dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -xOf - ./usr/bin/promtool >"$folder/promtool"
chmod 755 "$folder/promtool"
mv "$folder/promtool" "$target"
