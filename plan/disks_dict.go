package plan

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"compute-agent/blockdev"
)

// bdmQuestion asks for one of the forms of block device mappings (nova.block_device.BlockDeviceDict): the API's, the
// one inside, and EC2's, which Nova calls legacy. What it refuses, Nova's API answers with 400.
type bdmQuestion struct {
	Fn                 string          `json:"fn"`
	Arg                json.RawMessage `json:"arg"`
	ImageUUIDSpecified bool            `json:"image_uuid_specified"`
	ImageUUID          string          `json:"image_uuid"`
	NoRoot             bool            `json:"no_root"`
}

// pythonError is an exception of Python's, by its class.
type pythonError struct{ class, message string }

func (e *pythonError) Error() string { return e.class + ": " + e.message }

func invalidFormat(details string) error {
	return &pythonError{"InvalidBDMFormat", "Block Device Mapping is Invalid: " + details}
}

func (q *bdmQuestion) answer(op, rootName string) (any, error) {
	if op == "string" {
		return answerString(q.Fn, q.Arg)
	}
	result, err := q.dict(rootName)
	var raised *pythonError
	if errors.As(err, &raised) {
		return form{"error": form{"class": raised.class, "message": raised.message}}, nil
	}
	return form{"result": result}, err
}

func (q *bdmQuestion) dict(rootName string) (any, error) {
	if q.Fn == "from_legacy_mapping" {
		var all []form
		if err := json.Unmarshal(q.Arg, &all); err != nil {
			return nil, fmt.Errorf("arg: %w", err)
		}
		return fromLegacyMapping(all, q.ImageUUID, rootName, q.NoRoot)
	}
	var arg form
	if err := json.Unmarshal(q.Arg, &arg); err != nil {
		return nil, fmt.Errorf("arg: %w", err)
	}
	switch q.Fn {
	case "from_api":
		return fromAPI(arg, q.ImageUUIDSpecified)
	case "from_legacy":
		return fromLegacy(arg)
	case "legacy":
		dict, err := newDict(arg)
		if err != nil {
			return nil, err
		}
		return toLegacy(dict)
	}
	return nil, fmt.Errorf("fn %q is not known", q.Fn)
}

var (
	dictFields = strings.Fields("source_type destination_type guest_format device_type disk_bus boot_index device_name delete_on_termination " +
		"snapshot_id volume_id volume_size image_id no_device connection_info tag volume_type encrypted encryption_secret_uuid " +
		"encryption_format encryption_options")
	storedFields = strings.Fields("id instance_uuid attachment_id uuid created_at updated_at deleted_at deleted")
	legacyFields = strings.Fields("device_name delete_on_termination snapshot_id volume_id volume_size no_device connection_info")
	// unknownToLegacy are fields that the legacy form says nothing of.
	unknownToLegacy = strings.Fields("boot_index disk_bus guest_format device_type")
)

// newDict checks a mapping and adds the fields that it does not have, but for those to leave out.
func newDict(in form, leaveOut ...string) (form, error) {
	dict := maps.Clone(in)
	if dict == nil {
		dict = form{}
	}
	if err := checkDict(dict); err != nil {
		return nil, err
	}
	if name, _ := dict["device_name"].(string); name != "" {
		dict["device_name"] = blockdev.Path(name)
	}
	dict["delete_on_termination"] = truth(dict["delete_on_termination"])
	for _, field := range dictFields {
		if _, set := dict[field]; !set && !slices.Contains(leaveOut, field) {
			dict[field] = nil
		}
	}
	return dict, nil
}

// checkDict checks the fields and makes numbers of texts in place.
func checkDict(dict form) error {
	var unknown []string
	for _, field := range slices.Sorted(maps.Keys(dict)) {
		if !slices.Contains(dictFields, field) && !slices.Contains(storedFields, field) {
			unknown = append(unknown, field)
		}
	}
	if unknown != nil {
		return invalidFormat("Following fields are invalid: " + strings.Join(unknown, " "))
	}
	if truth(dict["no_device"]) {
		return nil
	}
	if _, set := dict["source_type"]; !set {
		return invalidFormat("Some required fields are missing")
	}
	if v, set := dict["delete_on_termination"]; set {
		dict["delete_on_termination"] = saysYes(v)
	}
	if err := checkName(dict["device_name"]); err != nil {
		return err
	}
	if v := dict["volume_size"]; truth(v) {
		n, ok := whole(v)
		if !ok || n < 0 {
			return invalidFormat("Invalid volume_size.")
		}
		dict["volume_size"] = n
	}
	if v := dict["boot_index"]; truth(v) {
		n, ok := whole(v)
		if !ok {
			return invalidFormat("Boot index is invalid.")
		}
		dict["boot_index"] = n
	}
	return nil
}

func checkName(v any) error {
	if v == nil {
		return nil
	}
	name, isText := v.(string)
	switch n := utf8.RuneCountInString(name); {
	case !isText || n < 1 || n > 255:
		return invalidFormat("Device name empty or too long.")
	case strings.Contains(name, " "):
		return invalidFormat("Device name contains spaces.")
	}
	return nil
}

// fromAPI makes the form inside of the API's, whose uuid is that of the mapping's source.
func fromAPI(in form, imageGiven bool) (form, error) {
	dict := maps.Clone(in)
	if !truth(dict["no_device"]) {
		if err := checkSource(dict, imageGiven); err != nil {
			return nil, err
		}
	}
	delete(dict, "uuid")
	return newDict(dict)
}

func checkSource(dict form, imageGiven bool) error {
	source, hasSource := dict["source_type"].(string)
	local := dict["destination_type"] == "local"
	id := dict["uuid"]
	switch {
	case source == "blank" && truth(id):
		return invalidFormat("Invalid device UUID.")
	case source == "blank":
	case !truth(id):
		return invalidFormat("Missing device UUID.")
	case !hasSource:
		return &pythonError{"TypeError", "unsupported operand type(s) for +: 'NoneType' and 'str'"}
	default:
		dict[source+"_id"] = id
	}
	if source == "image" && local {
		first := -1
		if v := dict["boot_index"]; v != nil {
			n, ok := whole(v)
			if !ok {
				return &pythonError{"ValueError", fmt.Sprintf("invalid literal for int() with base 10: '%v'", v)}
			}
			first = n
		}
		if !imageGiven || first != 0 { // only the image that a server is made of becomes a disk of the host's
			return invalidFormat("Mapping image to local is not supported.")
		}
	}
	switch ofType := truth(dict["volume_type"]); {
	case local && ofType:
		return invalidFormat("Specifying a volume_type with destination_type=local is not supported.")
	case source == "volume" && ofType:
		return invalidFormat("Specifying volume type to existing volume is not supported.")
	}
	return nil
}

// fromLegacy makes the form inside of EC2's.
func fromLegacy(in form) (form, error) {
	dict := form{}
	for k, v := range in {
		if slices.Contains(legacyFields, k) || slices.Contains(storedFields, k) {
			dict[k] = v
		}
	}
	virtual, _ := in["virtual_name"].(string)
	switch {
	case isSwapOrEphemeral(virtual):
		dict["source_type"], dict["destination_type"], dict["delete_on_termination"] = "blank", "local", true
		dict["guest_format"] = nil // default_ephemeral_format
		if virtual == "swap" {
			dict["guest_format"] = "swap"
		}
	case truth(in["snapshot_id"]):
		dict["source_type"], dict["destination_type"] = "snapshot", "volume"
	case truth(in["volume_id"]):
		dict["source_type"], dict["destination_type"] = "volume", "volume"
	case !truth(in["no_device"]):
		return nil, invalidFormat("Unrecognized legacy format.")
	}
	return newDict(dict, unknownToLegacy...)
}

func toLegacy(dict form) (form, error) {
	out := form{}
	for k, v := range dict {
		if slices.Contains(legacyFields, k) || slices.Contains(storedFields, k) {
			out[k] = v
		}
	}
	switch source := dict["source_type"]; {
	case source == "blank":
		out["virtual_name"] = "ephemeral0"
		if dict["guest_format"] == "swap" {
			out["virtual_name"] = "swap"
		}
	case source == "volume" || source == "snapshot" || truth(dict["no_device"]):
		out["virtual_name"] = nil
	case source == "image":
		if dict["destination_type"] != "volume" {
			return nil, &pythonError{"InvalidBDMForLegacy", "Block Device Mapping cannot be converted to legacy format. "}
		}
		out["virtual_name"] = nil
	}
	return out, nil
}

// fromLegacyMapping makes the form inside of all of a server's mappings of EC2's form, and says which one it boots from.
func fromLegacyMapping(in []form, image, rootName string, noRoot bool) ([]form, error) {
	all := []form{}
	for _, legacy := range in {
		dict, err := fromLegacy(legacy)
		if err != nil {
			return nil, err
		}
		all = append(all, dict)
	}
	if noRoot {
		for _, dict := range all {
			dict["boot_index"] = -1
		}
		return all, nil
	}
	if rootName == "" && image == "" {
		if i := slices.IndexFunc(all, func(d form) bool { return d["source_type"] != "blank" }); i >= 0 {
			all[i]["boot_index"] = 0
		}
		return all, nil
	}
	if markRoot(all, rootName) || image == "" {
		return all, nil
	}
	root, err := newDict(form{"source_type": "image", "image_id": image, "delete_on_termination": true, "boot_index": 0,
		"device_type": "disk", "destination_type": "local"})
	return append([]form{root}, all...), err
}

// markRoot makes the mapping with the root device's name the first to boot, and says whether there is one.
func markRoot(all []form, rootName string) (found bool) {
	for _, dict := range all {
		source := dict["source_type"]
		name, _ := dict["device_name"].(string)
		switch {
		case rootName != "" && slices.Contains([]any{"volume", "snapshot", "image"}, source) && blockdev.Strip(name) == blockdev.Strip(rootName):
			dict["boot_index"], found = 0, true
		case truth(dict["no_device"]):
			dict["boot_index"] = nil
		default:
			dict["boot_index"] = -1
		}
	}
	return found
}

// truth is what Python takes a value of JSON for in a condition.
func truth(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case float64:
		return v != 0
	case int:
		return v != 0
	case []any:
		return len(v) > 0
	case form:
		return len(v) > 0
	}
	return true
}

// saysYes is what oslo's bool_from_string takes a value for.
func saysYes(v any) bool {
	if b, is := v.(bool); is {
		return b
	}
	return slices.Contains([]string{"1", "t", "true", "on", "y", "yes"}, strings.ToLower(strings.TrimSpace(fmt.Sprint(v))))
}

// whole reads a number or a text of one.
func whole(v any) (int, bool) {
	switch v := v.(type) {
	case float64:
		return int(v), v == float64(int(v))
	case int:
		return v, true
	case bool:
		return 1, v // Python's True
	case string:
		n, err := strconv.Atoi(strings.TrimSpace(v))
		return n, err == nil
	}
	return 0, false
}
