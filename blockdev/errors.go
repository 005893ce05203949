package blockdev

import "fmt"

// Error is a drive that the guest cannot have: an image's property or a block device mapping asks for it.
type Error struct {
	Class string // the name of Nova's exception for it
	Key   string // the image property (hw_disk_bus) or the field of the block device mapping (disk_bus)
	Value string // what it was; hostile
	Rule  string // the sentence that it breaks
	Limit int    // of a TooManyDiskDevices: how many there may be
}

// Error returns key, value and rule.
func (e *Error) Error() string {
	if e.Value == "" {
		return fmt.Sprintf("%s: %s", e.Key, e.Rule)
	}
	return fmt.Sprintf("%s=%q: %s", e.Key, e.Value, e.Rule)
}

// Nova's exceptions.
const (
	UnsupportedHardware      = "UnsupportedHardware"
	UnsupportedVirtType      = "UnsupportedVirtType"
	UnsupportedRescueBus     = "UnsupportedRescueBus"
	UnsupportedRescueDevice  = "UnsupportedRescueDevice"
	ConfigDriveUnknownFormat = "ConfigDriveUnknownFormat"
	TooManyDiskDevices       = "TooManyDiskDevices"
	InvalidDevicePath        = "InvalidDevicePath"
	DevicePathInUse          = "DevicePathInUse"
	InvalidBDMBootSequence   = "InvalidBDMBootSequence"
	InternalError            = "InternalError"
	AttributeError           = "AttributeError" // Python's; Nova fails with it and does not mean to
)

// KeyMaxDrives is the Key of an Error that comes from the operator's limit (Request.MaxDrives).
const KeyMaxDrives = "max_disk_devices_to_attach"

func failed(class, key, value, rule string, args ...any) *Error {
	return &Error{Class: class, Key: key, Value: value, Rule: fmt.Sprintf(rule, args...)}
}

func tooMany(key, value string, limit int, rule string) *Error {
	return &Error{Class: TooManyDiskDevices, Key: key, Value: value, Limit: limit, Rule: fmt.Sprintf(rule, limit)}
}
