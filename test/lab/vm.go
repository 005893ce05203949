package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/digitalocean/go-qemu/qmp"
	"golang.org/x/crypto/ssh"
)

// vm is a running lab machine.
type vm struct {
	cmd     *exec.Cmd
	sockets string // directory of its sockets: paths of sockets must be short
	key     ssh.Signer
	monitor *qmp.SocketMonitor
	console *console
	errors  tail
	// migrated gets how a migration ended.
	migrated chan string

	ended context.Context // ends with QEMU, or when the run ends
	end   context.CancelCauseFunc
	gone  chan struct{} // closed when QEMU has ended
}

// options is what differs between the machine whose state is saved and those that are restored.
type options struct {
	disk   string   // qcow2 image
	ram    string   // directory of the memory's files
	shared bool     // what the machine writes to its memory goes to the files
	share  string   // directory that the machine can mount read-only
	image  string   // directory with kernel and initrd
	state  *os.File // what QEMU restores; nil to boot
}

// start runs QEMU. It ends with ctx or with stop, at the latest with this process.
func start(ctx context.Context, p profile, o options) (*vm, error) {
	v := &vm{gone: make(chan struct{}), migrated: make(chan string, 2)}
	var err error
	if v.sockets, err = os.MkdirTemp("", "lab"); err != nil {
		return nil, err
	}
	authorized, err := v.makeKey()
	if err != nil {
		return nil, err
	}
	address := filepath.Join(v.sockets, "monitor")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: address, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer listener.Close() //nolint:errcheck // QEMU has its own
	listener.SetUnlinkOnClose(false)
	socket, err := listener.File()
	if err != nil {
		return nil, err
	}
	defer socket.Close() //nolint:errcheck // likewise

	v.ended, v.end = context.WithCancelCause(ctx)
	v.console = newConsole(func(line string) {
		// A moment later: more lines follow, which tell why.
		time.AfterFunc(2*time.Second, func() { v.end(fmt.Errorf("%w: its kernel says: %s", errLab, line)) })
	})
	v.cmd = exec.CommandContext(v.ended, "qemu-system-x86_64", v.arguments(p, o, authorized)...)
	v.cmd.ExtraFiles = []*os.File{socket}
	if o.state != nil {
		v.cmd.ExtraFiles = append(v.cmd.ExtraFiles, o.state)
	}
	v.cmd.Stderr, v.cmd.Stdout = &v.errors, v.console
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		_ = os.RemoveAll(v.sockets)
		return nil, err
	}
	go v.wait()
	if err := v.connect(address); err != nil {
		v.stop()
		return nil, v.explain(err)
	}
	return v, nil
}

// arguments is QEMU's command line. File descriptors 3 and 4 are the monitor's listening socket and
// the saved state.
func (v *vm) arguments(p profile, o options, authorized string) []string {
	args := append(p.hardware(o.ram, o.shared),
		"-kernel", filepath.Join(o.image, "vmlinuz"), "-initrd", filepath.Join(o.image, "initrd"), "-append", p.kernelLine(),
		"-drive", "if=none,id=root,format=qcow2,cache=unsafe,discard=unmap,file="+comma(o.disk),
		// The machine reaches nobody; the runner reaches its sshd.
		"-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22",
		"-fsdev", "local,id=share,security_model=none,readonly=on,path="+comma(o.share),
		"-fw_cfg", "name=opt/lab/key,string="+comma(authorized),
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=monitor,fd=3,server=on,wait=off", "-mon", "chardev=monitor,mode=control")
	if o.state != nil {
		args = append(args, "-incoming", "defer")
	}
	return args
}

func (v *vm) wait() {
	_ = v.cmd.Wait()                                                    // how it ended is in the process state
	v.end(fmt.Errorf("%w: QEMU ended: %v", errLab, v.cmd.ProcessState)) // unless it was ended
	close(v.gone)
}

// stop ends QEMU, whatever it does, and removes the sockets.
func (v *vm) stop() {
	v.end(errors.New("stopped"))
	<-v.gone
	if v.monitor != nil {
		_ = v.monitor.Disconnect()
	}
	_ = os.RemoveAll(v.sockets)
}

// explain adds what is known of the machine's end to an error that may come from it.
func (v *vm) explain(err error) error {
	if cause := context.Cause(v.ended); cause != nil && err != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	if said := v.errors.String(); said != "" && err != nil {
		err = fmt.Errorf("%w\nQEMU says:\n%s", err, said)
	}
	return err
}

// connect opens the monitor. Its socket listens already; QEMU answers when it has set up the machine.
func (v *vm) connect(address string) (err error) {
	if v.monitor, err = qmp.NewSocketMonitor("unix", address, time.Minute); err != nil {
		return err
	}
	if err := v.monitor.Connect(); err != nil {
		return err
	}
	events, err := v.monitor.Events(v.ended)
	if err == nil {
		go v.watch(events)
	}
	return err
}

// watch reads all events: the monitor is stuck when nobody does.
func (v *vm) watch(events <-chan qmp.Event) {
	for e := range events {
		status, _ := e.Data["status"].(string)
		if e.Event == "MIGRATION" && (status == "completed" || status == "failed") {
			v.migrated <- status
		}
	}
}

// run executes a command of the monitor and decodes its answer into out, unless that is nil.
func (v *vm) run(command string, arguments map[string]any, file *os.File, out any) error {
	message := map[string]any{"execute": command}
	if arguments != nil {
		message["arguments"] = arguments
	}
	request, err := json.Marshal(message)
	if err != nil {
		return err
	}
	answer, err := v.monitor.RunWithFile(request, file)
	if err != nil {
		return v.explain(fmt.Errorf("%s: %w", command, err))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, &struct {
		Return any `json:"return"`
	}{out})
}

var forwarded = regexp.MustCompile(`HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s`)

// logIn opens an SSH connection. The machine must answer within a minute.
func (v *vm) logIn(hostKey ssh.PublicKey) (*ssh.Client, error) {
	var text string
	if err := v.run("human-monitor-command", map[string]any{"command-line": "info usernet"}, nil, &text); err != nil {
		return nil, err
	}
	port := forwarded.FindStringSubmatch(text)
	if port == nil {
		return nil, fmt.Errorf("QEMU names no port for SSH: %q", text)
	}
	address := "127.0.0.1:" + port[1]
	conn, err := net.DialTimeout("tcp", address, time.Minute)
	if err != nil {
		return nil, err
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return nil, err
	}
	c, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(v.key)}, HostKeyCallback: ssh.FixedHostKey(hostKey),
	})
	if err != nil {
		_ = conn.Close()
		return nil, v.explain(fmt.Errorf("log in: %w", err))
	}
	return ssh.NewClient(c, channels, requests), conn.SetDeadline(time.Time{})
}

// execute runs a shell command in the machine until it or the machine ends.
func (v *vm) execute(client *ssh.Client, command string, out io.Writer) error {
	session, err := client.NewSession()
	if err != nil {
		return v.explain(fmt.Errorf("%w: %w", errLab, err))
	}
	defer session.Close() //nolint:errcheck // closed by the end of the command
	var said tail
	session.Stdout, session.Stderr = out, &said
	done := make(chan error, 1)
	go func() { done <- session.Run(command) }()
	select {
	case err = <-done:
	case <-v.ended.Done():
		err = context.Cause(v.ended)
	}
	var exit *ssh.ExitError
	switch {
	case err == nil || errors.Is(err, errLab) || v.ended.Err() != nil:
		return err
	case !errors.As(err, &exit):
		if trouble := firstTrouble(v.console.all()); trouble != "" {
			return fmt.Errorf("%w: its kernel says: %s", errLab, trouble)
		}
		return fmt.Errorf("%w: the connection broke: %w", errLab, err)
	case said.String() != "":
		return fmt.Errorf("%w: %s", err, said.String())
	}
	return err
}
