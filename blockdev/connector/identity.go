package connector

import "fmt"

// CheckIdentity refuses, with IdentityMismatch, a disk that is not the one that is known. An empty known is of a disk that is seen for the first
// time. device is what the error names.
func CheckIdentity(device string, found, known Identity) error {
	if known == "" || found == known {
		return nil
	}
	value := string(found)
	if value == "" {
		value = "without a name"
	}
	return &Error{Reason: IdentityMismatch, Field: device, Value: value, Rule: fmt.Sprintf("another disk is where the volume was: it must be %s", known)}
}
