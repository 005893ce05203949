package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// field is a number to be written into a header.
type field struct {
	offset int
	bits   int
	value  uint64
}

// The places of the fields in a qcow2 header.
func version(v uint64) field      { return field{4, 32, v} }
func backing(v uint64) field      { return field{8, 64, v} }
func backingSize(v uint64) field  { return field{16, 32, v} }
func clusterBits(v uint64) field  { return field{20, 32, v} }
func diskSize(v uint64) field     { return field{24, 64, v} }
func encryption(v uint64) field   { return field{32, 32, v} }
func l1Entries(v uint64) field    { return field{36, 32, v} }
func l1Offset(v uint64) field     { return field{40, 64, v} }
func refOffset(v uint64) field    { return field{48, 64, v} }
func refClusters(v uint64) field  { return field{56, 32, v} }
func snapshots(v uint64) field    { return field{60, 32, v} }
func snapOffset(v uint64) field   { return field{64, 64, v} }
func features(v uint64) field     { return field{72, 64, v} }
func autoclear(v uint64) field    { return field{88, 64, v} }
func refOrder(v uint64) field     { return field{96, 32, v} }
func headerLength(v uint64) field { return field{100, 32, v} }

const mib = 1 << 20

// sound is a header of version 3 as qemu-img writes it: 64 MiB, clusters of 64 KiB, in a file of
// four clusters.
func sound(changes ...field) []byte {
	file := make([]byte, 4<<16)
	copy(file, qcow2Magic)
	set(file, version(3), clusterBits(16), diskSize(64*mib), l1Entries(1), l1Offset(3<<16), refOffset(1<<16),
		refClusters(1), refOrder(4), headerLength(112))
	set(file, changes...)
	return file
}

func set(file []byte, changes ...field) {
	for _, c := range changes {
		if c.bits == 64 {
			binary.BigEndian.PutUint64(file[c.offset:], c.value)
		} else {
			binary.BigEndian.PutUint32(file[c.offset:], uint32(c.value))
		}
	}
}

// withExtension puts a header extension behind the header.
func withExtension(kind uint32, data string) []byte {
	return extended(sound(), 112, kind, uint32(len(data)), data)
}

func extended(file []byte, at int, kind, length uint32, data string) []byte {
	binary.BigEndian.PutUint32(file[at:], kind)
	binary.BigEndian.PutUint32(file[at+4:], length)
	copy(file[at+8:], data)
	return file
}

// withBacking names a backing file as qemu-img does.
func withBacking(name string) []byte {
	file := sound(backing(0x200), backingSize(uint64(len(name))))
	copy(file[0x200:], name)
	return file
}

func version2() []byte {
	file := sound(version(2))
	clear(file[72:112])
	return file
}

func TestInspectQCOW2Accepts(t *testing.T) {
	for name, file := range map[string][]byte{
		"version 3":           sound(),
		"version 2":           version2(),
		"short header":        sound(headerLength(104)),
		"dirty":               sound(features(1)),
		"zstd":                append(append(sound(features(8))[:104], 1), sound()[105:]...),
		"feature names":       withExtension(extFeatureNames, "\x00\x00dirty bit"),
		"bitmaps":             withExtension(extBitmaps, strings.Repeat("\x00", 24)),
		"a snapshot":          sound(snapshots(1), snapOffset(2<<16)),
		"cut off at L1's end": sound()[:3<<16+8],
	} {
		info, err := inspectBytes(bytes.NewReader(file), int64(len(file)), FormatQCOW2)
		if err != nil || info != (Info{FormatQCOW2, 64 * mib}) {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}

func TestInspectQCOW2Refuses(t *testing.T) {
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "something else"},
		{"raw", make([]byte, 4096), "something else"},
		{"another format", append([]byte("KDMV"), make([]byte, 512)...), "a VMDK image"},
		{"magic only", []byte(qcow2Magic), "cut off"},
		{"version 1", sound(version(1)), "version 1"},
		{"version 4", sound(version(4)), "version 4"},
		{"version 3 cut off", sound()[:80], "cut off"},

		{"backing file", withBacking("/etc/passwd"), "has a backing file"},
		{"backing file as JSON", withBacking(`json:{"driver":"file","filename":"/etc/passwd"}`), "has a backing file"},
		{"backing file over the network", withBacking("nbd://10.0.0.1/secret"), "has a backing file"},
		{"empty backing file name", sound(backing(0x200)), "has a backing file"},
		{"length of a backing file name", sound(backingSize(8)), "has a backing file"},
		{"backing file name outside", sound(backing(1<<40), backingSize(8)), "outside its header"},
		{"backing file name wraps around", sound(backing(1<<64-4), backingSize(8)), "outside its header"},
		{"backing file name in the header", sound(backing(8), backingSize(8)), "outside its header"},
		{"long backing file name", sound(backing(0x200), backingSize(1<<31)), "outside its header"},
		{"backing file in version 2", func() []byte {
			f := version2()
			set(f, backing(0x200), backingSize(4))
			return f
		}(), "has a backing file"},
		{"backing format", withExtension(extBackingFormat, "raw"), "format of a backing file"},
		{"backing format in version 2", extended(version2(), 72, extBackingFormat, 3, "raw"), "format of a backing file"},

		{"data file bit", sound(features(4)), "external data file"},
		{"data file raw bit", sound(autoclear(2)), "external data file"},
		{"data file name", withExtension(extDataFile, "/etc/passwd"), "external data file"},
		{"data file name in version 2", extended(version2(), 72, extDataFile, 3, "/x"), "external data file"},
		{"data file name behind another extension", extended(withExtension(extFeatureNames, "12345678"), 128, extDataFile, 2, "/x"), "external data file"},

		{"encrypted with AES", sound(encryption(1)), "encrypted"},
		{"encrypted with LUKS", sound(encryption(2)), "encrypted"},
		{"LUKS header", withExtension(extEncryption, strings.Repeat("\x00", 16)), "encrypted"},

		{"corrupt bit", sound(features(2)), `"corrupt"`},
		{"extended L2", sound(features(16)), `"extended L2 entries"`},
		{"unknown bit", sound(features(1 << 5)), "feature bit 5"},
		{"highest bit", sound(features(1 << 63)), "feature bit 63"},
		{"unknown extension", withExtension(0x12345678, ""), "0x12345678"},
		{"extension too long", extended(sound(), 112, extFeatureNames, 1<<20, ""), "room"},
		{"extension wraps around", extended(sound(), 112, extFeatureNames, 0xffffffff, ""), "room"},
		{"extension cut off", withExtension(extFeatureNames, "12345678")[:132], "cut off"},
		{"compression without its bit", append(append(sound()[:104], 1), sound()[105:]...), "contradicts"},
		{"bit without compression", sound(features(8)), "contradicts"},
		{"unknown compression", append(append(sound(features(8))[:104], 2), sound()[105:]...), "compression type 2"},
		{"unknown header fields", sound(headerLength(120)), "120 bytes"},
		{"no header", sound(headerLength(0)), "0 bytes"},

		{"tiny clusters", sound(clusterBits(8)), "2^8"},
		{"no cluster size", sound(clusterBits(0)), "2^0"},
		{"huge clusters", sound(clusterBits(22)), "2^22"},
		{"shift overflow", sound(clusterBits(0xffffffff)), "2^4294967295"},
		{"clusters longer than the file", sound(clusterBits(21), l1Offset(0), refOffset(0)), "cut off"},

		{"no bytes", sound(diskSize(0)), "no bytes"},
		{"odd size", sound(diskSize(64*mib + 1)), "multiple of 512"},
		{"more than its L1 table", sound(diskSize(1 << 40)), "too small"},
		{"largest size", sound(diskSize(1<<64 - 512)), "too small"},
		{"no L1 table", sound(l1Entries(0)), "too small"},
		{"huge L1 table", sound(l1Entries(1 << 31)), "more than any disk"},
		{"L1 table in the header", sound(l1Offset(0)), "overlap"},
		{"L1 table on the reference counts", sound(l1Offset(1 << 16)), "overlap"},
		{"L1 table behind the end", sound(l1Offset(4 << 16)), "cut off"},
		{"L1 table far away", sound(l1Offset(1<<64 - 1<<16)), "cut off"},
		{"L1 table askew", sound(l1Offset(3<<16 - 8)), "begin at a cluster"},
		{"L1 table into the reference counts", sound(l1Entries(1<<14), l1Offset(1<<16), refOffset(2<<16)), "overlap"},

		{"no reference counts", sound(refClusters(0)), "no reference count table"},
		{"huge reference count table", sound(refClusters(1 << 31)), "larger than any disk"},
		{"wide reference counts", sound(refOrder(7)), "2^7"},
		{"reference counts in the header", sound(refOffset(0)), "overlap"},
		{"too many snapshots", sound(snapshots(129), snapOffset(2<<16)), "snapshots"},
		{"snapshots in the header", sound(snapshots(1)), "overlap"},
		{"snapshots behind the end", sound(snapshots(1), snapOffset(1<<30)), "cut off"},
		{"truncated", sound()[:2<<16], "cut off"},
		{"one byte short", sound()[:3<<16+7], "cut off"},
	} {
		_, err := inspectBytes(bytes.NewReader(c.file), int64(len(c.file)), FormatQCOW2)
		var refusal *Refusal
		if !errors.As(err, &refusal) {
			t.Errorf("%s: got %v, want a refusal", c.name, err)
		} else if !strings.Contains(refusal.Reason, c.want) {
			t.Errorf("%s: refused with %q, want %q", c.name, refusal.Reason, c.want)
		}
	}
}

// FuzzInspect looks for bytes that crash the reader, or that it accepts although they point
// outside the file.
func FuzzInspect(f *testing.F) {
	for _, seed := range [][]byte{sound(), version2(), withBacking("/etc/passwd"), withExtension(extDataFile, "/etc/passwd"),
		sound(l1Offset(0)), sound()[:100], []byte("KDMV"), bytes.Repeat([]byte{0xff}, 600)} {
		f.Add(seed[:min(len(seed), 4096)], int64(len(seed)), true)
		f.Add(seed[:min(len(seed), 4096)], int64(len(seed)), false)
	}
	f.Fuzz(func(t *testing.T, head []byte, size int64, raw bool) {
		file := sparse{head, max(size&(1<<40-1), int64(len(head)))}
		format := FormatQCOW2
		if raw {
			format = FormatRaw
		}
		info, err := inspectBytes(file, file.size, format)
		if err != nil {
			var refusal *Refusal
			if !errors.As(err, &refusal) {
				t.Fatalf("not a refusal: %v", err)
			}
			return
		}
		if info.Format != format || info.VirtualSize <= 0 || info.VirtualSize%512 != 0 {
			t.Errorf("accepted %+v", info)
		}
		isQCOW2 := bytes.HasPrefix(head, []byte(qcow2Magic))
		if raw == isQCOW2 {
			t.Errorf("took bytes that begin with %q for %s", head[:min(4, len(head))], format)
		}
		if !raw && !bytes.Equal(head[8:20], make([]byte, 12)) {
			t.Errorf("accepted a backing file: %x", head[8:20])
		}
		if !raw && binary.BigEndian.Uint32(head[32:]) != 0 {
			t.Error("accepted encryption")
		}
	})
}

// sparse is a long file of which all but the head is zero.
type sparse struct {
	head []byte
	size int64
}

func (s sparse) ReadAt(p []byte, offset int64) (int, error) {
	clear(p)
	if offset < int64(len(s.head)) {
		copy(p, s.head[offset:])
	}
	return len(p), nil
}
