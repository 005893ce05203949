package plan

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"compute-agent/blockdev"
)

// What Nova's API and EC2 read out of the names of devices (nova.block_device). The agent needs none of it.
var (
	diskPrefix    = regexp.MustCompile(`^(x?v|s|h)d`)
	digits        = regexp.MustCompile(`[0-9]+`)
	devicePath    = regexp.MustCompile(`^(/dev/x?[a-z]?d?)([a-z]+)[0-9]*\n?$`)
	ephemeralName = regexp.MustCompile(`^ephemeral([0-9]|[1-9][0-9]+)\n?$`)
)

const defaultRootName = "/dev/sda1"

func stripPrefix(name string) string { return diskPrefix.ReplaceAllString(blockdev.Strip(name), "") }

func deviceLetter(name string) string { return digits.ReplaceAllString(stripPrefix(name), "") }

func isSwapOrEphemeral(name string) bool { return name == "swap" || ephemeralName.MatchString(name) }

// matchDevice takes a path apart into what comes before its letters and these; nil if it is none.
func matchDevice(path string) []string {
	parts := devicePath.FindStringSubmatch(path)
	if parts == nil {
		return nil
	}
	return parts[1:]
}

// answerString applies one of Nova's functions of names to an argument. Python's None and "" stay what they are.
func answerString(fn string, arg json.RawMessage) (any, error) {
	if fn == "generate_device_letter" {
		var index int
		err := json.Unmarshal(arg, &index)
		return form{"result": blockdev.Letters(index)}, err
	}
	var name *string
	if err := json.Unmarshal(arg, &name); err != nil {
		return nil, fmt.Errorf("arg: %w", err)
	}
	answers := map[string]func(string) any{
		"strip_dev":            func(s string) any { return blockdev.Strip(s) },
		"prepend_dev":          func(s string) any { return blockdev.Path(s) },
		"strip_prefix":         func(s string) any { return stripPrefix(s) },
		"get_device_letter":    func(s string) any { return deviceLetter(s) },
		"is_swap_or_ephemeral": func(s string) any { return isSwapOrEphemeral(s) },
		"is_ephemeral":         func(s string) any { return ephemeralName.MatchString(s) },
		"ephemeral_num":        func(s string) any { n, _ := strconv.Atoi(strings.TrimPrefix(s, "ephemeral")); return n },
		"match_device":         func(s string) any { return matchDevice(s) },
	}
	answer, known := answers[fn]
	takesAny := fn != "is_ephemeral" && fn != "ephemeral_num" && fn != "match_device"
	switch {
	case !known:
		return nil, fmt.Errorf("fn %q is not known", fn)
	case name == nil && !takesAny:
		return form{"error": form{"class": "TypeError", "message": "expected string or bytes-like object"}}, nil
	case name == nil, *name == "" && takesAny:
		return form{"result": name}, nil
	}
	return form{"result": answer(*name)}, nil
}

// nextName is the name that Nova's API gives to a volume to come, which its libvirt driver does not keep.
func (q *disksQuestion) nextName() (any, error) {
	names := q.names()
	root := orEmpty(names["root"])
	name, refusal := q.nextDevice(names, root)
	if refusal != nil {
		return form{"error": refusal}, nil
	}
	return form{"device_name": name, "mapping": names}, nil
}

// names are the devices of an instance as EC2 names them.
func (q *disksQuestion) names() map[string]*string {
	if q.RootDeviceName == nil {
		names := map[string]*string{}
		for k, v := range map[string]string{"ami": "sda1", "ephemeral0": "sda2", "root": defaultRootName, "swap": "sda3"} {
			names[k] = &v
		}
		return names
	}
	ami := blockdev.Strip(*q.RootDeviceName)
	names := map[string]*string{"ami": &ami, "root": q.RootDeviceName}
	if orEmpty(q.DefaultEphemeral) != "" {
		names["ephemeral0"] = q.DefaultEphemeral
	}
	if orEmpty(q.DefaultSwap) != "" {
		names["swap"] = q.DefaultSwap
	}
	var volumes, ephemerals []*string
	for _, b := range q.bdms() {
		switch {
		case orEmpty(b.DestinationType) == "volume":
			volumes = append(volumes, b.DeviceName)
		case orEmpty(b.SourceType) != "blank":
		case orEmpty(b.GuestFormat) == "swap":
			names["swap"] = b.DeviceName
		default:
			ephemerals = append(ephemerals, b.DeviceName)
		}
	}
	slices.SortStableFunc(volumes, func(a, b *string) int { return strings.Compare(orEmpty(a), orEmpty(b)) })
	number(names, "ebs", volumes)
	number(names, "ephemeral", ephemerals)
	return names
}

func number(names map[string]*string, kind string, devices []*string) {
	for i, d := range devices {
		names[kind+strconv.Itoa(i)] = d
	}
}

func (q *disksQuestion) nextDevice(names map[string]*string, root string) (name string, refusal form) {
	invalid := func(path string) form {
		return form{"class": blockdev.InvalidDevicePath, "message": fmt.Sprintf("The supplied device path (%s) is invalid.", path)}
	}
	var letter string
	if orEmpty(q.Device) != "" {
		parts := matchDevice(*q.Device)
		if parts == nil {
			return "", invalid(*q.Device)
		}
		letter = parts[1]
	}
	if root == "" {
		root = defaultRootName
	}
	parts := matchDevice(blockdev.Path(root))
	if parts == nil {
		return "", invalid(root)
	}
	used := map[string]bool{}
	nameless := 0
	for _, n := range names {
		if n == nil {
			nameless = 1
			continue
		}
		used[deviceLetter(*n)] = true
	}
	limit := -1
	if err := q.option("compute.max_disk_devices_to_attach", &limit); err != nil {
		return "", form{"class": "ValueError", "message": err.Error()}
	}
	if limit >= 0 && len(used)+nameless+1 > limit {
		return "", form{"class": blockdev.TooManyDiskDevices, "message": tooManyMessage(limit)}
	}
	for i := 0; letter == ""; i++ {
		if l := blockdev.Letters(i); !used[l] {
			letter = l
		}
	}
	if used[letter] {
		return "", form{"class": blockdev.DevicePathInUse, "message": fmt.Sprintf("The supplied device path (%s) is in use.", *q.Device)}
	}
	return parts[0] + letter, nil
}
