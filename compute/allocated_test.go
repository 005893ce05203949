package compute_test

import (
	"os"
	"syscall"
	"testing"
)

// allocated is how many bytes of a file are there.
func allocated(t *testing.T, path string) int64 {
	t.Helper()
	stat, err := os.Stat(path)
	must(t, err)
	return stat.Sys().(*syscall.Stat_t).Blocks * 512
}
