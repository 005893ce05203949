package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"compute-agent/console"
)

const (
	streamed = 2 << 30 // bytes of one measurement of throughput
	rounds   = 5
	// websockify forks for each connection, so that few tell enough.
	websockifyIdle = 20
)

// compareConsoles prints the throughput of the proxy of consoles and of Debian's websockify, which take turns on the stream of one guest, and the memory of
// both with consoles that are idle. Each runs in a process of its own.
func compareConsoles(count int) error {
	guest, err := flood()
	if err != nil {
		return err
	}
	defer guest.Close() //nolint:errcheck // the program ends
	ours, err := startProxy(guest.Addr().String())
	if err != nil {
		return err
	}
	defer ours.stop()
	theirs, err := startWebsockify(guest.Addr().String())
	if err != nil {
		return err
	}
	defer theirs.stop()
	for _, m := range []struct {
		name string
		of   *wsProcess
		idle int
	}{{"console", ours, count}, {"websockify", theirs, websockifyIdle}} { // before streams have left buffers behind
		if err := m.of.measureMemory(m.name, m.idle); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	for range rounds {
		for _, p := range []*wsProcess{ours, theirs} {
			if err := p.stream(); err != nil {
				return err
			}
		}
	}
	ours.report("console")
	theirs.report("websockify")
	return nil
}

// report prints the medians of throughput in MiB a second, and of the CPU time that a GiB takes.
func (p *wsProcess) report(name string) {
	fmt.Printf("%s_rate=%.0f\n%s_cpu_ms=%.0f\n", name, streamed/median(p.took).Seconds()/(1<<20), name, ms(median(p.used))/(streamed>>30))
}

// flood is a guest whose console sends all it has to a client who has sent a byte, and is silent to others.
func flood() (net.Listener, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck // the client counts
				screen := make([]byte, 1<<20)
				if _, err := c.Read(screen[:1]); err != nil {
					return
				}
				for sent := 0; sent < streamed; sent += len(screen) {
					if _, err := c.Write(screen); err != nil {
						return
					}
				}
				_, _ = io.Copy(io.Discard, c) // websockify drops what is under way when the guest goes
			}()
		}
	}()
	return l, nil
}

// wsProcess is a process that joins WebSockets with a guest.
type wsProcess struct {
	cmd     *exec.Cmd
	address string

	took, used []time.Duration // of each stream: time, and CPU time
}

func (p *wsProcess) stop() {
	p.cmd.Process.Kill() //nolint:errcheck // it is ours, and has no state
	p.cmd.Wait()         //nolint:errcheck // it was killed
}

// startProxy runs this program as a proxy.
func startProxy(guest string) (*wsProcess, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "proxy", guest)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	return &wsProcess{cmd: cmd, address: strings.TrimSpace(address)}, err
}

// anyToken opens one guest's console.
type anyToken struct{ guest string }

func (a anyToken) Authorize(context.Context, string) (console.Grant, <-chan struct{}, func(), error) {
	return console.Grant{Protocol: console.VNC, Network: "tcp", Address: a.guest, Expires: time.Now().Add(time.Hour)}, nil, func() {}, nil
}

// serveProxy is the process that startProxy starts.
func serveProxy(guest string) error {
	many := 1 << 20
	proxy, err := console.NewProxy(console.Options{
		Authorizer: anyToken{guest}, Log: slog.New(slog.DiscardHandler),
		Limits: console.Limits{Connections: many, ConnectionsPerServer: many, ConnectionsPerToken: many},
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return (&http.Server{Handler: proxy, ReadHeaderTimeout: time.Minute}).Serve(l)
}

// startWebsockify runs Debian's websockify and waits until it listens.
func startWebsockify(guest string) (*wsProcess, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close() //nolint:errcheck // its port is wanted
	cmd := exec.Command("websockify", address, guest)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &wsProcess{cmd: cmd, address: address}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			return p, c.Close()
		}
	}
	p.stop()
	return nil, errors.New("websockify does not listen")
}

// open opens a console, by a client that costs as little as can be, since both processes have the same: it reads what comes as it comes.
func (p *wsProcess) open() (net.Conn, error) {
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(c, "GET /?token=any HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: binary\r\n\r\n", p.address)
	if err != nil {
		return nil, err
	}
	var head []byte
	for one := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, one...) {
		if _, err := io.ReadFull(c, one); err != nil {
			return nil, fmt.Errorf("after %q: %w", head, err)
		}
	}
	if !strings.Contains(string(head), " 101 ") {
		return nil, fmt.Errorf("no WebSocket: %q", head)
	}
	return c, nil
}

// stream takes the guest's whole stream.
func (p *wsProcess) stream() error {
	before, err := p.cpu()
	if err != nil {
		return err
	}
	c, err := p.open()
	if err != nil {
		return err
	}
	defer c.Close()                            //nolint:errcheck // nothing is left in it
	one := []byte{0x82, 0x81, 0, 0, 0, 0, 'x'} // a binary message of one byte with a mask of zeros
	begin := time.Now()
	if _, err := c.Write(one); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for taken := 0; taken < streamed; { // and the frames' heads
		n, err := c.Read(buf)
		if err != nil {
			return fmt.Errorf("%s: after %d bytes: %w", p.cmd.Path, taken, err)
		}
		taken += n
	}
	p.took = append(p.took, time.Since(begin))
	after, err := p.cpu()
	p.used = append(p.used, after-before)
	return err
}

// cpu is what the process and its children, those that have ended too, have used.
func (p *wsProcess) cpu() (time.Duration, error) {
	pids, err := children(p.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, pid := range append(pids, p.cmd.Process.Pid) {
		used, err := cpuTime(pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// measureMemory prints what a process and its children have without consoles, and with some that are idle.
func (p *wsProcess) measureMemory(name string, idle int) error {
	warm, err := p.open() // code that runs once is loaded, and stays
	if err != nil {
		return err
	}
	warm.Close() //nolint:errcheck // nothing was sent
	if err := alone(p.cmd.Process.Pid); err != nil {
		return err
	}
	before, err := treeMemory(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	conns := make([]net.Conn, idle)
	for i := range conns {
		if conns[i], err = p.open(); err != nil {
			return err
		}
		defer conns[i].Close() //nolint:errcheck // nothing was sent
	}
	with, err := treeMemory(p.cmd.Process.Pid)
	if err != nil {
		return err
	}
	fmt.Printf("%s_idle_mib=%.1f\n%s_each_kib=%.0f\n", name, with.rss, name, (with.pss-before.pss)/float64(idle)*1024)
	return nil
}

// memory is in MiB: rss counts pages for each process that has them, pss shares them out among those.
type memory struct{ rss, pss float64 }

// treeMemory sums up a process and its children, of which websockify has one for each connection.
func treeMemory(pid int) (sum memory, err error) {
	pids, err := children(pid)
	if err != nil {
		return memory{}, err
	}
	for _, p := range append(pids, pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p))
		if err != nil {
			return memory{}, err
		}
		for line := range strings.Lines(string(text)) {
			var kib float64
			if _, err := fmt.Sscanf(line, "Rss: %f kB", &kib); err == nil {
				sum.rss += kib / 1024
			}
			if _, err := fmt.Sscanf(line, "Pss: %f kB", &kib); err == nil {
				sum.pss += kib / 1024
			}
		}
	}
	return sum, nil
}

// children are the processes that a process has started (proc(5), stat).
func children(pid int) (pids []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		var child, parent int
		var state string
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		_, after, ok := strings.Cut(string(stat), ") ")
		if err != nil || !ok {
			continue // no process, or gone
		}
		if _, err := fmt.Sscan(after, &state, &parent); err != nil || parent != pid || state == "Z" {
			continue
		}
		if child, err = strconv.Atoi(e.Name()); err == nil {
			pids = append(pids, child)
		}
	}
	return pids, nil
}

// alone waits until a process has no children.
func alone(pid int) error {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if pids, err := children(pid); err != nil || len(pids) == 0 {
			return err
		}
	}
	return errors.New("its children do not end")
}
