package luks

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testdata holds headers that cryptsetup 2.6.1 wrote (luksFormat of LUKS1 and LUKS2 with PBKDF2), without their key material.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// patched is data with some of its bytes replaced.
func patched(data []byte, at int, with ...byte) []byte {
	out := bytes.Clone(data)
	copy(out[at:], with)
	return out
}

func TestHeader(t *testing.T) {
	one, two := fixture(t, "luks1.header"), fixture(t, "luks2.header")
	for _, c := range []struct {
		name string
		data []byte
		want Contents
	}{
		{"of cryptsetup, version 1", one, Contents{Kind: LUKS1, UUID: "047e586a-2cc4-47c1-8cf2-716d3c595a21", Cipher: "aes-xts-plain64", Payload: Payload}},
		{"of cryptsetup, version 2", two, Contents{Kind: LUKS2, UUID: "844ef3b7-8146-493c-b324-f5fda1f92cd1"}},
		{"nothing", nil, Contents{Kind: Blank}},
		{"zeros", make([]byte, BlankBytes+1), Contents{Kind: Blank}},
		{"zeros and something after them", append(make([]byte, BlankBytes), 1), Contents{Kind: Blank}},
		{"zeros and something at the end of them", append(make([]byte, BlankBytes-1), 1), Contents{Kind: Foreign}},
		{"half a magic", []byte(magic)[:5], Contents{Kind: Foreign}},
		{"a magic and nothing", []byte(magic), Contents{Kind: Foreign}},
		{"LUKS2's second header alone", append(make([]byte, 0x4000), patched(two, 0, 'S', 'K', 'U', 'L')...), Contents{Kind: Foreign}},
		{"qcow2", append([]byte("QFI\xfb\x00\x00\x00\x03"), make([]byte, 100)...), Contents{Kind: Foreign}},
		{"a boot sector", append(make([]byte, 510), 0x55, 0xaa), Contents{Kind: Foreign}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Header(bytes.NewReader(c.data))
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v; want %+v", got, err, c.want)
			}
		})
	}
}

func TestHeaderRefuses(t *testing.T) {
	one, two := fixture(t, "luks1.header"), fixture(t, "luks2.header")
	for _, c := range []struct {
		name, want string
		data       []byte
	}{
		{"version 0", "version 0", patched(one, 7, 0)},
		{"version 3", "version 3", patched(one, 7, 3)},
		{"1 cut short", "cut short", one[:header1-1]},
		{"no cipher", "not text", patched(one, 8, 0, 0, 0)},
		{"a cipher with a newline", "not text", patched(one, 9, '\n')},
		{"bytes behind a name", "not text", patched(one, 39, 'x')},
		{"1 no UUID", "UUID", patched(one, 168, make([]byte, 40)...)},
		{"a UUID that is a path", "UUID", patched(one, 168, []byte("../../../../etc/passwd")...)},
		{"no key", "a key of 0 bytes", patched(one, 108, 0, 0, 0, 0)},
		{"a huge key", "a key of", patched(one, 108, 0x7f)},
		{"a slot that is neither", "key slot 7: neither", patched(one, 208+7*48, 1)},
		{"no stripes", "key slot 0: 0 stripes", patched(one, 252, 0, 0, 0, 0)},
		{"too many stripes", "stripes", patched(one, 252, 0xff)},
		{"material in the header", "key slot 0: its material", patched(one, 248, 0, 0, 0, 0)},
		{"material in the data", "key slot 0: its material", patched(one, 248, 0, 0xff)},
		{"no iterations", "no iterations", patched(one, 212, 0, 0, 0, 0)},
		{"2 cut short", "cut short", two[:4095]},
		{"2 without its JSON", "cut short", two[:len(two)-1]},
		{"2 another JSON", "checksum", patched(two, 5000, 'x')},
		{"2 another sequence number", "checksum", patched(two, 16, 9)},
		{"2 unknown checksum", "md5", patched(two, 72, 'm', 'd', '5', 0, 0, 0)},
		{"2 no UUID", "UUID", patched(two, 168, make([]byte, 40)...)},
		{"2 of any size", "bytes", patched(two, 8, 0, 0, 0, 0, 0, 0, 0x40, 1)},
		{"2 enormous", "bytes", patched(two, 8, 0x40, 0, 0, 0, 0, 0, 0, 0)},
		{"2 elsewhere", "it is at", patched(two, 260, 0, 0, 0x40, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := Header(bytes.NewReader(c.data))
			if !errors.Is(err, ErrHeader) || !strings.Contains(err.Error(), c.want) || got != (Contents{}) {
				t.Errorf("got %+v, %v; want %q", got, err, c.want)
			}
		})
	}
}

// failing is a disk with a bad sector.
type failing struct{ at int64 }

func (f failing) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) > f.at {
		return 0, io.ErrUnexpectedEOF
	}
	return len(p), nil
}

// TestHeaderUnreadable: a disk that cannot be read is not blank.
func TestHeaderUnreadable(t *testing.T) {
	for _, at := range []int64{0, header2 + 1, BlankBytes - 1} {
		if got, err := Header(failing{at}); !errors.Is(err, io.ErrUnexpectedEOF) || got != (Contents{}) {
			t.Errorf("bad at %d: got %+v, %v", at, got, err)
		}
	}
}

// FuzzHeader: what is not refused has the form that it is said to have, and every word of it can be printed and be part of a name.
func FuzzHeader(f *testing.F) {
	one, two := fixture(f, "luks1.header"), fixture(f, "luks2.header")
	for _, seed := range [][]byte{nil, one, two, make([]byte, 512), patched(one, 7, 2), patched(two, 7, 1)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := Header(bytes.NewReader(data))
		if err != nil {
			if !errors.Is(err, ErrHeader) || got != (Contents{}) {
				t.Fatalf("%+v, %v", got, err)
			}
			return
		}
		isLUKS := bytes.HasPrefix(data, []byte(magic)) && len(data) >= 8
		switch got.Kind {
		case LUKS1, LUKS2:
			version := binary.BigEndian.Uint16(data[6:])
			if !isLUKS || string(got.Kind) != "luks"+string('0'+rune(version)) || strings.ContainsAny(got.UUID+got.Cipher, "/ \n\x00") || len(got.UUID) != 36 {
				t.Fatalf("%+v", got)
			}
		default:
			if isLUKS || (got.Kind == Blank) != (len(bytes.Trim(data[:min(len(data), BlankBytes)], "\x00")) == 0) {
				t.Fatalf("%+v", got)
			}
		}
	})
}

func TestDataOffset(t *testing.T) {
	for name, want := range map[string]int64{"luks1.header": Payload, "luks2.header": 0} {
		got, err := DataOffset(filepath.Join("testdata", name))
		if got != want || (want == 0) != errors.Is(err, ErrHeader) {
			t.Errorf("%s: %d, %v; want %d", name, got, err, want)
		}
	}
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	if err := os.WriteFile(elsewhere, patched(fixture(t, "luks1.header"), 104, 0, 0, 0, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DataOffset(elsewhere); !errors.Is(err, ErrHeader) {
		t.Errorf("data that is elsewhere: %v", err)
	}
	if _, err := DataOffset(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}
