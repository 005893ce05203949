package hwprops

import (
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"compute-agent/internal/pattern"
)

// Values is what a setting may say.
type Values struct {
	Says  string   // what a value must be: "a boolean", "an integer of at least 0"
	Words []string // the allowed ones, for a setting that is a word

	kind    kind
	fold    bool              // words are read in any case
	aliases map[string]string // other spellings of words
	min     int64
	max     int64 // 0 for no limit of its own; of a line in bytes
	pattern *pattern.Pattern
}

type kind int

const (
	kindText kind = iota
	kindWord
	kindBool
	kindNumber
	kindLine
)

var (
	trueWords  = []string{"1", "t", "true", "on", "y", "yes"} // oslo.utils' words
	falseWords = []string{"0", "f", "false", "off", "n", "no"}
	digits     = pattern.New(`^-?[0-9]{1,18}$`)
)

func words(list ...string) Values { return Values{kind: kindWord, Words: list} }

// inAnyCase is for words that Nova reads in lower or upper case, and for other spellings that it knows.
func (v Values) inAnyCase(aliases map[string]string) Values {
	v.fold, v.aliases = true, aliases
	return v
}

func yesOrNo() Values { return Values{kind: kindBool, Says: "a boolean"} }

func atLeast(least int64) Values {
	return Values{kind: kindNumber, min: least, Says: "an integer of at least " + strconv.FormatInt(least, 10)}
}

func between(least, most int64) Values {
	return Values{kind: kindNumber, min: least, max: most,
		Says: "an integer from " + strconv.FormatInt(least, 10) + " to " + strconv.FormatInt(most, 10)}
}

func anyInteger() Values { return Values{kind: kindNumber, min: -1 << 62, Says: "an integer"} }

// line is free text of a user's that goes into one place of a definition.
func line(most int64) Values {
	return Values{kind: kindLine, max: most, Says: "one line of printable text, of at most " + strconv.FormatInt(most, 10) + " bytes"}
}

func matching(expression, says string) Values {
	return Values{pattern: pattern.New("^(?:" + expression + ")$"), Says: says}
}

// Canonical returns the one form of a value that says what it says, and whether it is allowed: true and
// false for booleans, plain digits for integers, Nova's own spelling for words.
func (v Values) Canonical(value string) (form string, allowed bool) {
	switch v.kind {
	case kindWord:
		return v.word(value)
	case kindBool:
		return truth(value)
	case kindNumber:
		return v.number(value)
	case kindLine:
		odd := func(c rune) bool { return !unicode.IsGraphic(c) }
		return value, int64(len(value)) <= v.max && strings.IndexFunc(value, odd) < 0
	}
	return value, v.pattern.MatchString(value)
}

func (v Values) word(value string) (string, bool) {
	if v.fold {
		value = strings.ToLower(value)
	}
	if other, known := v.aliases[value]; known {
		value = other
	}
	return value, slices.Contains(v.Words, value)
}

func truth(value string) (string, bool) {
	word := strings.ToLower(value)
	if slices.Contains(trueWords, word) {
		return "true", true
	}
	return "false", slices.Contains(falseWords, word)
}

func (v Values) number(value string) (string, bool) {
	if !digits.MatchString(value) {
		return "", false
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || n < v.min || (v.max > 0 && n > v.max) {
		return "", false
	}
	return strconv.FormatInt(n, 10), true
}

// Rule is the sentence that a value breaks which is not allowed.
func (v Values) Rule() string {
	switch v.kind {
	case kindWord:
		return "must be one of " + strings.Join(v.Words, ", ")
	case kindBool:
		return "must be one of " + strings.Join(slices.Concat(trueWords, falseWords), ", ")
	}
	return "must be " + v.Says
}

// shownLength is how much of a value that a user made an error repeats.
const shownLength = 64

// cut shortens what a user wrote, for a message.
func cut(s string) string {
	if len(s) <= shownLength {
		return s
	}
	end := shownLength
	for end > shownLength-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// shown is what a user wrote inside a sentence: as it is when it is short and plain, else cut and quoted.
func shown(s string) string {
	plain := func(c rune) bool { return c > ' ' && c < 0x7f && c != '"' && c != '\\' }
	if len(s) <= shownLength && s != "" && strings.IndexFunc(s, func(c rune) bool { return !plain(c) }) < 0 {
		return s
	}
	return strconv.Quote(cut(s))
}
