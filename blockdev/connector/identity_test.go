package connector

import (
	"errors"
	"testing"
)

func TestCheckIdentity(t *testing.T) {
	for _, c := range []struct{ found, known, want string }{
		{"naa.1", "naa.1", ""},
		{"naa.1", "", ""},
		{"", "", ""},
		{"naa.2", "naa.1", `sda="naa.2": another disk is where the volume was: it must be naa.1`},
		{"", "naa.1", `sda="without a name": another disk is where the volume was: it must be naa.1`},
	} {
		err := CheckIdentity("sda", Identity(c.found), Identity(c.known))
		if c.want == "" {
			if err != nil {
				t.Errorf("%+v: %v", c, err)
			}
			continue
		}
		var e *Error
		if !errors.As(err, &e) || e.Reason != IdentityMismatch || err.Error() != c.want {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
