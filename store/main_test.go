package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"compute-agent/compute"
	"compute-agent/store"
)

// The variables that make the test binary another process with a store.
const (
	childVar = "COMPUTE_AGENT_STORE_CHILD"
	pathVar  = "COMPUTE_AGENT_STORE_PATH"
)

var children = map[string]func(path string) error{
	"hold":     hold,
	"write":    write,
	"readonly": openReadOnly,
}

func TestMain(m *testing.M) {
	if child := children[os.Getenv(childVar)]; child != nil {
		if err := child(os.Getenv(pathVar)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// child prepares this test binary as another process. It ends when its standard input does, and so
// with the test.
func child(t *testing.T, name, path string) (cmd *exec.Cmd, stdout io.Reader) {
	t.Helper()
	cmd = exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childVar+"="+name, pathVar+"="+path)
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return cmd, stdout
}

// hold opens a store, says so and keeps it until its input ends.
func hold(path string) error {
	s, err := store.Open(path)
	if err != nil {
		return err
	}
	fmt.Println("open")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, s.Close())
}

// write adds server after server, each with its claim and operation, and prints the number of
// each when the Update has returned.
func write(path string) error {
	fmt.Println("begin")
	s, err := store.Open(path)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		var server compute.Server
		err := s.Update(context.Background(), func(w compute.Writer) (err error) {
			id := fmt.Sprintf("%d-%d", os.Getpid(), i)
			if server, err = w.InsertServer(fullServer(id)); err != nil {
				return err
			}
			return errors.Join(w.PutClaim(compute.Claim{ServerID: id, VCPUs: 1}), w.PutOperation(fullOperation("op-"+id, id)))
		})
		if err != nil {
			return err
		}
		fmt.Println(server.Number)
	}
}

// openReadOnly opens a store in a directory on a file system that is mounted read-only, in this
// process's own mount namespace.
func openReadOnly(dir string) error {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		return err
	}
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		return err
	}
	s, err := store.Open(dir + "/agent.db")
	if err == nil {
		err = fmt.Errorf("it opened; %w", s.Close())
	}
	return err
}

// lines sends what r says line by line.
func lines(r io.Reader) <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		for scan := bufio.NewScanner(r); scan.Scan(); {
			out <- scan.Text()
		}
	}()
	return out
}
