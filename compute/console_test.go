package compute_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"compute-agent/compute"
	"compute-agent/console"
	"compute-agent/store"
	"compute-agent/virt"
)

// patience is how long is waited for what must happen: it only bounds a failure.
const patience = 2 * time.Minute

// screens gives the guests of a hypervisor a screen and two serial ports, each at an address that names them.
type screens struct{ driver virt.Driver }

func (s screens) Consoles(ctx context.Context, id string) ([]virt.Console, error) {
	g, err := s.driver.Guest(ctx, id)
	if err != nil {
		return nil, err
	}
	if g.State != virt.PowerRunning && g.State != virt.PowerPaused {
		return nil, fmt.Errorf("%w: it is stopped", virt.ErrInvalidState)
	}
	return consolesOf(id), nil
}

func consolesOf(id string) []virt.Console {
	at := func(t virt.ConsoleType, port int) virt.Console {
		return virt.Console{Type: t, Port: port, Network: "unix", Address: fmt.Sprintf("/%s/%s%d", id, t, port)}
	}
	return []virt.Console{at(virt.ConsoleVNC, 0), at(virt.ConsoleSerial, 0), at(virt.ConsoleSerial, 1)}
}

// viewed is a world whose agents have consoles.
type viewed struct {
	*world
	consoles *compute.ConsoleService
}

func newViewed(t *testing.T) *viewed {
	t.Helper()
	v := &viewed{world: newWorld(t)}
	v.options = func(o *compute.Options) {
		v.consoles = compute.NewConsoleService(compute.ConsoleOptions{Store: o.Store, Finder: screens{o.Driver}, BaseURL: "http://host"})
		o.Consoles = v.consoles
	}
	return v
}

// token makes a token for a server's screen.
func (v *viewed) token(id string) string {
	v.t.Helper()
	access, err := v.consoles.CreateConsole(v.t.Context(), id, virt.ConsoleVNC, 0)
	v.must(err)
	return access.Token
}

// opened is a connection that a token opened.
type opened struct {
	ended   <-chan struct{}
	release func()
}

func (v *viewed) connect(token string) opened {
	v.t.Helper()
	_, ended, release, err := v.consoles.Authorize(v.t.Context(), token)
	v.must(err)
	return opened{ended, release}
}

func (v *viewed) ends(what string, c opened) {
	v.t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		v.t.Fatalf("%s: the connection does not end", what)
	}
	c.release()
}

func (v *viewed) stays(what string, c opened) {
	v.t.Helper()
	select {
	case <-c.ended:
		v.t.Fatalf("%s: the connection ended", what)
	default:
	}
	c.release()
}

func (v *viewed) refuses(what, token string) {
	v.t.Helper()
	if _, _, _, err := v.consoles.Authorize(v.t.Context(), token); !errors.Is(err, console.ErrNoToken) {
		v.t.Errorf("%s: the token gives %v", what, err)
	}
}

// What ends a guest ends the connections to it, by the hypervisor's events; and a token opens the guest that is there next.
func TestConsolesEndWithTheirGuest(t *testing.T) {
	for name, end := range map[string]func(v *viewed, id string) error{
		"stop":            func(v *viewed, id string) error { return v.StopServer(t.Context(), id) },
		"shutdown inside": func(v *viewed, id string) error { return v.hv.GuestShutdown(id) },
		"crash":           func(v *viewed, id string) error { return v.hv.Crash(id) },
		"ended by hand":   func(v *viewed, id string) error { return v.hv.DestroyByHand(id) },
	} {
		t.Run(name, func(t *testing.T) {
			v := newViewed(t)
			v.boot(nil)
			id, other := v.create().ID, v.create().ID
			token := v.token(id)
			c, d := v.connect(token), v.connect(v.token(other))
			v.must(end(v, id))
			v.ends(name, c)
			v.untilVM(id, compute.Stopped)
			if _, _, _, err := v.consoles.Authorize(t.Context(), token); !errors.Is(err, compute.ErrConflict) {
				t.Errorf("a console of a stopped guest gives %v", err)
			}
			if _, err := v.consoles.CreateConsole(t.Context(), id, virt.ConsoleVNC, 0); !errors.Is(err, compute.ErrConflict) {
				t.Errorf("a token of a stopped guest gives %v", err)
			}
			v.must(v.StartServer(t.Context(), id))
			v.await(id)
			v.stays("the guest that came next", v.connect(token))
			v.stays("another server", d)
		})
	}
}

// A delete ends connections when it is accepted, and what is left of tokens opens nothing.
func TestConsolesEndWithTheirServer(t *testing.T) {
	v := newViewed(t)
	v.boot(nil)
	id, other := v.create().ID, v.create().ID
	token, kept := v.token(id), v.token(other)
	c, d := v.connect(token), v.connect(kept)
	v.must(v.DeleteServer(t.Context(), id))
	v.ends("delete", c)
	v.refuses("while it is deleted", token)
	v.waitAll()
	v.refuses("once it is deleted", token)
	if _, err := v.consoles.CreateConsole(t.Context(), id, virt.ConsoleVNC, 0); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("a token of a deleted server gives %v", err)
	}
	v.stays("another server", d)
}

func TestConsolesRevoked(t *testing.T) {
	v := newViewed(t)
	v.boot(nil)
	id, other := v.create().ID, v.create().ID
	tokens := []string{v.token(id), v.token(id)}
	c, d, e := v.connect(tokens[0]), v.connect(tokens[1]), v.connect(v.token(other))
	v.must(v.consoles.RevokeConsoles(t.Context(), id))
	v.ends("revoke", c)
	v.ends("revoke", d)
	v.refuses("revoked", tokens[0])
	v.refuses("revoked", tokens[1])
	v.stays("another server", e)
	v.stays("a new token", v.connect(v.token(id)))
	if err := v.consoles.RevokeConsoles(t.Context(), "none"); !errors.Is(err, compute.ErrNotFound) {
		t.Errorf("revoking of no server gives %v", err)
	}
}

// What happens while the hypervisor cannot be heard is found out when it can.
func TestConsolesEndThoughEventsWereLost(t *testing.T) {
	v := newViewed(t)
	v.boot(nil)
	id, other := v.create().ID, v.create().ID
	c, d := v.connect(v.token(id)), v.connect(v.token(other))
	v.hv.LoseConnection()
	v.must(v.hv.DestroyByHand(id))
	v.hv.RestoreConnection()
	v.ends("lost events", c)
	v.stays("another server", d)
}

// Tokens outlive the agent that made them.
func TestConsoleTokensOutliveTheAgent(t *testing.T) {
	v := newViewed(t)
	v.boot(nil)
	id := v.create().ID
	token := v.token(id)
	c := v.connect(token)
	v.consoles.Close()
	v.ends("the agent's end", c)
	v.stop()
	v.boot(nil)
	v.consoles.Start()
	defer v.consoles.Close()
	v.stays("the next agent", v.connect(token))
}

// Killed before and after each write, the agent leaves a token that it gave out, and none that was taken back.
func TestConsolesKilledAtEveryWrite(t *testing.T) {
	for name, act := range map[string]func(v *viewed, id string) (made string, err error){
		"create": func(v *viewed, id string) (string, error) {
			access, err := v.consoles.CreateConsole(t.Context(), id, virt.ConsoleVNC, 0)
			return access.Token, err
		},
		"revoke": func(v *viewed, id string) (string, error) { return "", v.consoles.RevokeConsoles(t.Context(), id) },
		"delete": func(v *viewed, id string) (string, error) { return "", v.DeleteServer(t.Context(), id) },
	} {
		t.Run(name, func(t *testing.T) {
			points := 0
			for dead := true; dead; {
				points++
				dead = killedConsole(t, name, points, act)
			}
			if points < 3 {
				t.Errorf("killed at %d points only", points-1)
			}
		})
	}
}

// killedConsole does one thing to a server with a token in an agent that dies at a point, and looks at what the next agent has. It says whether the agent died.
func killedConsole(t *testing.T, name string, point int, act func(v *viewed, id string) (string, error)) (died bool) {
	t.Helper()
	v := newViewed(t)
	defer v.stop()
	f := newFate()
	f.sleep(true)
	v.boot(f)
	id := v.create().ID
	old := v.token(id)
	f.dieAt = point
	f.sleep(false)
	made, err := act(v, id)
	v.waitAll()
	died = f.dead()
	left := v.kill()
	v.boot(nil)
	v.waitAll()
	if made != "" && err == nil {
		v.stays(name, v.connect(made))
	}
	switch accepted := err == nil || len(left.operations) > 0; {
	case name == "create" || name == "delete" && !accepted:
		v.stays(name, v.connect(old))
	case accepted:
		v.refuses(name, old)
	default: // revoked or not, as the write went; which, the caller was not told
		_, _, release, err := v.consoles.Authorize(t.Context(), old)
		if err == nil {
			release()
		} else if !errors.Is(err, console.ErrNoToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	return died
}

// tokenLife is a service over a store with two servers, and what must be true of its tokens.
type tokenLife struct {
	t       *testing.T
	store   *store.Store
	service *compute.ConsoleService
	now     time.Time
	running map[string]bool
	project map[string]string
	tokens  []lifeToken
}

type lifeToken struct {
	text, server string
	kind         virt.ConsoleType
	port         int
	project      string // of the server when it was made
	expires      time.Time
	gone         bool // revoked, or pushed out by newer ones
	ended        <-chan struct{}
}

const tokensPerServer = 3

func (l *tokenLife) Consoles(_ context.Context, id string) ([]virt.Console, error) {
	if !l.running[id] {
		return nil, virt.ErrInvalidState
	}
	return consolesOf(id), nil
}

func (l *tokenLife) start() {
	l.service = compute.NewConsoleService(compute.ConsoleOptions{
		Store: l.store, Finder: l, BaseURL: "https://host/consoles", Lifetime: time.Minute, PerServer: tokensPerServer,
		Clock: func() time.Time { return l.now }, After: func(time.Duration, func()) func() bool { return func() bool { return true } },
	})
}

// TestConsoleTokenLife does what comes to its mind to tokens of two servers. After each step every token that there ever was opens exactly the console that
// it was made for, or nothing.
func TestConsoleTokenLife(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		st, err := store.Open(filepath.Join(scratch(t), "agent.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = st.Close() }()
		l := &tokenLife{t: t, store: st, now: time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC), running: map[string]bool{}, project: map[string]string{}}
		for _, id := range []string{"a", "b"} {
			l.insert(r, id)
		}
		l.start()
		defer func() { l.service.Close() }()
		server := rapid.SampledFrom([]string{"a", "b"})
		r.Repeat(map[string]func(*rapid.T){
			"create":  func(r *rapid.T) { l.create(r, server.Draw(r, "server")) },
			"connect": l.connect,
			"wait": func(r *rapid.T) {
				l.now = l.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(r, "seconds")) * time.Second)
			},
			"revoke":  func(r *rapid.T) { l.revoke(r, server.Draw(r, "server")) },
			"power":   func(r *rapid.T) { id := server.Draw(r, "server"); l.running[id] = !l.running[id] },
			"give":    func(r *rapid.T) { l.give(r, server.Draw(r, "server")) },
			"restart": func(*rapid.T) { l.service.Close(); l.start(); l.service.Start() },
			"":        l.check,
		})
	})
}

func (l *tokenLife) insert(r *rapid.T, id string) {
	l.running[id], l.project[id] = true, "p"
	err := l.store.Update(l.t.Context(), func(tx compute.Writer) error {
		_, err := tx.InsertServer(compute.Server{ID: id, ProjectID: "p", VM: compute.Active})
		return err
	})
	if err != nil {
		r.Fatal(err)
	}
}

func (l *tokenLife) create(r *rapid.T, id string) {
	kind := rapid.SampledFrom([]virt.ConsoleType{virt.ConsoleVNC, virt.ConsoleSPICE, virt.ConsoleSerial}).Draw(r, "type")
	port := rapid.IntRange(0, 2).Draw(r, "port")
	exists := slices.ContainsFunc(consolesOf(id), func(c virt.Console) bool { return c.Type == kind && c.Port == port })
	access, err := l.service.CreateConsole(l.t.Context(), id, kind, port)
	switch {
	case !l.running[id]:
		l.isKind(r, err, compute.ErrConflict)
		return
	case !exists:
		l.isKind(r, err, compute.ErrInvalid)
		return
	case err != nil:
		r.Fatal(err)
	}
	if !strings.Contains(access.URL, access.Token) || len(access.Token) < 40 || !access.Expires.Equal(l.now.Add(time.Minute)) {
		r.Errorf("made %+v", access)
	}
	l.tokens = append(l.tokens, lifeToken{text: access.Token, server: id, kind: kind, port: port, project: l.project[id], expires: access.Expires})
	good := 0
	for i := range slices.Backward(l.tokens) {
		t := &l.tokens[i]
		if t.server == id && !t.gone && l.now.Before(t.expires) {
			if good++; good > tokensPerServer {
				t.gone = true
			}
		}
	}
}

func (l *tokenLife) isKind(r *rapid.T, err, kind error) {
	if !errors.Is(err, kind) {
		r.Errorf("error %v, want %v", err, kind)
	}
}

func (l *tokenLife) good(t lifeToken) bool {
	return !t.gone && l.now.Before(t.expires) && l.project[t.server] == t.project
}

func (l *tokenLife) connect(r *rapid.T) {
	if len(l.tokens) == 0 {
		return
	}
	t := &l.tokens[rapid.IntRange(0, len(l.tokens)-1).Draw(r, "token")]
	if _, ended, _, err := l.service.Authorize(l.t.Context(), t.text); err == nil {
		t.ended = ended
	}
}

func (l *tokenLife) revoke(r *rapid.T, id string) {
	if err := l.service.RevokeConsoles(l.t.Context(), id); err != nil {
		r.Fatal(err)
	}
	for i := range l.tokens {
		t := &l.tokens[i]
		if t.server != id {
			continue
		}
		t.gone = true
		if t.ended != nil {
			select {
			case <-t.ended:
			default:
				r.Errorf("a connection of %s outlives its revocation", id)
			}
		}
	}
}

// give makes a server another project's, or gives it back.
func (l *tokenLife) give(r *rapid.T, id string) {
	l.project[id] = map[string]string{"p": "q", "q": "p"}[l.project[id]]
	err := l.store.Update(l.t.Context(), func(tx compute.Writer) error {
		s, err := tx.Server(id)
		s.ProjectID = l.project[id]
		return errors.Join(err, tx.UpdateServer(s))
	})
	if err != nil {
		r.Fatal(err)
	}
}

func (l *tokenLife) check(r *rapid.T) {
	for _, text := range []string{"", "x", strings.Repeat("A", 43), strings.Repeat("A", 1<<16)} {
		if _, _, _, err := l.service.Authorize(l.t.Context(), text); !errors.Is(err, console.ErrNoToken) {
			r.Errorf("a guess gives %v", err)
		}
	}
	for _, t := range l.tokens {
		grant, _, release, err := l.service.Authorize(l.t.Context(), t.text)
		switch {
		case !l.good(t):
			l.isKind(r, err, console.ErrNoToken)
		case !l.running[t.server]:
			l.isKind(r, err, compute.ErrConflict)
		case err != nil:
			r.Errorf("a good token gives %v", err)
		default:
			release()
			want := console.Grant{
				ServerID: t.server, Protocol: string(t.kind), Network: "unix", Address: fmt.Sprintf("/%s/%s%d", t.server, t.kind, t.port),
				TokenID: grant.TokenID, Expires: t.expires,
			}
			if grant != want || grant.TokenID == "" || strings.Contains(t.text, grant.TokenID) {
				r.Errorf("a token for %s %s %d opens %+v", t.server, t.kind, t.port, grant)
			}
		}
	}
}

// Expired tokens go by themselves: the sweep runs when the first of them expires, and once more for the next.
func TestConsoleTokensAreSwept(t *testing.T) {
	v := newWorld(t)
	v.boot(nil)
	id := v.create().ID
	now := time.Date(2026, 11, 25, 0, 0, 0, 0, time.UTC)
	var due time.Duration
	var sweep func()
	service := compute.NewConsoleService(compute.ConsoleOptions{
		Store: v.agent.store, Finder: screens{v.agent.driver}, Lifetime: time.Minute, Clock: func() time.Time { return now },
		After: func(d time.Duration, fn func()) func() bool {
			due, sweep = d, fn
			return func() bool { return true }
		},
	})
	service.Start()
	if sweep != nil {
		t.Fatal("a sweep is to come though there is no token")
	}
	create := func() {
		_, err := service.CreateConsole(t.Context(), id, virt.ConsoleVNC, 0)
		v.must(err)
	}
	left := func(want int, next time.Duration) {
		t.Helper()
		v.must(v.agent.store.View(t.Context(), func(tx compute.Reader) error {
			all, err := tx.ConsoleTokens(id)
			if len(all) != want || due != next {
				t.Errorf("%d tokens, a sweep in %s; want %d, in %s", len(all), due, want, next)
			}
			return err
		}))
	}
	create()
	now = now.Add(20 * time.Second)
	create()
	left(2, time.Minute)
	now = now.Add(40 * time.Second)
	sweep()
	left(1, 20*time.Second)
	now = now.Add(20 * time.Second)
	due = 0
	sweep()
	left(0, 0)
	create()
	left(1, time.Minute)
	service.Close()
}
