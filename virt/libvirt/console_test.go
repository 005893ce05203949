package libvirt

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTailRotated(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		limit int
		want  string
	}{
		"none":                     {nil, 10, ""},
		"no limit left":            {map[string]string{"": "abc"}, 0, ""},
		"limit below zero":         {map[string]string{"": "abc"}, -1, ""},
		"end of one":               {map[string]string{"": "abcdef"}, 3, "def"},
		"across rotated":           {map[string]string{"": "new", ".0": "old", ".1": "oldest"}, 8, "stoldnew"},
		"just rotated away":        {map[string]string{".0": "old"}, 10, "old"},
		"a gap ends it":            {map[string]string{"": "new", ".1": "oldest"}, 10, "new"},
		"numbers are not a string": {map[string]string{"": "0", ".0": "1", ".1": "2", ".2": "3", ".10": "x"}, 10, "3210"},
	} {
		path := filepath.Join(t.TempDir(), "console.log")
		for suffix, text := range c.files {
			if err := os.WriteFile(path+suffix, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got, err := tailRotated(path, c.limit)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
		}
	}
}

func TestTailRefusesWhatIsNoFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, t.TempDir(), "/dev/zero"} {
		if got, err := tailRotated(path, 10); err == nil {
			t.Errorf("%s: read %q", path, got)
		}
	}
}
