package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"

	"compute-agent/compute"
)

// headerRequestID is the ID of a request in the words of all services but the older Nova.
const headerRequestID = "X-Openstack-Request-Id"

// observe gives each request its ID, writes one line of access log when it is over, and keeps a
// panic from ending more than its own request. Tokens and bodies are in no log line.
func (a *api) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := "req-" + uuid.NewString()
		seen := &observed{}
		ctx := compute.WithRequestID(context.WithValue(r.Context(), observedKey{}, seen), id)
		r = r.WithContext(ctx)
		rec := &recorder{ResponseWriter: w, hasBody: r.ContentLength != 0}
		rec.Header().Set(headerRequestID, id)
		if strings.HasPrefix(r.URL.Path, "/compute") {
			rec.Header().Set("X-Compute-Request-Id", id)
		}
		start := a.Now()
		defer func() {
			a.logRequest(r, rec, seen, a.Now().Sub(start))
		}()
		defer a.recover(rec, r)
		next.ServeHTTP(rec, r)
	})
}

// recover answers for a handler that panicked.
func (a *api) recover(w *recorder, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, isError := cause.(error); isError && errors.Is(err, http.ErrAbortHandler) {
		panic(cause) // net/http's own way to break a connection
	}
	a.log.ErrorContext(r.Context(), "Request panicked", "request_id", compute.RequestID(r.Context()),
		"panic", cause, "stack", string(debug.Stack()))
	if w.status == 0 {
		writeFault(w, r, service{shape: computeFault}, &fault{status: http.StatusInternalServerError, message: internalMessage})
	}
}

func (a *api) logRequest(r *http.Request, w *recorder, seen *observed, took time.Duration) {
	attrs := []slog.Attr{
		slog.String("request_id", compute.RequestID(r.Context())),
		slog.String("method", r.Method),
		slog.String("path", toldPath(r)),
		slog.Int("status", w.status),
		slog.Int64("bytes", w.written),
		slog.Duration("took", took),
		slog.String("client", clientAddress(r)),
	}
	if global := r.Header.Get(headerRequestID); isRequestID(global) {
		attrs = append(attrs, slog.String("global_request_id", global))
	}
	if seen.who.UserID != "" {
		attrs = append(attrs, slog.String("user_id", seen.who.UserID), slog.String("project_id", seen.who.ProjectID))
	}
	a.log.LogAttrs(r.Context(), slog.LevelInfo, "Request", attrs...)
}

// isRequestID tells whether a client's own request ID has the only form that services take over.
func isRequestID(s string) bool {
	rest, ok := strings.CutPrefix(s, "req-")
	return ok && len(rest) == 36 && uuid.Validate(rest) == nil
}

// observed is what later stages tell the access log.
type observed struct{ who caller }

type observedKey struct{}

func noteCaller(ctx context.Context, who caller) {
	if seen, ok := ctx.Value(observedKey{}).(*observed); ok {
		seen.who = who
	}
}

// recorder notes what was answered, and sets the deadlines of the answer when it begins: an upload may
// have taken hours until then.
type recorder struct {
	http.ResponseWriter
	hasBody bool // the request
	status  int
	written int64
}

func (r *recorder) WriteHeader(status int) {
	r.begin(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) begin(status int) {
	if r.status != 0 {
		return
	}
	r.status = status
	conn := http.NewResponseController(r.ResponseWriter)
	_ = conn.SetWriteDeadline(time.Now().Add(replyTimeout))
	if r.hasBody { // net/http reads what the handler has left of it
		_ = conn.SetReadDeadline(time.Now().Add(lingerTimeout))
	}
}

func (r *recorder) Write(p []byte) (int, error) {
	r.begin(http.StatusOK)
	n, err := r.ResponseWriter.Write(p)
	r.written += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// fail answers with a fault and logs what the user is not told.
func (a *api) fail(w http.ResponseWriter, r *http.Request, s service, err error) {
	f := toFault(err)
	if f.status == http.StatusInternalServerError && r.Context().Err() != nil { // nothing of ours failed
		f = &fault{status: http.StatusBadRequest, message: "The client closed the connection before the answer.", err: err}
	}
	if f.status >= http.StatusInternalServerError {
		a.log.ErrorContext(r.Context(), "Request failed", "request_id", compute.RequestID(r.Context()),
			"method", r.Method, "path", toldPath(r), "error", err)
	}
	writeFault(w, r, s, f)
}

// limitRate answers 429 to a client address that asks faster than it may.
func (a *api) limitRate(next http.Handler) http.Handler {
	all := newLimiters(a.Limits.RequestsPerSecond, a.Limits.RequestBurst, a.Now)
	logins := newLimiters(a.Limits.LoginsPerSecond, a.Limits.LoginBurst, a.Now)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		client := clientAddress(r)
		wait := all.take(client)
		if wait == 0 && r.Method == http.MethodPost && r.URL.Path == tokensPath {
			wait = logins.take(client)
		}
		if wait > 0 {
			writeFault(w, r, service{shape: computeFault}, &fault{
				status:     http.StatusTooManyRequests,
				message:    "This client sends requests too fast.",
				retryAfter: wait,
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// maxClients is how many addresses a limiter remembers; when there are more it forgets the idle.
const maxClients = 4096

// limiters is one token bucket for each client address.
type limiters struct {
	perSecond float64
	burst     int
	now       func() time.Time

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
}

func newLimiters(perSecond float64, burst int, now func() time.Time) *limiters {
	return &limiters{perSecond: perSecond, burst: burst, now: now, buckets: map[string]*rate.Limiter{}}
}

// take counts a request and returns how long the client must wait, zero if not at all.
func (l *limiters) take(client string) time.Duration {
	if l.perSecond < 0 {
		return 0
	}
	now := l.now()
	l.mu.Lock()
	bucket, known := l.buckets[client]
	if !known {
		l.forgetIdle(now)
		bucket = rate.NewLimiter(rate.Limit(l.perSecond), l.burst)
		l.buckets[client] = bucket
	}
	l.mu.Unlock()
	if bucket.AllowN(now, 1) {
		return 0
	}
	return time.Duration(float64(time.Second) / l.perSecond)
}

// forgetIdle makes room when the table is full: a full bucket is as good as a new one. When no
// client is idle the table starts anew, which is better than to grow.
func (l *limiters) forgetIdle(now time.Time) {
	if len(l.buckets) < maxClients {
		return
	}
	for client, bucket := range l.buckets {
		if bucket.TokensAt(now) >= float64(l.burst) {
			delete(l.buckets, client)
		}
	}
	if len(l.buckets) >= maxClients {
		clear(l.buckets)
	}
}

// toldPath is a request's path for the log, where tokens of consoles have no place.
func toldPath(r *http.Request) string {
	if path, token, found := strings.Cut(r.URL.Path, consoleTokensPath); found && token != "" {
		return shorten(path) + consoleTokensPath + "*"
	}
	return shorten(r.URL.Path)
}
