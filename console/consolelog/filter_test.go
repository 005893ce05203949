package consolelog

import (
	"bytes"
	"testing"
	"unicode"
	"unicode/utf8"
)

func filtered(t testing.TB, pieces ...[]byte) string {
	t.Helper()
	var out bytes.Buffer
	f := NewFilter(&out)
	for _, p := range pieces {
		if n, err := f.Write(p); n != len(p) || err != nil {
			t.Fatalf("%d bytes of %d: %v", n, len(p), err)
		}
	}
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestFilter(t *testing.T) {
	for text, want := range map[string]string{
		"login: \r\n\tüñ漢🐧":              "login: \r\n\tüñ漢🐧",
		"\x1b[1;31mred\x1b[0m":           "red",
		"\x1b[?25l\x1b[2Jx":              "x",
		"\x1b[31":                        "",
		"\x1b[31\nnext":                  "\nnext",
		"\x1b]0;title\x07x":              "x",
		"\x1b]52;c;ZXZpbA==\x1b\\x":      "x",
		"\x1b]0;title\nnext":             "\nnext",
		"\x1bP+q544e\x1b\\x":             "x",
		"\x1b^pm\x1b\\\x1b_apc\x1b\\x":   "x",
		"\x1bXsos\x18x":                  "x",
		"\x1bcx\x1b(Bx\x1b#8x":           "xxx",
		"\x1b\x1b[31mx":                  "x",
		"\x1b[3\x1b]0;t\x07x":            "x",
		"\u009b31mx\u009d0;t\u009cx":     "xx",
		"\u0090dcs\x07x\u0085y":          "xy",
		"a\x00\x01\x05\x07\x08\x0c\x7fb": "ab",
		"\x9b31m":                        "\uFFFD31m",
		"\xff\xc3(\xe6\xbc":              "\uFFFD\uFFFD(\uFFFD\uFFFD",
		"\u202eevil\u2066\u200b":         "evil",
		"\x1b]0;\u9b9b\u6f22t\x07x":      "x",
		"\x1b[\u00e9x":                   "\u00e9x",
	} {
		if got := filtered(t, []byte(text)); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
		for at := range len(text) + 1 {
			if got := filtered(t, []byte(text[:at]), []byte(text[at:])); got != want {
				t.Errorf("%q, %q becomes %q, want %q", text[:at], text[at:], got, want)
			}
		}
	}
}

// Whatever comes, in whatever pieces: nothing goes to the terminal but text, and text that is nothing else goes whole.
func FuzzFilter(f *testing.F) {
	f.Add([]byte("\x1b[1;31mred\x1b]0;t\x07\xc2\x9bm\xe6\xbc\xa2"), uint(3))
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		at %= uint(len(text)) + 1
		whole := filtered(t, text)
		if pieces := filtered(t, text[:at], text[at:]); pieces != whole {
			t.Errorf("in pieces it is %q, whole %q", pieces, whole)
		}
		if !utf8.ValidString(whole) {
			t.Errorf("%q is not UTF-8", whole)
		}
		for _, r := range whole {
			if !unicode.IsGraphic(r) && r != '\n' && r != '\r' && r != '\t' {
				t.Errorf("%q passes", r)
			}
		}
		if again := filtered(t, []byte(whole)); again != whole {
			t.Errorf("%q becomes %q", whole, again)
		}
	})
}
