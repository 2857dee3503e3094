#!/bin/sh
# Build target/debian/ovnet_VERSION_ARCH.deb: the binaries, man pages and completions, then cargo-deb.
# Usage: deploy/package/build.sh [--from DIR]
#   --from DIR   pack DIR/ovagent and DIR/ovctl (say, target/debug) as they are, instead of a release build
set -eu

CARGO_DEB_VERSION=3.8.0

root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}

say() { printf '%s\n' "package: $*" >&2; }
fail() { say "$*"; exit 1; }

from=
case "${1-}" in
'') ;;
--from)
    [ $# -eq 2 ] || fail "--from needs a directory"
    from=$(cd "$2" && pwd)
    ;;
*) fail "unknown argument $1; usage: $0 [--from DIR]" ;;
esac

for program in dpkg-deb dpkg-shlibdeps; do
    command -v "$program" >/dev/null || fail "$program is missing: apt-get install dpkg-dev"
done

# Our own copy below target/, so that no other version on the machine is used or replaced.
tools=$target/tools
if ! "$tools/bin/cargo-deb" --version 2>/dev/null | grep -qwF "$CARGO_DEB_VERSION"; then
    say "installing cargo-deb $CARGO_DEB_VERSION into $tools"
    cargo install cargo-deb --version "$CARGO_DEB_VERSION" --locked --quiet --force --root "$tools" --target-dir "$tools/build"
    rm -rf "$tools/build"
fi

# cargo-deb looks for binaries in TARGET/release and knows no other name for it with --no-build.
if [ -n "$from" ]; then
    stage=$target/package
    rm -rf "$stage/release"
    mkdir -p "$stage/release"
    cp "$from/ovagent" "$from/ovctl" "$stage/release/"
else
    stage=$target
    cargo build --release --locked -p ovagent -p ovctl
fi

assets=$stage/release/assets
rm -rf "$assets"
mkdir -p "$assets/man" "$assets/completions"
ovctl=$stage/release/ovctl
say "man pages and completions"
"$ovctl" man "$assets/man"
cp deploy/man/*.8 "$assets/man/"
gzip --best --no-name "$assets"/man/*
gzip --best --no-name <deploy/package/changelog >"$assets/changelog.gz"
"$ovctl" completion bash >"$assets/completions/ovctl.bash"
"$ovctl" completion zsh >"$assets/completions/_ovctl"
"$ovctl" completion fish >"$assets/completions/ovctl.fish"

mkdir -p "$target/debian"
# The date of the last commit, so that the same source gives the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
# --locked is not passed on: nothing is built here.
CARGO_TARGET_DIR=$stage "$tools/bin/cargo-deb" -p ovagent --no-build --output "$target/debian/"
