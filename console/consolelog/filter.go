package consolelog

import (
	"io"
	"unicode"
	"unicode/utf8"
)

// Filter passes on text that no terminal takes for anything else: printable characters in UTF-8, line ends, carriage returns and tabs. Escape sequences
// (ECMA-48: control sequences, control strings and the shorter ones) are left out whole, also when they come in pieces; what is not UTF-8 becomes U+FFFD. What
// a guest writes could else set the title and the clipboard of whoever reads its log, or have the terminal type for him.
type Filter struct {
	w     io.Writer
	state state
	rest  []byte // the start of a character
	out   []byte
}

// NewFilter passes on to w.
func NewFilter(w io.Writer) *Filter { return &Filter{w: w} }

type state int

const (
	inText     state = iota
	inEscape         // after ESC and intermediate bytes
	inSequence       // after CSI
	inString         // after OSC, DCS, SOS, PM or APC
)

const (
	esc = 0x1b
	bel = 0x07
)

// Write implements io.Writer. All of p is taken unless w fails.
func (f *Filter) Write(p []byte) (int, error) {
	f.rest = append(f.rest, p...)
	at := 0
	for at < len(f.rest) && utf8.FullRune(f.rest[at:]) {
		r, n := utf8.DecodeRune(f.rest[at:])
		f.take(r)
		at += n
	}
	f.rest = append(f.rest[:0], f.rest[at:]...)
	if err := f.pass(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush tells of a character that was begun at the end.
func (f *Filter) Flush() error {
	for range f.rest {
		f.take(utf8.RuneError)
	}
	f.rest = f.rest[:0]
	return f.pass()
}

func (f *Filter) pass() error {
	if len(f.out) == 0 {
		return nil
	}
	_, err := f.w.Write(f.out)
	f.out = f.out[:0]
	return err
}

func (f *Filter) take(r rune) {
	before := f.state
	f.state = before.after(r)
	if before == inText || endsEarly(before, r) {
		if f.state == inText && (unicode.IsGraphic(r) || r == '\n' || r == '\r' || r == '\t') {
			f.out = utf8.AppendRune(f.out, r)
		}
	}
}

// endsEarly says whether a sequence is broken off by what is no part of one. A line end does that to strings, too, so that none hides all that comes after.
func endsEarly(s state, r rune) bool {
	switch s {
	case inSequence, inEscape:
		return r < 0x20 || r > 0x7e
	default:
		return r == '\n'
	}
}

// after is the state that a character leads to.
func (s state) after(r rune) state {
	switch r {
	case esc:
		return inEscape
	case 0x9b: // CSI
		return inSequence
	case 0x90, 0x98, 0x9d, 0x9e, 0x9f: // DCS, SOS, OSC, PM, APC
		return inString
	}
	switch {
	case s == inText || endsEarly(s, r):
		return inText
	case s == inEscape:
		return afterEscape(r)
	case s == inSequence && r < 0x40:
		return inSequence
	case s == inString && r != bel && r != 0x9c && r != 0x18 && r != 0x1a: // ST, CAN, SUB
		return inString
	}
	return inText
}

func afterEscape(r rune) state {
	switch r {
	case '[':
		return inSequence
	case ']', 'P', 'X', '^', '_':
		return inString
	}
	if r < 0x30 { // intermediate
		return inEscape
	}
	return inText
}
