package console

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"

	"github.com/coder/websocket"
)

// heap is what the process holds.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// mayGrow is what a console that stands still may hold of what is under way, at most: buffers, not the stream.
const mayGrow = 8 << 20

// TestProxyClientStopsReading: the guest's flood stops at the client, and nothing of it is kept; when the client reads again it gets all, in order.
func TestProxyClientStopsReading(t *testing.T) {
	const size = 100 << 20
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	stuck := make(chan struct{})
	at := guest(t, "tcp", "127.0.0.1:0", func(c net.Conn) { flood(c, block, size, stuck) })
	r := newRig(t, grantOf(VNC, at), Options{})
	before := heap()
	c := r.open()
	wait(t, stuck, "the guest cannot send more")
	if grown := heap() - before; grown > mayGrow {
		t.Errorf("%d bytes are held for a client that does not read", grown)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for got := 0; got < size; {
		_, message, err := c.Reader(ctx)
		if err != nil {
			t.Fatalf("after %d bytes: %v", got, err)
		}
		got += sameAs(t, message, block, got)
	}
	wantClosed(t, c, 1000, "guest has closed")
}

// flood writes size bytes of repeated blocks, and says when a write has to wait.
func flood(c net.Conn, block []byte, size int, stuck chan<- struct{}) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return
	}
	told := false
	for sent := 0; sent < size; {
		err := raw.Write(func(fd uintptr) bool {
			n, err := syscall.Write(int(fd), block[sent%len(block):])
			if err != nil && sent > 0 && !told {
				told = true
				close(stuck)
			}
			sent += max(n, 0)
			return err == nil
		})
		if err != nil {
			return
		}
	}
}

// sameAs reads a message, which must be the blocks' bytes from an offset on.
func sameAs(t *testing.T, message io.Reader, block []byte, offset int) (length int) {
	t.Helper()
	buf := make([]byte, 64<<10)
	for {
		n, err := message.Read(buf)
		for part := buf[:n]; len(part) > 0; {
			want := block[offset%len(block):]
			want = want[:min(len(want), len(part))]
			if !bytes.Equal(part[:len(want)], want) {
				t.Fatalf("other bytes than the guest sent, near %d", offset)
			}
			part, offset, length = part[len(want):], offset+len(want), length+len(want)
		}
		if err == io.EOF {
			return length
		}
		if err != nil {
			t.Fatalf("at %d: %v", offset, err)
		}
	}
}

// TestProxyRevokedInFlood: a client that reads slowly is told why its console ends, in the middle of a flood.
func TestProxyRevokedInFlood(t *testing.T) {
	at := guest(t, "tcp", "127.0.0.1:0", func(c net.Conn) { io.Copy(c, zeros{}) }) //nolint:errcheck // the proxy ends it
	r := newRig(t, grantOf(VNC, at), Options{})
	c := r.open()
	readText(t, c, 4<<20)
	go r.authority.revoke("right")
	wantClosed(t, c, CloseEnded, "revoked")
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestProxyPaste: 100 MB in one message pass to a guest that takes its time, and are not kept meanwhile.
func TestProxyPaste(t *testing.T) {
	const size = 100 << 20
	var before, most int64
	got := make(chan int64, 1)
	at := guest(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		var total, n int64
		for err := error(nil); err == nil; total += n {
			n, err = io.CopyN(io.Discard, c, 2<<20)
			most = max(most, heap()) // while the proxy could read on
		}
		got <- total
	})
	r := newRig(t, grantOf(Serial, at), Options{})
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := r.open()
	before = heap()
	w, err := c.Writer(ctx, websocket.MessageBinary)
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 64<<10)
	for range size / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
	if n := <-got; n != size {
		t.Errorf("the guest got %d bytes, want %d", n, size)
	}
	if grown := most - before; grown > mayGrow {
		t.Errorf("%d bytes were held for a guest that reads slowly", grown)
	}
}
