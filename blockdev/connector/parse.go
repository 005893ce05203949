package connector

import (
	"encoding/json"
	"slices"
	"strings"
)

// maxInfo bounds a connection_info in bytes.
const maxInfo = 256 << 10

// Parse reads a connection_info, as Cinder makes it for os-brick: {"driver_volume_type": ..., "data": {...}}, or without data around the fields, as the
// attachments API shows it. What is wrong is an *Error of reason InvalidInfo that names the field (data.target_portal), and of reason Unsupported for what is
// right and no host can do. Fields that it does not know are ignored: drivers add some.
func Parse(raw Raw) (Info, error) {
	var first *Error
	top := object{err: &first}
	switch {
	case len(raw) > maxInfo:
		top.refuse("connection_info", "", "it is longer than %d bytes", maxInfo)
	case json.Unmarshal(raw, &top.raw) != nil || top.raw == nil:
		top.refuse("connection_info", "", "it is not a JSON object")
	}
	if first != nil {
		return Info{}, first
	}
	info := parse(top)
	if first != nil {
		return Info{}, first
	}
	return info, nil
}

// parsers read what only volumes of a type have.
var parsers = map[Type]func(object, *Info){
	ISCSI:        parseISCSI,
	ISER:         parseISCSI,
	FibreChannel: parseFC,
	NVMeoF:       parseNVMe,
	NFS:          parseNFS,
	RBD:          parseRBD,
	NBD:          parseNBD,
	Local:        func(data object, info *Info) { info.Path = data.must("device_path", device) },
	File:         func(data object, info *Info) { info.Path = data.must("device_path", regular) },
}

func parse(top object) Info {
	data := top
	if top.has("data") {
		data = top.nested("data")
	}
	known := make([]string, 0, len(parsers))
	for t := range parsers {
		known = append(known, string(t))
	}
	slices.Sort(known)
	info := Info{Type: Type(top.must("driver_volume_type", oneOf(known...)))}
	if info.Type == "" {
		return info
	}
	parsers[info.Type](data, &info)
	parseCommon(top, data, &info)
	return info
}

// parseCommon reads what volumes of all types may have. These fields are in data, or beside it.
func parseCommon(top, data object, info *Info) {
	where := func(key string) object {
		if data.has(key) {
			return data
		}
		return top
	}
	flag := func(key string) bool { return where(key).boolean(key) }
	info.ReadOnly = where("access_mode").text("access_mode", oneOf("rw", "ro")) == "ro"
	info.Discard = flag("discard")
	info.Encrypted = flag("encrypted")
	info.Cacheable = flag("cacheable")
	info.EnforceMultipath = flag("enforce_multipath")
	info.Logical = blockSize(where("logical_block_size"), "logical_block_size")
	info.Physical = blockSize(where("physical_block_size"), "physical_block_size")
	if info.Logical > info.Physical && info.Physical != 0 {
		data.refuse("physical_block_size", "", "it is smaller than logical_block_size")
	}
	info.Limits = parseLimits(where("qos_specs").nested("qos_specs"))
	if info.WWID == "" {
		info.WWID = data.text("wwn", wwid)
	}
	info.Format = parseFormat(data, info.Type)
}

// blockSize is a power of two that QEMU can show to a guest.
func blockSize(o object, key string) int {
	n := o.number(key, 512, 2<<20, 0)
	if n&(n-1) != 0 {
		o.refuse(key, "", "%d is not a power of two", n)
	}
	return int(n)
}

// parseFormat reads what a file's contents are; all but files are raw, whatever they hold.
func parseFormat(data object, t Type) string {
	if t == NFS || t == File {
		return data.text("format", oneOf("raw", "qcow2"))
	}
	return data.text("format", oneOf("raw"))
}

// maxLimit is QEMU's (THROTTLE_VALUE_MAX).
const maxLimit = 1_000_000_000_000_000

// parseLimits reads qos_specs, as a volume has it (its keys) or as a volume type has it (consumer and specs). What it does not know
// is the storage system's. Limits per GB are not here: the volume service has multiplied them.
func parseLimits(o object) Limits {
	if o.has("specs") {
		if o.text("consumer", oneOf("front-end", "back-end", "both")) == "back-end" {
			return Limits{}
		}
		o = o.nested("specs")
	}
	limit := func(key string) uint64 { return o.number(key, 0, maxLimit, 0) }
	l := Limits{
		TotalBytes: limit("total_bytes_sec"), ReadBytes: limit("read_bytes_sec"), WriteBytes: limit("write_bytes_sec"),
		TotalIOPS: limit("total_iops_sec"), ReadIOPS: limit("read_iops_sec"), WriteIOPS: limit("write_iops_sec"),
		TotalBytesMax: limit("total_bytes_sec_max"), ReadBytesMax: limit("read_bytes_sec_max"), WriteBytesMax: limit("write_bytes_sec_max"),
		TotalIOPSMax: limit("total_iops_sec_max"), ReadIOPSMax: limit("read_iops_sec_max"), WriteIOPSMax: limit("write_iops_sec_max"),
		SizeIOPS: limit("size_iops_sec"),
	}
	checkLimits(o, l)
	return l
}

// checkLimits refuses what QEMU would, when the guest is there already (throttle_is_valid).
func checkLimits(o object, l Limits) {
	exclusive := func(key string, total, read, write uint64) {
		if total != 0 && read+write != 0 {
			o.refuse(key, "", "a limit of all and one of reads or writes exclude each other")
		}
	}
	exclusive("total_bytes_sec", l.TotalBytes, l.ReadBytes, l.WriteBytes)
	exclusive("total_iops_sec", l.TotalIOPS, l.ReadIOPS, l.WriteIOPS)
	exclusive("total_bytes_sec_max", l.TotalBytesMax, l.ReadBytesMax, l.WriteBytesMax)
	exclusive("total_iops_sec_max", l.TotalIOPSMax, l.ReadIOPSMax, l.WriteIOPSMax)
	burst := func(key string, limit, most uint64) {
		if most != 0 && most < max(limit, 1) || most != 0 && limit == 0 {
			o.refuse(key, "", "a burst needs a lower limit of the same kind")
		}
	}
	burst("total_bytes_sec_max", l.TotalBytes, l.TotalBytesMax)
	burst("read_bytes_sec_max", l.ReadBytes, l.ReadBytesMax)
	burst("write_bytes_sec_max", l.WriteBytes, l.WriteBytesMax)
	burst("total_iops_sec_max", l.TotalIOPS, l.TotalIOPSMax)
	burst("read_iops_sec_max", l.ReadIOPS, l.ReadIOPSMax)
	burst("write_iops_sec_max", l.WriteIOPS, l.WriteIOPSMax)
	if l.SizeIOPS != 0 && l.TotalIOPS+l.ReadIOPS+l.WriteIOPS == 0 {
		o.refuse("size_iops_sec", "", "it needs a limit of operations")
	}
}

func parseNFS(data object, info *Info) {
	info.NFS = &NFSInfo{
		Export:  data.must("export", export),
		Name:    data.must("name", fileName),
		Options: data.text("options", mountOptions),
	}
}

func parseRBD(data object, info *Info) {
	pool, image, _ := strings.Cut(data.must("name", poolImage), "/")
	r := &RBDInfo{
		Pool: pool, Image: image,
		Hosts:   parseAddresses(data),
		Cluster: data.text("cluster_name", cephName),
		Keyring: data.secret("keyring", keyring),
	}
	data.text("secret_type", oneOf("ceph"))
	if data.boolean("auth_enabled") {
		r.User = data.must("auth_username", cephName)
		r.SecretUUID = data.text("secret_uuid", uuid)
	}
	info.RBD = r
}

// parseAddresses reads the lists hosts and ports, one port for each host.
func parseAddresses(data object) []Address {
	hosts := data.texts("hosts", host)
	ports := data.list("ports")
	if len(ports) != 0 && len(ports) != len(hosts) {
		data.refuse("ports", "", "there are %d for %d hosts", len(ports), len(hosts))
		return nil
	}
	out := make([]Address, len(hosts))
	for i, h := range hosts {
		out[i].Host = h
		if len(ports) != 0 {
			out[i].Port = int(data.numeral(at("ports", i), ports[i], 1, 65535))
		}
	}
	return out
}

const nbdPort = 10809 // IANA's

func parseNBD(data object, info *Info) {
	info.NBD = &NBDInfo{
		Server: Address{Host: data.must("host", host), Port: int(data.number("port", 1, 65535, nbdPort))},
		Export: data.text("export", nbdExport),
	}
}
