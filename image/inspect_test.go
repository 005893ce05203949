package image

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// with puts text at an offset into zeros.
func with(size, offset int, text string) []byte {
	file := make([]byte, size)
	copy(file[offset:], text)
	return file
}

func TestInspectRaw(t *testing.T) {
	const mbr = "\x55\xaa"
	hybrid := with(64<<10, 0x8001, "CD001")
	copy(hybrid[510:], mbr)
	for _, c := range []struct {
		name    string
		file    []byte
		size    int64  // of the disk
		refused string // or why not
	}{
		{"zeros", make([]byte, 4096), 4096, ""},
		{"boot sector", with(1024, 510, mbr), 1024, ""},
		{"GPT", with(4096, 512, "EFI PART"), 4096, ""},
		{"one byte", []byte("x"), 512, ""},
		{"not whole sectors", make([]byte, 1000), 1024, ""},
		{"CD that boots as a disk", hybrid, 64 << 10, ""},
		{"empty", nil, 0, "no bytes"},
		{"CD", with(64<<10, 0x8001, "CD001"), 0, "a CD, not a disk"},
		{"qcow2", sound(), 0, "qcow2"},
		{"qcow", with(512, 0, "QFI\xfb\x00\x00\x00\x01"), 0, "qcow"},
		{"QED", with(512, 0, "QED\x00"), 0, "QED"},
		{"VMDK", with(512, 0, "KDMV"), 0, "VMDK"},
		{"VMDK descriptor", with(512, 0, "# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0"), 0, "VMDK descriptor"},
		{"VDI", with(512, 0x40, "\x7f\x10\xda\xbe"), 0, "VDI"},
		{"dynamic VHD", with(4096, 0, "conectix"), 0, "VHD"},
		{"fixed VHD", with(4096, 4096-512, "conectix"), 0, "VHD"},
		{"VHDX", with(512, 0, "vhdxfile"), 0, "VHDX"},
		{"LUKS", with(4096, 0, "LUKS\xba\xbe\x00\x02"), 0, "LUKS"},
		{"compressed", with(512, 0, "\x1f\x8b\x08"), 0, "gzip"},
		{"short file that ends like a VHD begins", []byte("conectix"), 0, "VHD"},
	} {
		info, err := inspectBytes(bytes.NewReader(c.file), int64(len(c.file)), FormatRaw)
		var refusal *Refusal
		switch {
		case c.refused == "" && (err != nil || info != (Info{FormatRaw, c.size})):
			t.Errorf("%s: %+v, %v", c.name, info, err)
		case c.refused != "" && (!errors.As(err, &refusal) || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%s: got %+v, %v; want a refusal with %q", c.name, info, err, c.refused)
		}
	}
}

func TestInspectKnowsNoOtherFormat(t *testing.T) {
	for _, format := range []string{"", "vmdk", "QCOW2", "iso", "raw,file.filename=/etc/passwd"} {
		_, err := inspectBytes(bytes.NewReader(sound()), 4<<16, format)
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			t.Errorf("%q: got %v, want a refusal", format, err)
		}
	}
}
