package compute_test

import (
	"testing"

	"go.uber.org/goleak"
)

// No test may leave a goroutine behind: what a closed manager still does would happen to its successor.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
