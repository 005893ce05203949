# shellcheck shell=bash
# Checks of the network API with the client: each kind of record is created, listed, shown, changed and deleted. No server is on
# these networks. The caller has sourced checks.sh.

: "${project:?}" "${dir:?}"

# value FIELD COMMAND...: one field of what a command of the client shows.
value() {
	local field=$1
	shift
	openstack "$@" -f value -c "$field"
}

network_records() {
	openstack network create --external --default --provider-network-type local --disable-port-security outside
	openstack network create --description 'first & <only>' --mtu 1400 --tag red inside
	equal "$(openstack network list -f value -c Name | sort | tr '\n' ' ')" 'inside outside '
	equal "$(openstack network list --external -f value -c Name)" outside
	equal "$(openstack network list --tags red -f value -c Name)" inside
	openstack network show -f json inside >"$dir/shown"
	equal "$(jq -r '[.status, .mtu, .description, ."provider:network_type", .tags[0]] | map(tostring) | join(" ")' "$dir/shown")" \
		'ACTIVE 1400 first & <only> local red'
	openstack network set --description second --disable --tag blue inside
	openstack network show -f json inside >"$dir/shown"
	equal "$(jq -r '[.admin_state_up, .description, (.tags | sort | join(","))] | map(tostring) | join(" ")' "$dir/shown")" 'false second blue,red'
	openstack network set --enable inside
}

subnet_records() {
	openstack subnet create --network outside --subnet-range 203.0.113.0/24 --no-dhcp \
		--allocation-pool start=203.0.113.100,end=203.0.113.110 outside4
	openstack subnet create --network inside --subnet-range 10.20.0.0/24 --dns-nameserver 192.0.2.53 \
		--host-route destination=198.51.100.0/24,gateway=10.20.0.9 inside4
	openstack subnet create --network inside --subnet-range fd00:20::/64 --ip-version 6 --ipv6-ra-mode slaac --ipv6-address-mode slaac inside6
	equal "$(openstack subnet list --network inside -f value -c Subnet | sort | tr '\n' ' ')" '10.20.0.0/24 fd00:20::/64 '
	openstack subnet show -f json inside4 >"$dir/shown"
	equal "$(jq -r '[.gateway_ip, .allocation_pools[0].start, .dns_nameservers[0], .host_routes[0].nexthop] | join(" ")' "$dir/shown")" \
		'10.20.0.1 10.20.0.2 192.0.2.53 10.20.0.9'
	openstack subnet set --name within4 --dns-nameserver 192.0.2.54 --no-host-route inside4
	equal "$(openstack subnet show -f json within4 | jq -r '.dns_nameservers | sort | join(" ")')" '192.0.2.53 192.0.2.54'
	openstack subnet unset --dns-nameserver 192.0.2.53 within4
	equal "$(value dns_nameservers subnet show within4)" "['192.0.2.54']"
}

port_records() {
	openstack port create --network inside --fixed-ip subnet=within4,ip-address=10.20.0.50 --mac-address fa:16:3e:20:00:50 \
		--allowed-address ip-address=10.20.0.60 --tag front plug
	equal "$(openstack port list --fixed-ip ip-address=10.20.0.50 -f value -c Name -c 'MAC Address' -c Status)" 'plug fa:16:3e:20:00:50 DOWN'
	openstack port show -f json plug >"$dir/shown"
	equal "$(jq -r '[.binding_vif_type, .port_security_enabled, (.fixed_ips | length), (.security_group_ids | length)] | map(tostring) | join(" ")' \
		"$dir/shown")" 'unbound true 2 1'
	jq -e '[.fixed_ips[].ip_address] | contains(["fd00:20::f816:3eff:fe20:50"])' "$dir/shown"
	openstack port set --name socket --disable --no-security-group --disable-port-security --no-allowed-address plug
	equal "$(value port_security_enabled port show socket)" False
	openstack port set --enable-port-security --security-group default socket
	openstack port unset --security-group "$(value id security group show default)" socket
	equal "$(value security_group_ids port show socket)" '[]'
}

group_records() {
	openstack security group create --description 'shells' --tag ops ssh
	openstack security group rule create --protocol tcp --dst-port 22 --remote-ip 192.0.2.0/24 ssh
	openstack security group rule create --protocol icmp --icmp-type 8 --remote-group ssh ssh
	openstack security group rule create --egress --ethertype IPv6 --protocol udp --dst-port 5000:5010 ssh
	equal "$(openstack security group rule list --ingress -f value -c 'IP Protocol' -c 'IP Range' -c 'Port Range' ssh | sort)" \
		"$(printf 'icmp 0.0.0.0/0 type=8\ntcp 192.0.2.0/24 22:22')"
	equal "$(openstack security group rule list ssh -f value -c ID | wc -l)" 5 # two of them let everything out
	openstack security group set --name shells ssh
	equal "$(openstack security group list -f value -c Name | sort | tr '\n' ' ')" 'default shells '
	openstack security group rule delete "$(openstack security group rule list --protocol tcp -f value -c ID shells)"
	equal "$(openstack security group rule list --protocol tcp -f value shells)" ''
}

router_records() {
	openstack router create --description edge gate
	openstack router add subnet gate within4
	openstack router set --external-gateway outside --fixed-ip subnet=outside4,ip-address=203.0.113.101 gate # any other may be the floating IP's
	openstack router set --route destination=198.51.100.0/24,gateway=10.20.0.9 gate
	openstack router show -f json gate >"$dir/shown"
	equal "$(jq -r '[.status, .external_gateway_info.enable_snat, .interfaces_info[0].ip_address, .routes[0].nexthop] | map(tostring) | join(" ")' \
		"$dir/shown")" 'ACTIVE true 10.20.0.1 10.20.0.9'
	jq -e '.external_gateway_info.external_fixed_ips[0].ip_address == "203.0.113.101"' "$dir/shown"
	openstack router unset --route destination=198.51.100.0/24,gateway=10.20.0.9 gate
	equal "$(openstack router list -f value -c Name -c Status)" 'gate ACTIVE'
}

floating_ips() {
	openstack floating ip create --floating-ip-address 203.0.113.105 --description door outside
	openstack floating ip set --port socket --fixed-ip-address 10.20.0.50 203.0.113.105
	equal "$(openstack floating ip list -f value -c 'Floating IP Address' -c 'Fixed IP Address')" '203.0.113.105 10.20.0.50'
	equal "$(openstack floating ip list --router gate -f value -c 'Floating IP Address')" 203.0.113.105
	equal "$(value status floating ip show 203.0.113.105)" ACTIVE
	openstack floating ip unset --port 203.0.113.105
	equal "$(value status floating ip show 203.0.113.105)" DOWN
}

network_host() {
	equal "$(openstack network agent list -f value -c Alive -c State)" 'True True'
	openstack extension list --network -f value -c Alias | grep -x security-group >/dev/null
	openstack quota show -f json >"$dir/shown"
	equal "$(jq -r '[.networks, .ports, .secgroups] | map(tostring) | join(" ")' "$dir/shown")" '100 500 10'
}

network_faults() {
	refused 'No Network' openstack network show nowhere
	refused 'overlap' openstack subnet create --network inside --subnet-range 10.20.0.0/25 again
	refused "recommended" openstack subnet create --network inside --subnet-range 10.21.0.1/24 again
	refused 'in use' openstack port create --network inside --fixed-ip ip-address=10.20.0.50 again
	refused 'no subnet' openstack port create --network inside --fixed-ip ip-address=192.0.2.1 again
	refused 'already exists' openstack security group create default
	refused 'already exists' openstack security group rule create --protocol icmp --icmp-type 8 --remote-group shells shells
	refused 'protocol' openstack security group rule create --protocol warp shells
	refused 'Conflict|in use|required' openstack network delete inside
	refused 'Conflict|in use|interface' openstack router delete gate
	refused 'external' openstack floating ip create inside
	refused 'qos_policy_id|could not be found|404' openstack network create --qos-policy none x
	equal "$(openstack network list -f value -c Name | wc -l)" 2
}

networks_deleted() {
	openstack floating ip delete 203.0.113.105
	openstack router unset --external-gateway gate
	openstack router remove subnet gate within4
	openstack router delete gate
	openstack port delete socket
	openstack security group delete shells
	openstack subnet delete within4 inside6 outside4
	openstack network delete inside outside
	equal "$(openstack network list -f value)$(openstack subnet list -f value)$(openstack port list -f value)$(openstack router list -f value)" ''
}

network_checks() {
	check 'network create, list, show, set' network_records
	check 'subnet create, list, show, set, unset' subnet_records
	check 'port create, list, show, set, unset' port_records
	check 'security group and rule create, list, set, delete' group_records
	check 'router create, add subnet, set, show, unset' router_records
	check 'floating ip create, set, list, show, unset' floating_ips
	check 'network agent list, extension list, quota show' network_host
	check 'wrong requests for networks have clear answers' network_faults
	check 'networks, ports, groups, routers and floating IPs are deleted' networks_deleted
}
