# shellcheck shell=bash
# Functions to run an agent from a script, on a state directory of its own, and to talk to it.
# The caller sets:
#   project   the checkout
#   dir       a directory for the agent's state, configuration and log; QEMU must be able to enter it
#   AGENT_NETWORKS   true for an agent with networks, of which a host has one; default false
#   AGENT_CONSOLE_PORT   where consoles are served; default any port

: "${project:?}" "${dir:?}"
agent_binary=${AGENT_BINARY:-$project/build/compute-agent}
libvirt=${LIBVIRT_DEFAULT_URI:-qemu:///system}

# agent_configure [LINE...]: writes the configuration. It listens on a port that is free now.
agent_configure() {
	local port=${AGENT_PORT:-0}
	[ "$port" != 0 ] || port=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
	mkdir -p "$dir"
	chmod 711 "$dir"
	printf '%s\n' "state_dir: $dir/state" "run_dir: $dir/run" "listen: 127.0.0.1:$port" 'metrics_listen: ""' "console_listen: 127.0.0.1:${AGENT_CONSOLE_PORT:-0}" 'log_format: text' \
		'virt_type: qemu' 'shutdown_timeout: 30' "networks: ${AGENT_NETWORKS:-false}" "$@" >"$dir/config.yaml"
	export OS_CLIENT_CONFIG_FILE=$dir/state/clouds.yaml OS_CLOUD=compute-agent
}

# agent_start: starts the agent and returns when it serves.
agent_start() {
	local from=1
	[ ! -f "$dir/agent.log" ] || from=$(($(wc -l <"$dir/agent.log") + 1))
	touch "$dir/agent.log" # tail may come before the agent does
	setsid "$agent_binary" serve --config "$dir/config.yaml" >>"$dir/agent.log" 2>&1 </dev/null &
	agent=$!
	echo $agent >"$dir/agent.pid"
	# tail ends with the agent, grep with the line.
	if ! timeout 60 grep -q -m1 'msg=ready' < <(exec tail -s 0.1 -n "+$from" --pid=$agent -f "$dir/agent.log"); then
		echo "the agent does not become ready; its log:" >&2
		tail -n "+$from" "$dir/agent.log" >&2
		return 1
	fi
}

# agent_stop [SIGNAL]: ends the agent, waits for it and returns its exit code.
agent_stop() {
	local code=0
	kill "-${1:-TERM}" "$agent"
	wait "$agent" 2>/dev/null || code=$?
	rm -f "$dir/agent.pid"
	return $code
}

# log_in: makes a token for api and finds out where the services are.
log_in() {
	local auth answer
	auth=$(python3 -c 'import json, os, yaml
a = yaml.safe_load(open(os.environ["OS_CLIENT_CONFIG_FILE"]))["clouds"]["compute-agent"]["auth"]
user = {"name": a["username"], "password": a["password"], "domain": {"name": a["user_domain_name"]}}
scope = {"project": {"name": a["project_name"], "domain": {"name": a["project_domain_name"]}}}
print(a["auth_url"])
print(json.dumps({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}}))')
	answer=$(curl -sS -f -D "$dir/headers" -H 'Content-Type: application/json' \
		-d "$(sed -n 2p <<<"$auth")" "$(sed -n 1p <<<"$auth")/auth/tokens")
	token=$(sed -n 's/^x-subject-token: *\([^\r]*\).*/\1/Ip' "$dir/headers")
	rm "$dir/headers"
	compute=$(jq -er '.token.catalog[] | select(.type == "compute").endpoints[0].url' <<<"$answer")
	# shellcheck disable=SC2034 # for the caller
	block_storage=$(jq -er '.token.catalog[] | select(.type == "block-storage").endpoints[0].url' <<<"$answer")
}

# api METHOD PATH [JSON]: one request to the compute API. Fails when the answer is a failure.
api() {
	curl -sS --fail-with-body -m 60 -X "$1" -H "X-Auth-Token: $token" -H 'OpenStack-API-Version: compute 2.79' \
		${3:+-H 'Content-Type: application/json' -d "$3"} "$compute$2"
}

# status_of SERVER: the server's status as the API has it, and its task; "gone" when there is none.
status_of() {
	local answer
	if answer=$(api GET "/servers/$1" 2>/dev/null); then
		jq -r '.server | .status + " " + (."OS-EXT-STS:task_state" // "none")' <<<"$answer"
	elif [ "$(jq -r '.itemNotFound.code' <<<"$answer" 2>/dev/null)" = 404 ]; then
		echo gone
	else
		echo unknown
	fi
}

# within SECONDS COMMAND...: runs the command until it succeeds. For what the API has no waiting call.
within() {
	local limit=$((SECONDS + $1))
	shift
	until "$@"; do
		if [ $SECONDS -ge $limit ]; then
			echo "not in time: $*" >&2
			return 1
		fi
		sleep 0.2
	done
}

is_status() { [ "$(status_of "$1")" = "$2" ]; }

# wait_status SERVER STATUS [SECONDS]: until the server has it and nothing is under way.
wait_status() {
	local want="$2 none"
	[ "$2" != gone ] || want=gone
	within "${3:-60}" is_status "$1" "$want" || {
		echo "server $1 is $(status_of "$1"), not $want" >&2
		return 1
	}
}

# wait_line FILE PATTERN [SECONDS [FROM]]: until the growing file has a line that matches, from line FROM on.
wait_line() {
	timeout "${3:-60}" grep -q -m1 -e "$2" < <(exec timeout "${3:-60}" tail -s 0.1 -n "+${4:-1}" -F "$1" 2>/dev/null) || {
		echo "no line '$2' in $1:" >&2
		tail -n 20 "$1" >&2
		return 1
	}
}

# public_key: prints an SSH key whose private half nobody has: the tiny guest has no SSH server.
public_key() {
	python3 -c 'import base64, os
blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + os.urandom(32)
print("ssh-ed25519", base64.b64encode(blob).decode(), "demo")'
}

# halting_disk FILE: a raw disk of 1 MiB whose boot sector halts the CPU, so that its guests cost next
# to nothing once the BIOS is through.
halting_disk() {
	{
		printf '\xfa\xf4\xeb\xfd' # cli; hlt; jump back
		head -c 506 /dev/zero
		printf '\x55\xaa'
		head -c 1048064 /dev/zero
	} >"$1"
}

# domains: the UUIDs of the domains that have their disks in the agent's directory.
domains() {
	local uuid
	for uuid in $(virsh -c "$libvirt" list --all --uuid); do
		# Not grep -q: it would end before virsh has written all, and the pipe with it.
		if virsh -c "$libvirt" dumpxml "$uuid" 2>/dev/null | grep -F "$dir/state/" >/dev/null; then
			echo "$uuid"
		fi
	done
}

# sweep: ends the agent and removes its guests, their logs at libvirt and its files, whatever state
# they are in.
sweep() {
	local pid uuid log
	pid=$(cat "$dir/agent.pid" 2>/dev/null || true)
	if [ -n "$pid" ] && grep -qF "$dir/config.yaml" "/proc/$pid/cmdline" 2>/dev/null; then
		kill "$pid"
		timeout 60 tail -s 0.1 --pid="$pid" -f /dev/null || kill -9 "$pid"
	fi
	if [ "${AGENT_NETWORKS:-false}" = true ] && [ -f "$dir/config.yaml" ]; then
		"$agent_binary" network clear --config "$dir/config.yaml" || true
	fi
	if virsh -c "$libvirt" version >/dev/null 2>&1; then
		for uuid in $(domains); do
			virsh -c "$libvirt" destroy "$uuid" >/dev/null 2>&1 || true
			virsh -c "$libvirt" undefine "$uuid" --managed-save --nvram >/dev/null || true
		done
	fi
	for log in /var/log/libvirt/qemu/*.log; do
		if [ -f "$dir/config.yaml" ] && [ -f "$log" ] && grep -qF "$dir/state/" "$log" &&
			[ "$(stat -c %W "$log")" -ge "$(stat -c %Y "$dir/config.yaml")" ]; then
			rm -f "$log"
		fi
	done
	rm -rf "$dir"
}
