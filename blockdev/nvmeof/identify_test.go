package nvmeof

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"compute-agent/blockdev/connector"
)

func page(descriptors ...[]byte) []byte {
	return append(bytes.Join(descriptors, nil), make([]byte, identifySize)...)[:identifySize]
}

func TestDescribe(t *testing.T) {
	eui := []byte{1, 8, 0, 0, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4}
	nguid := append([]byte{2, 16, 0, 0}, bytes.Repeat([]byte{0x5a}, 16)...)
	id := append([]byte{3, 16, 0, 0}, bytes.Repeat([]byte{0x6e}, 16)...)
	csi := []byte{4, 1, 0, 0, 0}
	noID := append([]byte{3, 16, 0, 0}, make([]byte, 16)...)
	for _, c := range []struct {
		name string
		data []byte
		want connector.Identity
	}{
		{"all", page(eui, nguid, id), "uuid.6e6e6e6e-6e6e-6e6e-6e6e-6e6e6e6e6e6e"},
		{"in another order", page(csi, id, eui), "uuid.6e6e6e6e-6e6e-6e6e-6e6e-6e6e6e6e6e6e"},
		{"NGUID", page(eui, nguid, noID), "eui.5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"},
		{"EUI-64", page(eui), "eui.deadbeef01020304"},
		{"none", page(csi), ""},
		{"nothing", page(), ""},
		{"no bytes", nil, ""},
		{"cut short", id[:12], ""},
		{"a length that is none", page([]byte{3, 255, 0, 0, 1}), ""},
		{"a UUID of another length", page([]byte{3, 8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8}), ""},
	} {
		if got := describe(c.data); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

func TestGeometry(t *testing.T) {
	of := func(blocks uint64, flbas, shift byte) []byte {
		data := make([]byte, identifySize)
		binary.LittleEndian.PutUint64(data, blocks)
		data[26] = flbas
		format := int(flbas&0xf) | int(flbas>>5&3)<<4
		data[128+4*format+2] = shift
		return data
	}
	for _, c := range []struct {
		data []byte
		want int64
		bad  string
	}{
		{of(131072, 0, 9), 64 << 20, ""},
		{of(1024, 3, 12), 4 << 20, ""},
		{of(1024, 0x25, 12), 4 << 20, ""}, // format 21: more than 16 formats
		{of(0, 0, 9), 0, ""},
		{of(1, 0, 8), 0, "2^8"},
		{of(1, 0, 17), 0, "2^17"},
		{of(1<<63, 0, 12), 0, "blocks"},
		{nil, 0, "0 bytes"},
	} {
		got, err := geometry(c.data)
		if got != c.want || (err == nil) != (c.bad == "") || err != nil && !strings.Contains(err.Error(), c.bad) {
			t.Errorf("got %d, %v; want %d, %q", got, err, c.want, c.bad)
		}
	}
}

// FuzzIdentify: a subsystem may answer what it likes.
func FuzzIdentify(f *testing.F) {
	f.Add(page([]byte{3, 16}, bytes.Repeat([]byte{1}, 16)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if id := describe(data); id != "" && !strings.HasPrefix(string(id), "uuid.") && !strings.HasPrefix(string(id), "eui.") {
			t.Errorf("%q", id)
		}
		if size, err := geometry(data); size < 0 || err != nil && size != 0 {
			t.Errorf("%d, %v", size, err)
		}
	})
}

func TestInstance(t *testing.T) {
	for answer, want := range map[string]int{"instance=12,cntlid=3\n": 12, "cntlid=3,instance=0": 0, "": -1, "instance=x": -1, "instance=-1": -1} {
		got, err := parseInstance(answer)
		if (err != nil) != (want < 0) || err == nil && got != want {
			t.Errorf("%q: %d, %v", answer, got, err)
		}
	}
}
