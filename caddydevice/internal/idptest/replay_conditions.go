// This file holds what can be said of a request, for the refusals of a replay,
// and how a replay knows its client.

package idptest

import (
	"net/url"
	"slices"
	"strings"
)

// always holds for every request.
func always(*Replay, *Request) bool { return true }

// lacks holds where a parameter is missing or empty.
func lacks(name string) Condition {
	return func(_ *Replay, q *Request) bool { return q.Form.Get(name) == "" }
}

// sends holds where a parameter is there.
func sends(name string) Condition {
	return func(_ *Replay, q *Request) bool { return q.Form.Has(name) }
}

// sendsTwice holds where any parameter is there more than once (RFC 6749 §3.2).
func sendsTwice(_ *Replay, q *Request) bool {
	for _, values := range q.Form {
		if len(values) > 1 {
			return true
		}
	}
	return false
}

// isNot holds where a body is of another media type.
func isNot(media string) Condition {
	return func(_ *Replay, q *Request) bool { return q.Media != media }
}

// accepts holds where the request names a media type in Accept.
func accepts(media string) Condition {
	return func(_ *Replay, q *Request) bool { return strings.Contains(q.Header.Get("Accept"), media) }
}

// asksFor holds where a scope is asked for.
func asksFor(scope string) Condition {
	return func(_ *Replay, q *Request) bool { return slices.Contains(strings.Fields(q.Form.Get("scope")), scope) }
}

// asksBeyond holds where a scope is asked for that is none of these.
func asksBeyond(scopes ...string) Condition {
	return func(_ *Replay, q *Request) bool {
		return slices.ContainsFunc(strings.Fields(q.Form.Get("scope")), func(s string) bool { return !slices.Contains(scopes, s) })
	}
}

// not turns a condition round.
func not(c Condition) Condition {
	return func(r *Replay, q *Request) bool { return !c(r, q) }
}

// all holds where each of them does.
func all(conditions ...Condition) Condition {
	return func(r *Replay, q *Request) bool {
		return !slices.ContainsFunc(conditions, func(c Condition) bool { return !c(r, q) })
	}
}

// usesBasic holds where there is Basic authentication.
func usesBasic(_ *Replay, q *Request) bool { return q.Basic }

// namesOther holds where the client_id of the body, which has to be there, is
// not that of the client.
func namesOther(r *Replay, q *Request) bool { return q.Form.Get("client_id") != r.ClientID }

// isOther holds where neither body nor Basic names the client.
func isOther(r *Replay, q *Request) bool {
	id, _ := r.basic(q)
	return q.Form.Get("client_id") != r.ClientID && id != r.ClientID
}

// provesInBody holds where the secret is in the body, or none is needed.
func provesInBody(r *Replay, q *Request) bool { return q.Form.Get("client_secret") == r.ClientSecret }

// verifierWithoutChallenge holds where a poll has a code verifier, and the
// device authorization had no challenge.
func verifierWithoutChallenge(r *Replay, q *Request) bool {
	c := r.codeOf(q.Form.Get("device_code"))
	return q.Form.Has("code_verifier") && c != nil && c.challenge == ""
}

// basic are the parts of Basic, as the product reads them.
func (r *Replay) basic(q *Request) (id, secret string) {
	if !r.Auth.Decoded {
		return q.User, q.Pass
	}
	id, _ = url.QueryUnescape(q.User)
	secret, _ = url.QueryUnescape(q.Pass)
	return id, secret
}

// authenticate refuses whoever is not the client; nil lets pass.
func (r *Replay) authenticate(q *Request) *Reply {
	if !slices.Contains(r.Auth.At, q.At) {
		return nil
	}
	sent := q.Basic || q.Form.Has("client_secret")
	switch {
	case isOther(r, q):
		return &r.Auth.Bad
	case r.ClientSecret == "" && sent && r.Auth.Unwanted.Status != 0:
		return &r.Auth.Unwanted
	case r.ClientSecret != "" && !r.proven(q):
		return &r.Auth.Bad
	}
	return nil
}

// proven reports whether a request has the secret in a form that counts.
func (r *Replay) proven(q *Request) bool {
	id, secret := r.basic(q)
	switch {
	case q.Basic:
		return slices.Contains(r.Auth.Methods, "basic") && id == r.ClientID && secret == r.ClientSecret
	case q.Form.Has("client_secret"):
		return slices.Contains(r.Auth.Methods, "post") && q.Form.Get("client_secret") == r.ClientSecret
	}
	return slices.Contains(r.Auth.Methods, "none")
}
