#!/bin/sh
# Makes the environment in .venv and installs ByteBrew into it: `venv.sh VENV WHAT`, WHAT as for pip.
# PYTHON names the interpreter; else the first of the usual names that is new enough.
set -u
venv=$1
what=$2
version='import sys; print("%d.%d" % sys.version_info[:2])'

fits() {
    found=$("$1" -c "$version" 2>/dev/null) || return 1
    [ "${found%%.*}" -eq 3 ] && [ "${found#*.}" -ge 11 ]
}

if [ -n "${PYTHON:-}" ]; then
    names=$PYTHON
else
    names="python3 python3.14 python3.13 python3.12 python3.11 python"
fi
python=
for name in $names; do
    if fits "$name"; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    for name in $names; do
        if old=$("$name" -c "$version" 2>/dev/null); then
            echo "ByteBrew needs Python 3.11 or later, and $name is Python $old." >&2
            echo "Install a newer one beside it, or name it: PYTHON=/path/to/python3.12 make run" >&2
            exit 1
        fi
    done
    echo "ByteBrew needs Python 3.11 or later, and there is none called $names." >&2
    echo "Install it, or name it: PYTHON=/path/to/python3.12 make run" >&2
    exit 1
fi

if [ -e "$venv" ] && ! fits "$venv/bin/python"; then
    echo "The environment in $venv is of a Python that is gone or older than 3.11: making it anew."
fi
echo "Setting up $venv with $("$python" --version 2>&1) ..."
if ! "$python" -m venv --clear "$venv"; then
    echo "$python cannot make an environment; on Debian and Ubuntu: apt install python3-venv" >&2
    rm -rf "$venv"
    exit 1
fi

echo "Installing ByteBrew and its packages from PyPI; this takes up to a minute the first time ..."
(
    seconds=0
    while sleep 5 >/dev/null 2>&1; do  # without the output, which would stay open until it ends
        seconds=$((seconds + 5))
        echo "  still installing, $seconds s so far ..."
    done
) &
ticker=$!
trap 'kill $ticker 2>/dev/null' EXIT
trap 'exit 130' INT TERM
if ! "$venv/bin/pip" install --quiet --disable-pip-version-check --editable "$what"; then
    rm -f "$venv/bin/bytebrew"
    echo "pip could not install it: see above what it lacks, and run make again." >&2
    exit 1
fi
echo "Installed."
