#!/bin/sh
# Counts words while workers are killed, and compares with tr | sort | uniq. Run by `make demo`.
# Exit code 0 only if every comparison holds and the segment is clean at the end.
set -u
LC_ALL=C
export LC_ALL

root=$(cd "$(dirname "$0")/.." && pwd) || exit 1
cd "$root" || exit 1
build=${SHOAL_BUILD:-build}
case $build in /*) ;; *) build=$root/$build ;; esac
shoal=$build/shoal
wordfreq=$build/examples/wordfreq.so
for file in "$shoal" "$build/shoald" "$wordfreq"; do
	[ -e "$file" ] || { echo "demo: $file is missing: make demo builds it" >&2; exit 1; }
done

top=1000          # words compared; five are shown
share_kb=24576    # size of the part of /usr/share that is counted
kills_max=10      # kills in one run: more would only delay the restarts
limit=120         # seconds for one run

failed=0
storm_pid=
dir=$(mktemp -d "${TMPDIR:-/tmp}/shoal-demo-XXXXXX") || exit 1
SHOAL_SOCKET=$dir/sock
export SHOAL_SOCKET

# shellcheck disable=SC2317
clean_up() {
	trap '' INT TERM HUP PIPE
	[ -z "$storm_pid" ] || kill "$storm_pid" 2>/dev/null
	[ ! -S "$SHOAL_SOCKET" ] || timeout 20 "$shoal" stop --now >/dev/null 2>&1
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
# Without this, SIGPIPE would end the shell without the trap on EXIT.
trap 'exit 141' PIPE

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then bold=$(printf '\033[1m') plain=$(printf '\033[0m'); else bold='' plain=''; fi
section() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
good() { printf '   ok    %s\n' "$1"; }
bad() { printf '   FAIL  %s\n' "$1"; failed=1; }
now_ms() { echo $(($(date +%s%N) / 1000000)); }

skip= # files that the pipeline leaves out
# The reference result. grep '' instead of cat, because it ends the last line of every file, as wordfreq does.
pipeline() {
	# shellcheck disable=SC2018,SC2019
	find "$@" -type f ! -path "$skip" -exec grep -ahs '' {} + | tr -cs 'A-Za-z' '\n' | tr 'A-Z' 'a-z' | grep . |
		sort | uniq -c | sort -k1,1nr -k2,2 | head -n $top | awk '{ print $1, $2 }'
}

# count OUT [options of wordfreq] DIR...
count() {
	out=$1
	shift
	began=$(now_ms)
	timeout $limit "$shoal" run --attempts 100 "$wordfreq" -n $top "$@" >"$out" 2>"$dir/err"
	code=$?
	took=$(($(now_ms) - began))
	[ $code -eq 0 ] || { bad "run ends with exit code $code"; head -n 5 "$dir/err"; }
}

same() {
	if cmp -s "$1" "$2"; then
		good "$3"
	else
		bad "$3: they differ"
		diff "$1" "$2" | head -n 10
	fi
}

deaths() { "$shoal" stats --json | sed -n 's/.*"worker_deaths": *\([0-9]*\).*/\1/p'; }
worker_pids() { "$shoal" workers --json | sed 's/{/\n{/g' | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p'; }

# Kills a worker from time to time until the file "storm" is removed. Kills a pid only while it is a child
# of the supervisor, because another process may have got the number.
storm() {
	kills=0
	while [ -e "$dir/storm" ] && [ $kills -lt $kills_max ]; do
		pid=$(worker_pids | awk -v n="$kills" '{ p[NR] = $1 } END { if (NR) print p[n % NR + 1] }')
		if [ -n "$pid" ] && [ "$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status" 2>/dev/null)" = "$supervisor" ]; then
			kill -9 "$pid" 2>/dev/null && kills=$((kills + 1)) && echo $kills >"$dir/kills"
		fi
		sleep 0.05
	done
}

# disturbed NAME DIR...: repeats the run until at least three workers were killed in a run, at most five times.
disturbed() {
	name=$1
	shift
	runs=0
	echo 0 >"$dir/kills"
	: >"$dir/storm"
	storm &
	storm_pid=$!
	while [ $runs -lt 5 ]; do
		runs=$((runs + 1))
		count "$dir/$name.killed" "$@"
		cmp -s "$dir/$name.calm" "$dir/$name.killed" || break
		[ "$(cat "$dir/kills")" -lt 3 ] || break
	done
	rm -f "$dir/storm"
	wait "$storm_pid"
	storm_pid=
	echo "   $(cat "$dir/kills") workers killed in $runs run(s), the last in $took ms"
	same "$dir/$name.calm" "$dir/$name.killed" "the same $top words, with and without kills"
}

compare() {
	name=$1
	shift
	count "$dir/$name.calm" "$@"
	echo "   undisturbed: $took ms"
	head -n 5 "$dir/$name.calm" | sed 's/^/        /'
	began=$(now_ms)
	pipeline "$@" >"$dir/$name.pipe"
	echo "   tr | sort | uniq: $(($(now_ms) - began)) ms"
	[ -s "$dir/$name.pipe" ] || bad "nothing was counted"
	same "$dir/$name.pipe" "$dir/$name.calm" "the same result as tr | sort | uniq"
	disturbed "$name" "$@"
}

section "A supervisor on a socket of its own"
"$shoal" start || exit 1
supervisor=$("$shoal" info --json | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
"$shoal" workers

# Counts a copy, because files of the tree may change during the demo.
tree=$dir/tree
mkdir "$tree" && cp -R core shm supervisor worker tests tools "$tree"
section "The words of this source tree"
compare sources "$tree"

section "The words of $((share_kb / 1024)) MiB of /usr/share"
du -sk /usr/share/* 2>/dev/null | sort -k1,1nr -k2 |
	awk -v room=$share_kb '$1 <= room { room -= $1; print $2 }' | grep -v ' ' >"$dir/share"
# shellcheck disable=SC2046
set -- $(cat "$dir/share")
[ $# -gt 0 ] || set -- /usr/share/doc
find "$@" -type f | awk 'END { print "   " NR " files" }'
compare share "$@"

section "Goroutines crash twice for every README, and then start again"
count "$dir/crashed" --crash-on README --crash-times 2 "$tree"
same "$dir/sources.calm" "$dir/crashed" "the same $top words, with and without crashes"

section "Goroutines crash every time: only their files are left out"
count "$dir/without" --crash-on tools/README "$tree"
sed 's/^/   /' "$dir/err" | head -n 3
skip='*tools/README*'
pipeline "$tree" >"$dir/without.pipe"
same "$dir/without.pipe" "$dir/without" "the same as tr | sort | uniq without them"

section "Afterwards"
"$shoal" workers
total=$(deaths)
echo "   $total workers died"
[ "${total:-0}" -gt 0 ] || bad "no worker died: nothing was shown"
if verdict=$("$shoal" check 2>&1); then good "shoal check: $verdict"; else bad "shoal check: $verdict"; fi
if "$shoal" stop; then good "stopped"; else bad "stop"; fi

if [ $failed -eq 0 ]; then section "All of it holds"; else section "Something does not hold: see FAIL above"; fi
exit $failed
