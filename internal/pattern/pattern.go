// Package pattern has regular expressions that are compiled when they are first needed. A bound such as {1,255} makes Go's compiler repeat what is
// bounded: half a megabyte for as long as the program runs, and most programs and most agents never ask.
package pattern

import (
	"regexp"
	"sync"
)

// Pattern is a regular expression. Its methods are those of regexp.Regexp.
type Pattern struct{ compiled func() *regexp.Regexp }

// New does not look at the expression: a wrong one panics when it is first used.
func New(expression string) *Pattern {
	return &Pattern{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })}
}

// MatchString tells whether s has a match.
func (p *Pattern) MatchString(s string) bool { return p.compiled().MatchString(s) }

// FindStringSubmatch returns the first match and what its groups hold.
func (p *Pattern) FindStringSubmatch(s string) []string { return p.compiled().FindStringSubmatch(s) }

// String is the expression.
func (p *Pattern) String() string { return p.compiled().String() }

// FindString returns the first match; empty if there is none.
func (p *Pattern) FindString(s string) string { return p.compiled().FindString(s) }
