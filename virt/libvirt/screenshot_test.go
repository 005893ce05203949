package libvirt

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"strings"
	"testing"
)

func TestPictureBecomesPNG(t *testing.T) {
	ready := func(width, height int) string {
		var out bytes.Buffer
		must(t, png.Encode(&out, image.NewGray(image.Rect(0, 0, width, height))))
		return out.String()
	}
	for name, c := range map[string]struct{ picture, refused string }{
		"PPM":                       {"P6\n2 1\n255\n\x01\x02\x03\xff\xfe\xfd", ""},
		"PNG":                       {ready(3, 2), ""},
		"nothing":                   {"", "neither PNG nor PPM"},
		"PPM of text":               {"P3\n1 1\n255\n1 2 3", "neither PNG nor PPM"},
		"PPM of 16 bits":            {"P6\n1 1\n65535\n123456", "neither PNG nor PPM"},
		"PPM with a comment":        {"P6\n# a\n1 1\n255\n123", "neither PNG nor PPM"},
		"PPM cut off":               {"P6\n2 1\n255\n12345", "neither PNG nor PPM"},
		"PPM with more":             {"P6\n1 1\n255\n1234", "neither PNG nor PPM"},
		"PPM of no width":           {"P6\n0 1\n255\n", "the screen is 0 by 1"},
		"PPM of a size with a sign": {"P6\n-1 -1\n255\n123", "neither PNG nor PPM"},
		"PPM of 16 Mi and a row":    {"P6\n4096 4097\n255\n", "the screen is 4096 by 4097"},
		"PPM whose size overflows":  {"P6\n99999 999999\n255\n", "the screen is 99999 by 999999"},
		"PNG of 16 Mi and a row":    {ready(4097, 4096), "the screen is 4097 by 4096"},
		"PNG cut off":               {ready(3, 2)[:20], "EOF"},
	} {
		out, err := toPNG([]byte(c.picture))
		switch {
		case c.refused != "":
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want %q", name, err, c.refused)
			}
		case err != nil:
			t.Errorf("%s: %v", name, err)
		default:
			_, err := png.Decode(bytes.NewReader(out))
			must(t, err)
		}
	}
}

func TestPixelsStayWhatTheyAre(t *testing.T) {
	out, err := toPNG([]byte("P6\n2 2\n255\n\x01\x02\x03\xff\xfe\xfd\x00\x00\x00\x10\x20\x30"))
	must(t, err)
	screen, err := png.Decode(bytes.NewReader(out))
	must(t, err)
	for at, want := range map[image.Point]color.RGBA{{}: {1, 2, 3, 255}, {X: 1}: {255, 254, 253, 255}, {Y: 1}: {0, 0, 0, 255}, {X: 1, Y: 1}: {16, 32, 48, 255}} {
		if got := color.RGBAModel.Convert(screen.At(at.X, at.Y)); got != want {
			t.Errorf("pixel %v is %v, want %v", at, got, want)
		}
	}
}

func FuzzPicture(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\n\x01\x02\x03\xff\xfe\xfd"))
	f.Add([]byte("\x89PNG\r\n\x1a\n"))
	f.Fuzz(func(t *testing.T, picture []byte) {
		out, err := toPNG(picture)
		if err != nil || bytes.HasPrefix(picture, []byte("\x89PNG")) {
			return
		}
		screen, err := png.Decode(bytes.NewReader(out))
		if err != nil {
			t.Fatal(err)
		}
		if size := screen.Bounds().Size(); size.X*size.Y*3 >= len(picture) {
			t.Errorf("%d bytes became %v", len(picture), size)
		}
	})
}
