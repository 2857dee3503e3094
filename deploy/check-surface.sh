#!/bin/sh
# Every option of the agent is a key of deploy/config/agent.toml and stands in deploy/man/ovagent.8, and neither has one that
# the agent does not know. Usage: deploy/check-surface.sh [OVAGENT]     default: target/debug/ovagent
set -eu
cd "$(dirname "$0")/.."
ovagent=${1:-target/debug/ovagent}

[ -x "$ovagent" ] || { echo "$ovagent is not there: run cargo build -p ovagent, or name another" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$ovagent" --help | sed -nE 's/^ +(-[A-Za-z], )?--([a-z][a-z0-9-]*).*/\2/p' |
    grep -vxE 'help|version' | sort -u >"$scratch/help"
# A key is `#key = …`, without a blank after the '#'; --config names the file and cannot be in it.
{ sed -nE 's/^#?([a-z][a-z0-9-]*) = .*/\1/p' deploy/config/agent.toml; echo config; } | sort -u >"$scratch/config"
sed -nE '/^\.It Fl/s/^\.It //p' deploy/man/ovagent.8 | grep -oE 'Fl -[a-z][a-z0-9-]*' | cut -c5- | sort -u >"$scratch/man"

[ -s "$scratch/help" ] || { echo "$ovagent --help lists no option" >&2; exit 1; }
wrong=0
compare() {
    if ! diff --label "$ovagent --help" --label "$2" -u0 "$scratch/help" "$1" >"$scratch/diff"; then
        wrong=1
        grep -E '^[-+][a-z]|^---|^\+\+\+' "$scratch/diff" >&2
    fi
}
compare "$scratch/config" deploy/config/agent.toml
compare "$scratch/man" deploy/man/ovagent.8

exit "$wrong"
