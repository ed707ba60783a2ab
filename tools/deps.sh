#!/bin/bash
# Installs the Debian packages that Shoal is built and tested with. Silent when nothing is missing.
#   tools/deps.sh [--check]
set -euo pipefail

libraries=(libc6-dev libuv1-dev libjemalloc-dev libcriterion-dev libdw-dev libelf-dev libjansson-dev libncurses-dev zlib1g-dev)
commands=(gcc:gcc make:make pkg-config:pkg-config nm:binutils timeout:coreutils git:git clang-format:clang-format)

# --check: checks whether the compiler finds the headers for the programs. Prints missing packages, installs nothing.
if [[ ${1-} == --check ]]; then
	missing=()
	for pair in stdio.h:libc6-dev uv.h:libuv1-dev jemalloc/jemalloc.h:libjemalloc-dev elfutils/libdwfl.h:libdw-dev \
		libelf.h:libelf-dev jansson.h:libjansson-dev; do
		echo "#include <${pair%%:*}>" | ${CC:-cc} ${CPPFLAGS-} ${CFLAGS-} -E -x c - >/dev/null 2>&1 || missing+=("${pair#*:}")
	done
	((${#missing[@]})) || exit 0
	echo "Header files are missing. On Debian, install them as root:" >&2
	echo "  apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
	echo "make test and make demo install them automatically." >&2
	exit 1
fi

missing=()
if command -v dpkg-query >/dev/null; then
	for package in "${libraries[@]}"; do
		status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
		[[ $status == installed ]] || missing+=("$package")
	done
else
	# Not Debian: check the header files. The message has the package names of Debian.
	for pair in stdio.h:libc6-dev uv.h:libuv1-dev jemalloc/jemalloc.h:libjemalloc-dev criterion/criterion.h:libcriterion-dev \
		elfutils/libdwfl.h:libdw-dev libelf.h:libelf-dev jansson.h:libjansson-dev curses.h:libncurses-dev zlib.h:zlib1g-dev; do
		echo "#include <${pair%%:*}>" | ${CC:-cc} -E -x c - >/dev/null 2>&1 || missing+=("${pair#*:}")
	done
fi
for pair in "${commands[@]}"; do
	command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
((${#missing[@]})) || exit 0

if ! command -v apt-get >/dev/null; then
	echo "packages are missing; their names in Debian: ${missing[*]}" >&2
	exit 1
fi

as_root=()
if ((EUID != 0)); then
	if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
		as_root=(sudo -n)
	else
		echo "packages are missing; run this command as root and try again:" >&2
		echo "apt-get update && apt-get install -y --no-install-recommends ${missing[*]}" >&2
		exit 1
	fi
fi

echo "installing ${missing[*]}" >&2
install() {
	"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 \
		install -y --no-install-recommends "${missing[@]}" </dev/null >&2
}
# The package lists of a new machine are often old or missing.
install 2>/dev/null || {
	"${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null >&2
	install
}
