# shellcheck shell=bash
# Functions that the scripts here share: checks that are counted, and a server as it is seen from outside and inside.
# The caller has sourced scripts/agent.sh and sets what that needs.

: "${project:?}" "${dir:?}" "${libvirt:?}"
passed=0 failed=0 finished=
# end LINE: for the trap of the script's exit.
end() {
	local code=$?
	set +e
	sweep
	[ -n "$finished" ] || echo "not ok: the script ended early, at line $1" >&2
	exit $code
}

# check NAME COMMAND...: one line of the result. The command runs in a subshell that ends at the first
# failure; what it printed shows only when it failed. Values pass between checks in files below $dir.
check() {
	local name=$1 code=0
	shift
	set +e
	(
		trap - EXIT INT TERM
		set -e
		"$@"
	) >"$dir/output" 2>&1
	code=$?
	set -e
	if [ $code = 0 ]; then
		passed=$((passed + 1))
		echo "ok $((passed + failed)) - $name"
	else
		failed=$((failed + 1))
		echo "not ok $((passed + failed)) - $name"
		sed 's/^/    /' "$dir/output"
	fi
}

# The guest as others see it.
state() { virsh -c "$libvirt" domstate "$1" | head -1; }
is_state() { [ "$(state "$1" 2>&1)" = "$2" ]; }
no_domain() { ! virsh -c "$libvirt" domstate "$1" >/dev/null 2>&1; }
server() { cat "$dir/id-$1"; }
console() { echo "$dir/state/instances/$(server "$1")/console.log"; }
# boots SERVER N: waits until the guest has come up N times from the same disk.
boots() { wait_line "$(console "$1")" "TINY: root dev=/dev/vda boots=$2" 120 && wait_ready "$1" "$2"; }
wait_ready() { within 60 has_lines "$(console "$1")" 'TINY: ready' "$2"; }
has_lines() { [ "$(grep -c "$2" "$1" 2>/dev/null)" -ge "$3" ] 2>/dev/null; }
equal() { [ "$1" = "$2" ] || {
	echo "is  '$1'"
	echo "not '$2'"
	return 1
}; }
busy() { api GET /servers/detail | jq -r '.servers[] | select(."OS-EXT-STS:task_state" != null).id'; }
none_busy() { local list; list=$(busy) && [ -z "$list" ]; }
# refused PATTERN COMMAND...: the command fails with words that match.
refused() {
	local want=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "was not refused: $*"
		return 1
	fi
	grep -qE "$want" <<<"$said" || {
		echo "said: $said"
		echo "not:  $want"
		return 1
	}
}

# summary NAME: the last line, with the counts. Fails when a check did.
summary() {
	echo
	echo "$1: $passed passed, $failed failed"
	# shellcheck disable=SC2034 # end reads it
	finished=yes
	[ "$failed" = 0 ]
}
