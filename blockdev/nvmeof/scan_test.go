package nvmeof

import "testing"

// TestScansGoWithTheirUsers: of subsystems that nobody asks for nothing is kept.
func TestScansGoWithTheirUsers(t *testing.T) {
	var s scans
	got, err := s.do("a", func() ([]Controller, error) {
		return s.do("b", func() ([]Controller, error) { return []Controller{{Name: "nvme0"}}, nil })
	})
	if err != nil || len(got) != 1 || len(s.looks) != 0 {
		t.Errorf("%v, %v; %d are kept", got, err, len(s.looks))
	}
}
