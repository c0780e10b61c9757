// This file holds what Caddy's admin endpoint answers about sessions: its
// paths, their parameters, and answers in JSON.

package caddydevice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

func init() {
	caddy.RegisterModule(adminSessions{})
}

// adminSessions shows sessions to an operator, and ends them, at Caddy's admin
// endpoint:
//
//	GET    /device_auth/sessions?state=&subject=&provider=&after=&limit=
//	DELETE /device_auth/sessions/<id>
//	DELETE /device_auth/sessions?subject=<sub>[&provider=]
//	DELETE /device_auth/sessions?all=true[&provider=]
//
// GET answers {"sessions": […], "next": "<id>"}, in the order of their ids, of
// all stores that a configuration in use has. next is there while there may be
// more: it is the next request's after. limit is 100 if it is not given, and at
// most 1000; a page may be shorter, or empty, and have a next one all the same.
// subject is a person's sub, and provider an issuer, or an issuer, a space and a
// client id. Sessions of providers that no configuration has any more are there
// as well.
//
// An id may be cut short to no less than 8 characters, where it is the only one
// that begins so. DELETE of one session answers 204, or 404 where there is none
// or it is over; the others answer {"ended": n}, and end the sign-ins under way
// that are about to make such a session, too.
//
// What is shown opens nothing. Who may ask is decided by Caddy's admin endpoint.
type adminSessions struct{}

// CaddyModule returns the Caddy module information.
func (adminSessions) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.device_auth",
		New: func() caddy.Module { return new(adminSessions) },
	}
}

// adminPath is where sessions are.
const adminPath = "/device_auth/sessions"

// Routes implements caddy.AdminRouter. Each pattern is a whole path, so that
// what Caddy allows a remote administrator is what is asked for.
func (adminSessions) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: adminPath, Handler: adminMethods{http.MethodGet: listSessions, http.MethodDelete: endSessions}},
		{Pattern: adminPath + "/{id}", Handler: adminMethods{http.MethodDelete: endSession}},
	}
}

const (
	// adminTimeout bounds one request: a disk may hang.
	adminTimeout = time.Minute
	// defaultPage and mostPage are how many sessions one answer shows.
	defaultPage, mostPage = 100, 1000
	// mostScanned is how many records one answer looks through.
	mostScanned = 10000
)

// adminMethods are the handlers of one path, by method.
type adminMethods map[string]caddy.AdminHandlerFunc

// ServeHTTP implements caddy.AdminHandler.
func (m adminMethods) ServeHTTP(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	handle, ok := m[r.Method]
	if !ok {
		allowed := slices.Sorted(maps.Keys(m))
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return adminError(http.StatusMethodNotAllowed, "%s is not possible here: use %s", r.Method, strings.Join(allowed, " or "))
	}
	return handle(w, r)
}

func listSessions(w http.ResponseWriter, r *http.Request) error {
	given, err := parameters(r, "state", "subject", "provider", "after", "limit")
	if err != nil {
		return err
	}
	filter := sessionFilter{state: session.State(given["state"]), subject: given["subject"], provider: given["provider"]}
	if filter.state != "" && !slices.Contains(shownStates, filter.state) {
		return adminError(http.StatusBadRequest, "no session is ever %q: use one of %s", given["state"], shownStates)
	}
	limit := defaultPage
	if text, ok := given["limit"]; ok {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > mostPage {
			return adminError(http.StatusBadRequest, "limit is %q: it must be a number from 1 to %d; what comes after is asked for with after", text, mostPage)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), adminTimeout)
	defer cancel()
	page, err := pageOf(ctx, filter, given["after"], limit)
	if err != nil {
		return storeError(err)
	}
	return writeJSON(w, page)
}

func endSession(w http.ResponseWriter, r *http.Request) error {
	if _, err := parameters(r); err != nil {
		return err
	}
	ctx, cancel := endingContext(r)
	defer cancel()
	id := r.PathValue("id")
	if !isID(id) {
		return adminError(http.StatusNotFound, "%q is no session's id: give %d to %d of its characters, from the first one on", id, leastID, len(session.ID{}.String()))
	}
	named, err := recordsNamed(ctx, id)
	switch {
	case err != nil:
		return storeError(err)
	case len(named) > 1:
		return adminError(http.StatusConflict, "the ids of several sessions begin with %s: give more of the one that is meant", id)
	case len(named) == 0:
		return adminError(http.StatusNotFound, "no session's id begins with %s: GET %s lists those that there are", id, adminPath)
	}
	ended, err := named[0].end(ctx, adminActor(r))
	if err != nil {
		return storeError(err)
	}
	if !ended {
		return adminError(http.StatusNotFound, "session %s is over already", named[0].ID)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func endSessions(w http.ResponseWriter, r *http.Request) error {
	given, err := parameters(r, "subject", "all", "provider")
	if err != nil {
		return err
	}
	subject, all := given["subject"], given["all"]
	switch {
	case subject != "" && all != "":
		return adminError(http.StatusBadRequest, "subject and all are both there: keep one")
	case all != "" && all != "true":
		return adminError(http.StatusBadRequest, "all is %q: all=true ends all sessions", all)
	case subject == "" && all == "":
		return adminError(http.StatusBadRequest, "say which sessions are to end: %s/<id>, ?subject=<sub> or ?all=true", adminPath)
	}
	ctx, cancel := endingContext(r)
	defer cancel()
	ended, err := endMatching(ctx, sessionFilter{subject: subject, provider: given["provider"]}, adminActor(r))
	if err != nil {
		return storeError(fmt.Errorf("after %d sessions were ended: %w", ended, err))
	}
	return writeJSON(w, map[string]int{"ended": ended})
}

// endingContext is for what must not stop half-way because who asked for it
// hangs up.
func endingContext(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), adminTimeout)
}

// adminActor logs the ends that a request brings about.
func adminActor(r *http.Request) *zap.Logger {
	return caddy.Log().Named("admin.api.device_auth").With(zap.String("remote_addr", r.RemoteAddr))
}

// parameters reads a query that may have each of the known parameters once. A
// mistake in one is refused: with a filter less, more would be ended than was
// meant.
func parameters(r *http.Request, known ...string) (map[string]string, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, adminError(http.StatusBadRequest, "the query cannot be read: percent-encode its values")
	}
	given := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(query)) {
		switch {
		case !slices.Contains(known, name) && len(known) == 0:
			return nil, adminError(http.StatusBadRequest, "unknown parameter %q: there is none here", name)
		case !slices.Contains(known, name):
			return nil, adminError(http.StatusBadRequest, "unknown parameter %q: there are %s", name, strings.Join(known, ", "))
		case len(query[name]) > 1:
			return nil, adminError(http.StatusBadRequest, "%s is there twice: keep one", name)
		case query.Get(name) == "":
			return nil, adminError(http.StatusBadRequest, "%s is empty: give it a value, or leave it out", name)
		}
		given[name] = query.Get(name)
	}
	return given, nil
}

func writeJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// adminError is an answer that says what to do.
func adminError(status int, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return caddy.APIError{HTTPStatus: status, Err: err, Message: err.Error()}
}

// storeError is the answer where nothing is known: the reason is for the log.
func storeError(err error) error {
	message := "the sessions cannot be read or changed now: Caddy's log says why; try again"
	if errors.Is(err, context.DeadlineExceeded) {
		message = "the session store does not answer in time: try again"
	}
	return caddy.APIError{HTTPStatus: http.StatusServiceUnavailable, Err: err, Message: message}
}

// Interface guards
var (
	_ caddy.AdminRouter  = (*adminSessions)(nil)
	_ caddy.AdminHandler = adminMethods(nil)
)
