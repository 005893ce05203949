// Package guest gives tests the tiny guest: a bootable disk whose serial console tells what the
// guest sees, in lines that begin with "TINY:".
package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// ImageVariable is the environment variable that names an image that is built already; `make`
// sets it. Packages that may not import this one read it themselves. The name does not begin with
// COMPUTE_AGENT_, which is for the agent's own configuration.
const ImageVariable = "TINY_GUEST_IMAGE"

// Image returns the path of the tiny guest's qcow2 image and builds it first if need be. Tests put
// an overlay on it and never write to it.
func Image(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(ImageVariable); path != "" {
		return path
	}
	_, source, _, _ := runtime.Caller(0)
	build := exec.Command(filepath.Join(filepath.Dir(source), "build.sh"))
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatalf("build the tiny guest: %v", err)
	}
	return strings.TrimSpace(string(out))
}
