package connector

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

const maxLUN = 16383 // of flat space addressing (SAM-2, 4.9.7)

// addressing is how LUNs are written: os-brick's words.
var addressing = oneOf("SAM", "SAM2", "SAM3-flat", "transparent")

func parseISCSI(data object, info *Info) {
	data.boolean("target_discovered")
	i := &ISCSIInfo{
		Auth:           parseCHAP(data, "auth_"),
		DiscoveryAuth:  parseCHAP(data, "discovery_auth_"),
		AddressingMode: data.text("addressing_mode", addressing),
	}
	info.ISCSI = i
	if data.has("target_portals") || data.has("target_iqns") {
		i.Targets = iscsiTargets(data)
		return
	}
	i.Discover = true
	i.Targets = []ISCSITarget{{
		Portal: data.must("target_portal", portal), IQN: data.must("target_iqn", iqn),
		LUN: int(data.number("target_lun", 0, maxLUN, 0)),
	}}
}

// iscsiTargets pairs the lists of portals, names and LUNs; the LUN of all is target_lun where there is no list of them.
func iscsiTargets(data object) []ISCSITarget {
	portals, iqns := data.some("target_portals", portal), data.some("target_iqns", iqn)
	if len(iqns) != len(portals) {
		data.refuse("target_iqns", "", "there are %d for %d target_portals", len(iqns), len(portals))
		return nil
	}
	luns := parseLUNs(data, len(portals))
	if len(luns) != len(portals) {
		data.refuse("target_luns", "", "there are %d for %d target_portals", len(luns), len(portals))
		return nil
	}
	var out []ISCSITarget
	for i := range portals {
		t := ISCSITarget{Portal: portals[i], IQN: iqns[i], LUN: luns[i]}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out
}

// parseLUNs reads target_luns, or target_lun, a number or a list, for each of n targets.
func parseLUNs(data object, n int) []int {
	key := "target_luns"
	if !data.has(key) {
		if key = "target_lun"; !isList(data.raw[key]) {
			return slices.Repeat([]int{int(data.number(key, 0, maxLUN, 0))}, n)
		}
	}
	var luns []int
	for i, raw := range data.list(key) {
		luns = append(luns, int(data.numeral(at(key, i), raw, 0, maxLUN)))
	}
	return luns
}

func isList(raw json.RawMessage) bool { return strings.HasPrefix(strings.TrimSpace(string(raw)), "[") }

// parseCHAP reads who logs in; nil when nobody has to.
func parseCHAP(data object, prefix string) *CHAP {
	method := data.text(prefix+"method", oneOf("CHAP", "None", ""))
	if method != "CHAP" {
		for _, key := range []string{prefix + "username", prefix + "password"} {
			if data.has(key) && method == "" {
				data.refuse(prefix+"method", "", "it is missing, and there is %s", key)
			}
		}
		return nil
	}
	c := &CHAP{Method: method, User: data.must(prefix+"username", credential), Password: data.secret(prefix+"password", credential)}
	if c.Password == "" {
		data.refuse(prefix+"password", "", "it is missing")
	}
	return c
}

func parseFC(data object, info *Info) {
	f := &FCInfo{AddressingMode: data.text("addressing_mode", addressing)}
	info.FC = f
	ports := fcPorts(data)
	luns := parseLUNs(data, len(ports))
	if len(luns) == 1 {
		luns = slices.Repeat(luns, len(ports))
	}
	if len(luns) != len(ports) {
		data.refuse("target_luns", "", "there are %d for %d ports of the array", len(luns), len(ports))
		return
	}
	for i := range ports {
		if t := (FCTarget{ports[i], luns[i]}); !slices.Contains(f.Targets, t) {
			f.Targets = append(f.Targets, t)
		}
	}
	switch {
	case data.has("initiator_target_lun_map"):
		f.Map = fcMap(data.nested("initiator_target_lun_map"), lunPairs)
	case data.has("initiator_target_map"):
		f.Map = fcMap(data.nested("initiator_target_map"), f.among)
	}
}

// fcPorts reads target_wwns, or target_wwn, one or a list.
func fcPorts(data object) []string {
	switch {
	case data.has("target_wwns"):
		return data.some("target_wwns", wwpn)
	case isList(data.raw["target_wwn"]):
		return data.some("target_wwn", wwpn)
	default:
		return []string{data.must("target_wwn", wwpn)}
	}
}

// fcMap reads a map of initiators to what they reach; one that is empty says nothing.
func fcMap(o object, reached func(o object, name string) []FCTarget) map[string][]FCTarget {
	outer := object{name: strings.TrimSuffix(o.name, "."), err: o.err}
	if len(o.raw) > most {
		outer.refuse("", "", "the map is longer than %d", most)
	}
	var out map[string][]FCTarget
	for _, name := range slices.Sorted(maps.Keys(o.raw)) {
		from := outer.ruled("", name, wwpn)
		if *o.err != nil {
			return nil
		}
		if out == nil {
			out = map[string][]FCTarget{}
		}
		out[from] = append([]FCTarget{}, reached(o, name)...)
	}
	return out
}

// among reads [target, ...]. Targets that are not the volume's are left out, as os-brick does: the zones of a fabric may have more.
func (f *FCInfo) among(o object, name string) []FCTarget {
	var out []FCTarget
	for _, to := range o.texts(name, wwpn) {
		for _, t := range f.Targets {
			if t.WWPN == to {
				out = append(out, t)
			}
		}
	}
	return out
}

// lunPairs reads [[target, LUN], ...].
func lunPairs(o object, name string) []FCTarget {
	var out []FCTarget
	for i, raw := range o.list(name) {
		var pair []json.RawMessage
		if json.Unmarshal(raw, &pair) != nil || len(pair) != 2 {
			o.refuse(at(name, i), string(raw), "it must be a list of a target and its LUN")
			return nil
		}
		out = append(out, FCTarget{
			WWPN: o.entry(at(name, i)+"[0]", pair[0]).must("", wwpn),
			LUN:  int(o.numeral(at(name, i)+"[1]", pair[1], 0, maxLUN)),
		})
	}
	return out
}

// parseNVMe reads either form: the one with target_nqn and portals, or the older with nqn and one portal; or the former inside
// volume_replicas, where there is one replica only.
func parseNVMe(data object, info *Info) {
	if replicas := data.list("volume_replicas"); len(replicas) > 0 {
		if len(replicas) > 1 {
			if *data.err == nil {
				*data.err = &Error{Reason: Unsupported, Field: data.name + "volume_replicas", Rule: "a volume of several replicas needs an array of the md driver, which is not made here"}
			}
			return
		}
		data = data.entry("volume_replicas[0]", replicas[0]).nested("")
	}
	n := &NVMeInfo{
		HostNQN: data.text("host_nqn", nqn),
		UUID:    data.text("vol_uuid", uuid),
		NGUID:   data.text("volume_nguid", uuid),
		NSID:    int(data.number("ns_id", 1, 1<<32-2, 0)),
	}
	info.NVMe = n
	switch {
	case n.UUID != "":
		info.WWID = "uuid." + n.UUID
	case n.NGUID != "":
		info.WWID = "eui." + strings.ReplaceAll(n.NGUID, "-", "")
	}
	if data.has("target_nqn") {
		n.NQN = data.must("target_nqn", nqn)
		n.Portals = nvmePortals(data)
		return
	}
	n.NQN = data.must("nqn", nqn)
	n.Portals = []NVMePortal{nvmePortal(
		data.field("target_portal"), data.field("target_port"), data.field("transport_type"))}
}

// nvmePortals reads a list of [address, port, transport].
func nvmePortals(data object) []NVMePortal {
	portals := data.list("portals")
	if len(portals) == 0 {
		data.refuse("portals", "", "it must be a list that is not empty")
	}
	var out []NVMePortal
	for i, raw := range portals {
		var parts []json.RawMessage
		if json.Unmarshal(raw, &parts) != nil || len(parts) != 3 {
			data.refuse(at("portals", i), string(raw), "it must be a list of address, port and transport")
			return nil
		}
		entry := func(j int) object { return data.entry(at(at("portals", i), j), parts[j]) }
		if p := nvmePortal(entry(0), entry(1), entry(2)); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// field is a field as an object of its own, as entry is for a list's.
func (o object) field(key string) object {
	out := object{name: o.name + key, err: o.err}
	if raw, ok := o.raw[key]; ok {
		out.raw = map[string]json.RawMessage{"": raw}
	}
	return out
}

const nvmePort = 4420 // IANA's

// nvmePortal reads one portal. RoCEv2 is what Cinder calls rdma.
func nvmePortal(address, port, transport object) NVMePortal {
	p := NVMePortal{Transport: transport.must("", func(s string) (string, string) {
		s = strings.ToLower(s)
		if s == "rocev2" {
			s = "rdma"
		}
		return oneOf("tcp", "rdma", "fc")(s)
	})}
	if p.Transport == "fc" {
		p.Address = address.must("", nvmeFC)
		return p
	}
	p.Address = address.must("", host)
	p.Port = int(port.number("", 1, 65535, nvmePort))
	return p
}
