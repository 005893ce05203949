package compute

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"compute-agent/virt"
)

// ConsoleToken is the right to reach one console of one server for a while. What the token itself was is known to who asked for it and to nobody else.
type ConsoleToken struct {
	Hash      string // SHA-256 of the token, in hex: a name for it that opens nothing
	ServerID  string
	ProjectID string // whose server it was; the token opens nothing of another project's
	Type      virt.ConsoleType
	Port      int // serial: which of the server's serial ports that take a client, from 0
	Created   time.Time
	Expires   time.Time
}

// consoleHash is what the store knows of a token. That it is looked up by its hash makes the time of a look-up say nothing of how much of a guess was right.
func consoleHash(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// ConsoleReader reads the tokens of consoles.
type ConsoleReader interface {
	ConsoleToken(hash string) (ConsoleToken, error)
	// ConsoleTokens lists a server's, oldest first.
	ConsoleTokens(serverID string) ([]ConsoleToken, error)
	// NextConsoleExpiry is when the first of all tokens expires; zero if there is none.
	NextConsoleExpiry() (time.Time, error)
}

// ConsoleWriter changes them. They go with their server.
type ConsoleWriter interface {
	// PutConsoleToken adds a token. ErrNotFound if there is no such server.
	PutConsoleToken(ConsoleToken) error
	DeleteConsoleToken(hash string) error
	// DeleteConsoleTokens removes all of a server.
	DeleteConsoleTokens(serverID string) error
	// ExpireConsoleTokens removes those that have expired.
	ExpireConsoleTokens(now time.Time) error
}
