package target

import (
	"net"
	"os"
	"os/exec"
	"testing"
)

// StartNBD exports a file that holds a raw disk under a name, at a free port of 127.0.0.1 whose address it returns. The test ends it.
func StartNBD(t testing.TB, file, export string) *net.TCPAddr {
	t.Helper()
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	socket, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	// The server takes over a socket that listens (sd_listen_fds(3)), so nobody waits for it.
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec qemu-nbd --persistent --shared=0 --format=raw --export-name="$1" -- "$0"`, file, export)
	cmd.ExtraFiles = []*os.File{socket}
	start(t, cmd)
	return l.Addr().(*net.TCPAddr)
}
