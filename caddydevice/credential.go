// This file holds credentials: how a session key is found on a request, and
// how it is taken off before the upstream sees it.

package caddydevice

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// credential is what a request brings to say who it is.
type credential struct {
	key    session.Key
	token  string // fromToken
	source source
}

// source says where a credential was, or what is wrong with it.
type source int

const (
	noCredential source = iota
	fromBearer          // Authorization, Bearer or Basic
	fromCookie
	fromToken // an access token of the client's own, not verified yet
	badBearer // meant for this gate, but neither key nor token
	ambiguous // several Authorization fields
)

// credentialOf finds the request's credential. An Authorization that is meant
// for this gate decides alone: a bad bearer is not rescued by a good cookie.
// Any other Authorization is the upstream's business.
func (h *Handler) credentialOf(r *http.Request) credential {
	arrived := arrivedWith(r)
	switch fields := arrived.authorization; {
	case len(fields) > 1:
		return credential{source: ambiguous}
	case len(fields) == 1:
		if cred := h.readAuthorization(fields[0]); cred.source != noCredential {
			return cred
		}
	}
	if key, ok := h.cookie.key(arrived.cookie); ok {
		return credential{key: key, source: fromCookie}
	}
	return credential{}
}

// readAuthorization reads what may be a key or, where clients may bring their
// own, an access token.
func (h *Handler) readAuthorization(field string) credential {
	cred := parseAuthorization(field)
	if cred.source != noCredential || h.bearer == nil {
		return cred
	}
	switch token, meant := bearerToken(field); {
	case !meant:
		return credential{}
	case token == "":
		return credential{source: badBearer}
	default:
		return credential{token: token, source: fromToken}
	}
}

// parseAuthorization reads `Bearer dvc_…`, and `Basic` whose password is a
// key, for netrc (RFC 6750 §2.1, RFC 7617 §2). It recognises broadly what is
// meant for this gate, so that no key slips through to the upstream, and
// accepts only the one strict form.
func parseAuthorization(field string) credential {
	scheme, value, _ := strings.Cut(field, " ")
	key := ""
	meant := strings.Contains(field, session.KeyPrefix)
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		key = value
	case len(field) > len("Basic") && strings.EqualFold(field[:len("Basic")], "Basic"):
		pair, strict := decodeBasic(field)
		meant = meant || strings.Contains(pair, session.KeyPrefix)
		if strict {
			_, key, _ = strings.Cut(pair, ":")
		}
	}
	if !meant {
		return credential{}
	}
	if key, ok := session.ParseKey(key); ok {
		return credential{key: key, source: fromBearer}
	}
	return credential{source: badBearer}
}

// decodeBasic decodes what some server might, and says whether all would.
func decodeBasic(field string) (pair string, strict bool) {
	_, value, strict := strings.Cut(field, " ")
	if !strict {
		_, value, _ = strings.Cut(field, "\t")
	}
	if decoded, err := base64.StdEncoding.DecodeString(value); err == nil {
		return string(decoded), strict
	}
	value = strings.TrimRight(strings.TrimSpace(value), "=")
	for _, lenient := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if decoded, err := lenient.DecodeString(value); err == nil {
			return string(decoded), false
		}
	}
	return "", false
}

// arrivedVar is the request variable that holds the fields in which keys may
// be, as they arrived: a gate hides them from the upstream, also where it does
// not protect the request itself, and the next gate has to find its own.
const arrivedVar = "device_auth.arrived"

type secretFields struct{ authorization, cookie []string }

// String keeps them out of whatever prints request variables.
func (secretFields) String() string { return "" }

// arrivedWith are these fields of a request.
func arrivedWith(r *http.Request) secretFields {
	if hidden, ok := caddyhttp.GetVar(r.Context(), arrivedVar).(secretFields); ok {
		return hidden
	}
	return secretFields{authorization: r.Header["Authorization"], cookie: r.Header["Cookie"]}
}

// keepArrived remembers these fields before one of them is changed.
func keepArrived(r *http.Request) { caddyhttp.SetVar(r.Context(), arrivedVar, arrivedWith(r)) }

// hideCredentials takes our cookie and our keys off the request: also where it
// is not protected, since a browser sends its cookie everywhere.
func (h *Handler) hideCredentials(r *http.Request) {
	arrived := arrivedWith(r)
	changed := false
	for _, field := range r.Header["Authorization"] {
		if parseAuthorization(field).source != noCredential {
			delete(r.Header, "Authorization")
			changed = true
			break
		}
	}
	if h.cookie.hide(r.Header) || changed {
		caddyhttp.SetVar(r.Context(), arrivedVar, arrived)
	}
}
