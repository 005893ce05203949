package metadata

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"unicode/utf8"
)

// handler answers the guests of one place.
type handler struct {
	source Source
	place  *place
	log    *slog.Logger
}

// ServeHTTP answers a request of whoever the connection comes from. Who is not known gets what a path that is not there gets.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	who, err := h.place.asker(r.Context())
	if err != nil {
		h.log.Debug("metadata asked for by nobody that is known", "error", err)
		notFound(w)
		return
	}
	leave, ok := h.place.limits.enter(who.Port)
	if !ok {
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusTooManyRequests, "Too many requests.")
		return
	}
	defer leave()
	docs, err := h.source.Documents(r.Context(), who)
	if err != nil {
		h.fail(w, who, err)
		return
	}
	found, ok := docs.find(r.URL.Path, who.Addr)
	switch {
	case !ok:
		notFound(w)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		answer(w, found)
	case found.password && r.Method == http.MethodPost:
		h.keepPassword(w, r, who)
	case found.password:
		refuse(w, http.StatusBadRequest, "GET and POST only are supported.")
	default:
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "GET and HEAD only are supported.")
	}
}

// keepPassword is the guest's one post, with Nova's answers. An empty one changes nothing.
func (h *handler) keepPassword(w http.ResponseWriter, r *http.Request, who Asker) {
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxPassword+1))
	switch {
	case err != nil:
		refuse(w, http.StatusBadRequest, "The request ended early.")
	case len(body) > MaxPassword:
		refuse(w, http.StatusBadRequest, "Request is too large.")
	case !utf8.Valid(body):
		refuse(w, http.StatusBadRequest, "The password is not UTF-8.")
	case len(body) == 0:
		answer(w, item{kind: textType})
	default:
		if err := h.source.KeepPassword(r.Context(), who, string(body)); err != nil {
			h.fail(w, who, err)
			return
		}
		answer(w, item{kind: textType})
	}
}

func (h *handler) fail(w http.ResponseWriter, who Asker, err error) {
	switch {
	case errors.Is(err, ErrNotFound):
		h.log.Debug("metadata asked for by a port without a server", "namespace", who.Namespace, "port_id", who.Port)
		notFound(w)
	case errors.Is(err, ErrPasswordSet):
		refuse(w, http.StatusConflict, "There was a conflict when trying to complete your request.")
	case errors.Is(err, context.Canceled): // the guest has gone
		refuse(w, http.StatusServiceUnavailable, "Please try your request again.")
	default:
		h.log.Warn("cannot answer a guest that asks for its metadata", "namespace", who.Namespace, "port_id", who.Port, "error", err)
		refuse(w, http.StatusInternalServerError, "An unknown error has occurred. Please try your request again.")
	}
}

func answer(w http.ResponseWriter, i item) {
	w.Header().Set("Content-Type", i.kind)
	w.Header().Set("Content-Length", strconv.Itoa(len(i.body)))
	_, _ = w.Write(i.body) // or the guest has gone
}

func notFound(w http.ResponseWriter) {
	refuse(w, http.StatusNotFound, "The resource could not be found.")
}

// refuse answers in the form of Nova's errors as text.
func refuse(w http.ResponseWriter, status int, why string) {
	answerText := strconv.Itoa(status) + " " + http.StatusText(status) + "\n\n" + why + "\n\n"
	w.Header().Set("Content-Type", textType)
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answerText)
}
