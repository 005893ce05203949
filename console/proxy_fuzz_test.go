package console

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// script is a side of RFB that says what it has to say, whatever it is told.
type script struct {
	net.Conn
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error) { return s.out.Write(p) }

// FuzzRFBGuest: whatever a guest says, the proxy says only what the protocol has, begins TLS only by VeNCrypt, and lets a client in only after it was let in.
func FuzzRFBGuest(f *testing.F) {
	f.Add([]byte(rfbVersion + "\x01\x01\x00\x00\x00\x00"))
	f.Add([]byte(rfbVersion + "\x02\x02\x13\x00\x02\x00\x02\x00\x00\x01\x05\x00\x00\x01\x04\x01\x00\x00\x00\x00"))
	f.Add([]byte(rfbVersion + "\x01\x13\x00\x02\x00\x01\x00\x00\x01\x05\x01"))
	f.Add([]byte(rfbVersion + "\x00\x00\x00\x00\x04full"))
	f.Add([]byte(rfbVersion + "\x00\xff\xff\xff\xff"))
	f.Add([]byte("RFB 003.889\n\x01\x01"))
	f.Fuzz(func(t *testing.T, said []byte) {
		guest, secured := &script{in: bytes.NewReader(said)}, false
		conn, offer, err := rfbGuest(guest, []string{SchemeVeNCrypt, SchemeNone}, func() (net.Conn, error) {
			secured = true
			return guest, nil
		})
		answers := guest.out.Bytes()
		if len(answers) > len(rfbVersion)+1+2+4 || !bytes.HasPrefix([]byte(rfbVersion), answers[:min(len(answers), len(rfbVersion))]) {
			t.Errorf("the proxy said %q", answers)
		}
		if err != nil {
			return
		}
		chosen := answers[len(rfbVersion)]
		if conn == nil || secured != (chosen == rfbTypeVeNCrypt) || offer != rfbTypeNone && (offer != rfbTypeVNC || !secured) {
			t.Errorf("type %d was chosen, %d is offered, TLS %v", chosen, offer, secured)
		}
		read := said[:len(said)-guest.in.Len()]
		if offer == rfbTypeNone && !bytes.HasSuffix(read, make([]byte, 4)) {
			t.Errorf("a client is let in after %q", read)
		}
	})
}

// FuzzRFBClient: a client is let in only if it speaks the version and chose what is offered, and nothing is read beyond that.
func FuzzRFBClient(f *testing.F) {
	f.Add([]byte(rfbVersion+"\x01\x01"), byte(rfbTypeNone))
	f.Add([]byte(rfbVersion+"\x02"), byte(rfbTypeVNC))
	f.Add([]byte("RFB 003.003\n"), byte(rfbTypeNone))
	f.Fuzz(func(t *testing.T, said []byte, offer byte) {
		client := &script{in: bytes.NewReader(said)}
		err := rfbClient(client, rfbOffer(offer))
		right := bytes.HasPrefix(said, append([]byte(rfbVersion), offer))
		if (err == nil) != right {
			t.Errorf("%q: %v", said, err)
		}
		if read := len(said) - client.in.Len(); read > len(rfbVersion)+1 {
			t.Errorf("%d bytes were read", read)
		}
	})
}

// FuzzRequest: tokens that are found are what the Authorizer may get, and an origin that passes is that of the host or of the list.
func FuzzRequest(f *testing.F) {
	f.Add("token=a", "token=b", "http://node:6080", "node:6080")
	f.Add("path=%3Ftoken%3Dc", "", "https://console.example.org", "[::1]")
	f.Add("token=%00&path=?token=%ff;", "token=\x01", "http://a@b", "")
	allowed := []origin{{host: "console.example.org"}}
	f.Fuzz(func(t *testing.T, query, cookie, page, host string) {
		r := &http.Request{URL: &url.URL{RawQuery: query}, Host: host, Header: http.Header{"Cookie": {cookie}, "Origin": {page}}}
		if token := tokenOf(r); len(token) > maxToken || bytes.ContainsFunc([]byte(token), func(c rune) bool { return c <= ' ' || c > '~' }) {
			t.Errorf("token %q", token)
		}
		if checkOrigin(r, allowed) != nil {
			return
		}
		u, err := url.Parse(page)
		if err != nil || u.Scheme != "http" || u.User != nil || u.Path != "" {
			t.Fatalf("page of %q passes: %v", page, err)
		}
		from, _ := parseHost(u.Host)
		to, _ := parseHost(host)
		if from.host != to.host && from.host != "console.example.org" {
			t.Errorf("page of %q passes at %q", page, host)
		}
	})
}

// TestFrames: what data and control frames come to on the wire is whole frames, whoever writes when.
func TestFrames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int{0, 1, 125, 126, 127, 65535, 65536, 70000}).Draw(t, "size")
		pongs := rapid.IntRange(0, 400).Draw(t, "pongs")
		pong := append([]byte{0x8a, 4}, "pong"...)
		w := &stuckConn{}
		f := newFrames(w)
		w.during = func() {
			for range pongs {
				if _, err := f.Write(pong); err != nil {
					t.Error(err)
				}
			}
		}
		if err := f.writeData(make([]byte, frameRoom+size)); err != nil {
			t.Fatal(err)
		}
		opcodes := opcodesOf(t, w.Bytes())
		if want := min(pongs, maxKept/len(pong)); opcodes[0] != 2 || len(opcodes) != 1+want {
			t.Errorf("%d frames, want one of data and %d of control: %d", len(opcodes), want, opcodes)
		}
		if _, err := f.Write([]byte{0x88, 0}); err != nil {
			t.Fatal(err)
		}
		if err := f.writeData(make([]byte, frameRoom+1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("data after the close frame: %v", err)
		}
		if last := opcodesOf(t, w.Bytes()); !slices.Equal(last[len(last)-1:], []byte{opClose}) {
			t.Errorf("the close frame is not the last: %d", last)
		}
	})
}

// stuckConn does something in the middle of its first write.
type stuckConn struct {
	net.Conn
	bytes.Buffer
	during func()
}

func (c *stuckConn) Read(p []byte) (int, error) { return 0, io.EOF }

func (c *stuckConn) Write(p []byte) (int, error) {
	c.Buffer.Write(p[:len(p)/2])
	if c.during != nil {
		during := c.during
		c.during = nil
		during()
	}
	c.Buffer.Write(p[len(p)/2:])
	return len(p), nil
}

// opcodesOf reads frames without masks, of which none may be torn.
func opcodesOf(t *rapid.T, wire []byte) (opcodes []byte) {
	for len(wire) > 0 {
		head, length := 2, int(wire[1])
		switch length {
		case 126:
			head, length = 4, int(wire[2])<<8|int(wire[3])
		case 127:
			head, length = 10, int(wire[6])<<24|int(wire[7])<<16|int(wire[8])<<8|int(wire[9])
		}
		if len(wire) < head+length {
			t.Fatalf("a frame of %d bytes is torn", length)
		}
		opcodes = append(opcodes, wire[0]&0x0f)
		wire = wire[head+length:]
	}
	return opcodes
}
