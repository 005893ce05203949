package scsi

import (
	"encoding/hex"
	"strings"
	"testing"
)

// page makes a page 83h of descriptors in hexadecimal.
func page(t testing.TB, descriptors ...string) []byte {
	data, err := hex.DecodeString(strings.Join(descriptors, ""))
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{0, 0x83, byte(len(data) >> 8), byte(len(data))}, data...)
}

func descriptor(head string, data string) string {
	return head + "00" + hex.EncodeToString([]byte{byte(len(data) / 2)}) + data
}

func TestDesignators(t *testing.T) {
	const six, five, two, eui = "60014050000000000000000000000001", "5000c500a1b2c3d4", "2000000000000001", "002538b571b00a31"
	t10 := hex.EncodeToString([]byte("ATA     disk  1\x00"))
	for _, c := range []struct {
		name         string
		page         []byte
		kernel, udev string
	}{
		{"extended before registered", page(t, descriptor("0103", five), descriptor("0103", six)), "naa." + six, "3" + six},
		{"registered before others", page(t, descriptor("0103", two), descriptor("0103", five)), "naa." + five, "3" + five},
		{"NAA before EUI", page(t, descriptor("0102", eui), descriptor("0103", two)), "naa." + two, "3" + two},
		{"EUI before T10", page(t, descriptor("0201", t10), descriptor("0102", eui)), "eui." + eui, "2" + eui},
		{"T10", page(t, descriptor("0201", t10)), "t10.ATA     disk  1", "1ATA_disk_1"},
		{"SCSI name", page(t, descriptor("0308", hex.EncodeToString([]byte("iqn.x,t,0x1\x00\x00")))), "iqn.x,t,0x1", "8iqn.x,t,0x1"},
		{"UUID", page(t, descriptor("010a", "1000"+six)), "uuid." + six, "1000" + six},
		{"vendor's", page(t, descriptor("0200", hex.EncodeToString([]byte("x1")))), "vendor.x1", "0VENDOR_MODEL_x1"},
		{"not of the port or the target", page(t, descriptor("0113", six), descriptor("0123", six), descriptor("0103", five)), "naa." + five, "3" + five},
		{"port only", page(t, descriptor("0113", six)), "", ""},
		{"cut short", page(t, descriptor("0103", five), "010300"), "naa." + five, "3" + five},
		{"runs over", page(t, descriptor("0103", five), "01030010", "6001"), "naa." + five, "3" + five},
		{"page longer than the data", []byte{0, 0x83, 0xff, 0xff, 1, 3, 0, 1, 0x20}, "naa.20", "320"},
		{"another page", []byte{0, 0x80, 0, 5, 1, 3, 0, 1, 0x20}, "", ""},
		{"empty", nil, "", ""},
		{"empty designator", page(t, descriptor("0103", "")), "", ""},
	} {
		d, ok := best(designators(c.page))
		if !ok {
			if c.kernel != "" {
				t.Errorf("%s: nothing found", c.name)
			}
			continue
		}
		if d.kernelForm() != c.kernel || d.udevForm("VENDOR", "MODEL") != c.udev {
			t.Errorf("%s: %q, %q; want %q, %q", c.name, d.kernelForm(), d.udevForm("VENDOR", "MODEL"), c.kernel, c.udev)
		}
	}
}

func FuzzPages(f *testing.F) {
	f.Add(page(f, descriptor("0103", "5000c500a1b2c3d4")))
	f.Add([]byte{0, 0x80, 0, 3, 'a', ' ', 'b'})
	f.Add([]byte{0, 0x83, 0, 8, 2, 1, 0, 4, '\n', 0, 0xff, 'x'})
	f.Fuzz(func(t *testing.T, data []byte) {
		serialNumber(data)
		d, ok := best(designators(data))
		if !ok {
			return
		}
		for _, name := range []string{string(clean(d.kernelForm())), d.udevForm("v", "m")} {
			if strings.ContainsAny(name, "\n\x00") {
				t.Errorf("%q", name)
			}
		}
		if id := clean(d.kernelForm()); strings.ContainsAny(string(id), "\n\t\x00") || len(id) > maxIdentity+3 {
			t.Errorf("identity %q", id)
		}
	})
}
