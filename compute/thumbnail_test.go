package compute

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"testing"
)

func screenOf(t testing.TB, w, h int) []byte {
	t.Helper()
	picture := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			picture.Set(x, y, color.RGBA{R: uint8(255 * x / w), G: uint8(255 * y / h), A: 255})
		}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestConsoleThumbnail(t *testing.T) {
	for _, c := range []struct{ w, h, wantW, wantH int }{
		{720, 400, 320, 177}, {1024, 768, 320, 240}, {640, 480, 320, 240}, {100, 50, 100, 50}, {3000, 2, 320, 1}, {1, 2000, 1, 240}, {400, 1000, 96, 240},
	} {
		small, err := thumbnail(screenOf(t, c.w, c.h))
		if err != nil {
			t.Fatal(err)
		}
		picture, err := png.Decode(bytes.NewReader(small))
		if err != nil {
			t.Fatal(err)
		}
		size := picture.Bounds()
		if size.Dx() != c.wantW || size.Dy() != c.wantH {
			t.Errorf("%d by %d became %d by %d, want %d by %d", c.w, c.h, size.Dx(), size.Dy(), c.wantW, c.wantH)
		}
		if r, _, _, _ := picture.At(size.Dx()-1, 0).RGBA(); size.Dx() > 100 && r < 0xf000 {
			t.Errorf("%d by %d: the right edge has lost its colour: %x", c.w, c.h, r)
		}
	}
}

// What a guest can show as its screen is refused if it is too large or no picture.
func TestConsoleThumbnailRefuses(t *testing.T) {
	huge := bytes.Clone(screenOf(t, 4, 4))
	copy(huge[16:24], []byte{0, 1, 0, 0, 0, 1, 0, 0}) // 65536 by 65536; the checksum is wrong, too
	for name, screen := range map[string][]byte{"nothing": nil, "noise": []byte("not a picture"), "huge": huge, "cut off": screenOf(t, 64, 64)[:60]} {
		if _, err := thumbnail(screen); err == nil {
			t.Errorf("%s: made a thumbnail", name)
		}
	}
}

func FuzzThumbnail(f *testing.F) {
	f.Add(screenOf(f, 8, 8))
	f.Fuzz(func(t *testing.T, screen []byte) {
		small, err := thumbnail(screen)
		if err != nil {
			return
		}
		size, err := png.DecodeConfig(bytes.NewReader(small))
		if err != nil || size.Width > thumbnailWidth || size.Height > thumbnailHeight {
			t.Errorf("%v, %v", size, err)
		}
	})
}
