#!/bin/bash
# Makes a checkout ready: checks the machine, creates .venv from pinned packages, fetches the Java parts, compiles the
# kernels of the term index. Each step leaves a stamp with the digest of its inputs, and is skipped while that fits.
#
#   PYTHON=/path/to/python3.11 deploy/setup.sh     to choose the interpreter
#   S3=1 deploy/setup.sh                           also fetches Flink's S3 plugin; later runs keep it
set -euo pipefail
cd "$(dirname "$0")/.."

extras="flink,model,store,serve,label,dev"
venv_stamp=.venv/.made-from
jars_stamp=jvm/lib/.made-from
s3_plugin=jvm/lib/plugins/s3
kernels_stamp=search/index/__pycache__/.made-from
log=.venv/setup.log
kernels_log=.venv/kernels.log

say() { printf '%s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}
digest() { cat "$@" | sha256sum | cut -d' ' -f1; }
made_from() { [[ -f $1 && $(cat "$1") == "$2" ]]; }

wants_s3() { [[ ${S3:-0} != 0 || -d $s3_plugin ]]; }
jars_fit() { made_from "$jars_stamp" "$jars_digest" && { ! wants_s3 || compgen -G "$s3_plugin/*.jar" >/dev/null; }; }

# --- what the machine must have -------------------------------------------------------------------------------------

# Prints what an interpreter lacks: `version`, `shared` (its shared library), `venv`, or nothing.
python_lacks() {
    "$1" - <<'PY' 2>/dev/null || echo version
import importlib.util, pathlib, sys, sysconfig
if sys.version_info[:2] != (3, 11):
    raise SystemExit(1)
name = sysconfig.get_config_var("INSTSONAME") or ""
folders = [sysconfig.get_config_var("LIBDIR"), f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}", "/usr/lib"]
# Flink loads Python into its own process, which needs the interpreter as a shared library.
if ".so" not in name and ".dylib" not in name or not any((pathlib.Path(f or "/") / name).exists() for f in folders):
    print("shared")
if importlib.util.find_spec("ensurepip") is None:
    print("venv")
PY
}

python=""
find_python() {
    local candidate lacks almost=""
    for candidate in ${PYTHON:-} python3.11 /usr/bin/python3.11 /usr/local/bin/python3.11 python3; do
        command -v "$candidate" >/dev/null || continue
        lacks=$(python_lacks "$candidate")
        if [[ -z $lacks ]]; then
            python=$candidate
            return 0
        fi
        [[ $lacks == *version* || -n $almost ]] || almost="$candidate lacks: $(echo $lacks)"
    done
    python_problem=${almost:-"there is no Python 3.11"}
    return 1
}

java_version() { "${JAVA_HOME:+$JAVA_HOME/bin/}java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1; }
has_java() { [[ $(java_version || true) =~ ^(17|21)$ ]]; }
has_maven() { command -v mvn >/dev/null; }
has_openssl() { command -v openssl >/dev/null; }

check_machine() {
    local packages=() problems=()
    if ! find_python; then
        packages+=(python3.11 python3.11-venv libpython3.11)
        problems+=("Python 3.11 with its shared library ($python_problem)" \
            "    Debian: python3.11 python3.11-venv libpython3.11; pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11")
    fi
    if ! has_java; then
        packages+=(openjdk-17-jre-headless)
        problems+=("Java 17 (found: $(java_version || true))" "    Debian: openjdk-17-jre-headless")
    fi
    if ! has_openssl; then
        packages+=(openssl)
        problems+=("openssl" "    Debian: openssl")
    fi
    if ! has_maven; then
        packages+=(maven)
        problems+=("Maven" "    Debian: maven")
    fi
    [[ ${#packages[@]} -eq 0 ]] && return 0
    if [[ $(id -u) -ne 0 ]] || ! command -v apt-get >/dev/null; then
        fail "this machine lacks:" "${problems[@]/#/  }"
    fi
    say "      installing Debian packages: ${packages[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" \
        >/dev/null || fail "apt-get could not install ${packages[*]}; this machine lacks:" "${problems[@]/#/  }"
    find_python || fail "$python_problem"
    has_java || fail "there is no Java 17 yet; is another one first on the PATH, or in JAVA_HOME?"
    has_maven || fail "there is no Maven yet"
    has_openssl || fail "there is no openssl yet"
}

# --- the environment ------------------------------------------------------------------------------------------------

make_environment() {
    if ! .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
        rm -rf .venv
        "$python" -m venv .venv
    fi
    say "      installing about $(grep -c == constraints.txt) packages; the details are in $log"
    if ! .venv/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[$extras]" 2>&1 \
        | tee "$log" | awk '/^Collecting/ { if (++n % 20 == 0) print "      " n " packages found"; fflush() }
            /^Installing collected/ { print "      installing them"; fflush() }'; then
        tail -n 20 "$log" >&2
        fail "pip could not install the packages"
    fi
    .venv/bin/python -m pip check --disable-pip-version-check | sed 's/^/      /' || fail "pip check is not clean"
}

fetch_jars() {
    # Fetched beside the old jars and then swapped: a broken fetch leaves the old ones in place.
    local group new=$PWD/jvm/lib.new
    rm -rf "$new"
    for group in kafka flink $(! wants_s3 || echo s3); do
        say "      fetching the jars of $group"
        # Maven resets the terminal's colours even when it uses none.
        mvn -B -ntp -q -f jvm/pom.xml -P "$group" "-Dlib=$new" package 2>&1 | sed $'s/\e\\[[0-9;]*m//g; /^$/d' \
            || fail "Maven could not fetch the jars of $group (see above)"
    done
    rm -rf jvm/lib
    mv "$new" jvm/lib
}

# Compiles the kernels in the background, unless they are up to date.
start_kernels() {
    kernels_job=""
    kernels_digest=$(digest constraints.txt search/index/*.py)
    made_from "$kernels_stamp" "$kernels_digest" && return
    mkdir -p "${kernels_stamp%/*}"
    .venv/bin/python -m search.index.warm >"$kernels_log" 2>&1 &
    kernels_job=$!
    trap '[[ -z $kernels_job ]] || kill "$kernels_job" 2>/dev/null' EXIT
}

await_kernels() {
    say "      compiling the kernels of the term index: half a minute, once"
    wait "$kernels_job" || { tail -n 20 "$kernels_log" >&2; fail "the kernels could not be compiled"; }
    kernels_job=""
    echo "$kernels_digest" >"$kernels_stamp"
}

# --- all of it ------------------------------------------------------------------------------------------------------

venv_digest=$(digest pyproject.toml constraints.txt)
jars_digest=$(digest jvm/pom.xml)
if made_from "$venv_stamp" "$venv_digest" && jars_fit && .venv/bin/python -c pass \
    && has_java && has_openssl; then
    start_kernels
    [[ -z $kernels_job ]] || await_kernels
    exit 0
fi

say "[1/4] checking Python, Java, Maven and openssl"
check_machine
say "      Python $("$python" -c 'import platform; print(platform.python_version())'), Java $(java_version)"
say "[2/4] the Python environment .venv"
if made_from "$venv_stamp" "$venv_digest" && .venv/bin/python -c pass; then
    say "      is up to date"
else
    make_environment
    echo "$venv_digest" >"$venv_stamp"
fi
start_kernels # while the Java parts come over the network
say "[3/4] the Java parts"
if jars_fit; then
    say "      are up to date"
else
    fetch_jars
    echo "$jars_digest" >"$jars_stamp"
fi
say "[4/4] the machine code"
if [[ -z $kernels_job ]]; then
    say "      is up to date"
else
    await_kernels
fi
say "setup: done"
