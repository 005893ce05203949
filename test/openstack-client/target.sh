# shellcheck shell=bash
# An iSCSI target for scripts: tgt with LUNs that are files, and a password. The caller sets dir; all of the target's is in $dir/target.

: "${dir:?}"
target_iqn=iqn.2026-11.test.compute-agent:array
# shellcheck disable=SC2034 # for the caller
target_initiator=iqn.2026-11.test.compute-agent:host
target_user=agent
target_secret=correct-horse-1
target_control=$((RANDOM % 20000 + 10000)) # tgtd's number, of which its socket's name is made
target_pid=

tgt() { tgtadm -C "$target_control" --lld iscsi "$@"; }

# target_start [N]: N or three LUNs of 1 GiB, and the file that hands them over.
target_start() {
	local n port luns
	luns=$(seq "${1:-3}")
	mkdir -p "$dir/target"
	port=$(python3 -c 'import socket
s = socket.socket()
s.bind(("127.0.0.1", 0))
print(s.getsockname()[1])')
	tgtd -f -C "$target_control" --iscsi portal="127.0.0.1:$port" >"$dir/target/log" 2>&1 </dev/null &
	target_pid=$!
	until tgtadm -C "$target_control" --op show --mode sys >/dev/null 2>&1; do
		kill -0 $target_pid || { cat "$dir/target/log" >&2; return 1; }
	done
	tgt --op new --mode target --tid 1 -T "$target_iqn"
	for n in $luns; do
		truncate -s 1G "$dir/target/lun$n"
		tgt --op new --mode logicalunit --tid 1 --lun "$n" -b "$dir/target/lun$n"
		target_restore "$n"
	done
	tgt --op bind --mode target --tid 1 -I ALL
	tgt --op new --mode account --user "$target_user" --password "$target_secret"
	tgt --op bind --mode account --tid 1 --user "$target_user"
	install -m 600 /dev/null "$dir/target/luns.json"
	for n in $luns; do
		jq -n --arg portal "127.0.0.1:$port" --arg iqn "$target_iqn" --arg user "$target_user" --arg password "$target_secret" --argjson lun "$n" '
			{name: "lun\($lun)", size_gib: 1, connection_info: {driver_volume_type: "iscsi", data: {
				target_portal: $portal, target_iqn: $iqn, target_lun: $lun, target_discovered: false,
				auth_method: "CHAP", auth_username: $user, auth_password: $password}}}'
	done | jq -s . >"$dir/target/luns.json"
}

# target_reidentify LUN: the LUN says that it is another disk. target_restore LUN: that it is itself.
target_reidentify() { tgt --op update --mode logicalunit --tid 1 --lun "$1" --params "scsi_id=OTHER$1,scsi_sn=other$1"; }
target_restore() { tgt --op update --mode logicalunit --tid 1 --lun "$1" --params "scsi_id=DISK$1,scsi_sn=disk$1"; }

# target_password PASSWORD: what the target asks for from now on.
target_password() {
	tgt --op unbind --mode account --tid 1 --user "$target_user"
	tgt --op delete --mode account --user "$target_user"
	tgt --op new --mode account --user "$target_user" --password "$1"
	tgt --op bind --mode account --tid 1 --user "$target_user"
}

# target_sessions: how many initiators are logged in.
target_sessions() { tgt --op show --mode target | grep -c 'Initiator: ' || true; }

target_stop() {
	[ -n "$target_pid" ] || return 0
	kill -9 "$target_pid" 2>/dev/null || true # it does not end while initiators are logged in
	wait "$target_pid" 2>/dev/null || true
	rm -f "/var/run/tgtd/socket.$target_control" "/var/run/tgtd/socket.$target_control.lock" "/var/run/tgtd.ipc_abstract_namespace.$target_control"
	target_pid=
}
