package cinder

import (
	"maps"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// limitKeys are the limits that a hypervisor keeps (front-end), in the words of Nova and libvirt's iotune.
var limitKeys = []string{
	"total_bytes_sec", "read_bytes_sec", "write_bytes_sec", "total_iops_sec", "read_iops_sec", "write_iops_sec",
	"total_bytes_sec_max", "read_bytes_sec_max", "write_bytes_sec_max", "total_iops_sec_max", "read_iops_sec_max", "write_iops_sec_max", "size_iops_sec",
}

const (
	perGiB    = "_per_gb"
	perGiBMin = "_per_gb_min"
)

// Check says whether QoS specs are sound. others are all QoS specs.
func (q QoS) Check(others []QoS) error {
	if err := checkName(q.Name, ""); err != nil {
		return err
	}
	for _, o := range others {
		if o.ID != q.ID && o.Name == q.Name {
			return Refuse("QoSSpecsExists", Conflict, "", "", "QoS specs %s already exists", q.Name)
		}
	}
	if !slices.Contains([]string{"front-end", "back-end", "both"}, q.Consumer) {
		return invalidQoS("consumer", q.Consumer, "it must be front-end, back-end or both")
	}
	if q.Consumer == "back-end" { // whose words are not known
		return checkMetadata("qos_specs", q.Specs)
	}
	for key, value := range q.Specs {
		if base := baseKey(key); !slices.Contains(limitKeys, base) || base != key && (base == "size_iops_sec" || strings.HasSuffix(base, "_max")) {
			return invalidQoS(key, value, "the hypervisor knows no such limit; it has %s", strings.Join(limitKeys, ", "))
		}
		if _, err := strconv.ParseUint(value, 10, 48); err != nil {
			return invalidQoS(key, value, "it must be a whole number, 0 for no limit")
		}
	}
	return q.checkExclusive()
}

func invalidQoS(field, value, rule string, args ...any) error {
	return Refuse("InvalidQoSSpecs", Invalid, field, value, rule, args...)
}

// baseKey is the limit that a key per GiB stands for.
func baseKey(key string) string {
	return strings.TrimSuffix(strings.TrimSuffix(key, perGiBMin), perGiB)
}

// checkExclusive keeps a limit of all from standing beside one of reads or writes, which libvirt refuses.
func (q QoS) checkExclusive() error {
	limits := q.Limits(1)
	for _, rest := range []string{"bytes_sec", "iops_sec", "bytes_sec_max", "iops_sec_max"} {
		for _, part := range []string{"read_", "write_"} {
			if limits["total_"+rest] != "" && limits[part+rest] != "" {
				return invalidQoS("total_"+rest, limits["total_"+rest], "it cannot stand beside %s%s", part, rest)
			}
		}
	}
	return checkBursts(limits)
}

// checkBursts keeps what libvirt demands: a burst stands above a limit of the same kind, and the size of an operation beside one of operations.
func checkBursts(limits map[string]string) error {
	counted := false
	for _, key := range limitKeys {
		limit, is := limits[key]
		counted = counted || is && strings.HasSuffix(key, "_iops_sec") && key != "size_iops_sec"
		lower, burst := strings.CutSuffix(key, "_max")
		if is && burst && number(limit).Cmp(number(limits[lower])) < 0 {
			return invalidQoS(key, limit, "a burst cannot be below %s", lower)
		}
		if is && burst && limits[lower] == "" {
			return invalidQoS(key, limit, "a burst needs %s", lower)
		}
	}
	if size, is := limits["size_iops_sec"]; is && !counted {
		return invalidQoS("size_iops_sec", size, "it needs a limit of operations")
	}
	return nil
}

// maxRate is the largest limit that QEMU takes (THROTTLE_VALUE_MAX).
var maxRate = big.NewInt(1e15)

// Limits are the limits of a volume of a size, by key: those per GiB are multiplied, and not below their minimum, and a burst below what came of that is
// raised to it: no hypervisor takes it otherwise. What says no limit is left out. Nil when it is not the hypervisor that keeps them.
func (q QoS) Limits(gib int) map[string]string {
	if q.Consumer == "back-end" {
		return nil
	}
	limits := map[string]string{}
	for key, value := range q.Specs {
		if baseKey(key) == key {
			limits[key] = value
		}
	}
	for key, value := range q.Specs {
		base, scaled := strings.CutSuffix(key, perGiB)
		if !scaled {
			continue
		}
		limit := new(big.Int).Mul(number(value), big.NewInt(int64(gib)))
		if least := number(q.Specs[base+perGiBMin]); limit.Cmp(least) < 0 {
			limit = least
		}
		if limit.Cmp(maxRate) > 0 {
			limit = maxRate
		}
		limits[base] = limit.String()
		if burst := number(limits[base+"_max"]); burst.Sign() > 0 && burst.Cmp(limit) < 0 {
			limits[base+"_max"] = limits[base]
		}
	}
	maps.DeleteFunc(limits, func(_, value string) bool { return number(value).Sign() == 0 })
	return limits
}

// number is zero where there is none.
func number(s string) *big.Int {
	n, ok := new(big.Int).SetString(s, 10)
	if !ok {
		return new(big.Int)
	}
	return n
}

// CheckDelete says whether QoS specs may go.
func (q QoS) CheckDelete(types []Type) error {
	for _, t := range types {
		if t.QoSID == q.ID {
			return Refuse("QoSSpecsInUse", Invalid, "", "", "QoS specs %s is still associated with volume type %s", q.ID, t.Name)
		}
	}
	return nil
}
