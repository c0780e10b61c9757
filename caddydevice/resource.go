// This file holds the metadata of the protected resource (RFC 9728): where a
// client that can sign in by itself gets its token.

package caddydevice

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/caddydevice/device-auth/caddydevice/internal/page"
)

// metadataPath is RFC 9728 §3's.
const metadataPath = "/.well-known/oauth-protected-resource"

// resourceMetadata are the members of RFC 9728 §2 that say something here.
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported,omitempty"`
	BearerMethods        []string `json:"bearer_methods_supported"`
}

// isMetadata reports whether the request is for the metadata path.
func (h *Handler) isMetadata(r *http.Request) bool {
	paths := h.pathsOf(r)
	return slices.Contains(paths[:], metadataPath)
}

// serveMetadata answers the metadata path. It needs no credential, and what it
// says is no secret.
func (h *Handler) serveMetadata(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return h.answer(w, r, http.StatusMethodNotAllowed, &page.Answer{Status: page.Invalid, Detail: "method"})
	}
	if h.hosts.siteOf(r) == "" {
		return h.answer(w, r, http.StatusBadRequest, &page.Answer{Status: page.Invalid, Detail: "host"})
	}
	h.decided(answered)
	l := h.linksFor(r)
	return page.WriteJSON(w, r, resourceMetadata{
		Resource: l.origin + h.mountOf(l), AuthorizationServers: h.bearerIssuers(),
		ScopesSupported: h.resourceScopes(r.Context()), BearerMethods: []string{"header"},
	})
}

// resourceScopes are the scopes that a sign-in at this gate asks for: a client's
// own is to say the same of a person. Of another issuer's nothing is known.
func (h *Handler) resourceScopes(ctx context.Context) []string {
	if !slices.Contains(h.bearerIssuers(), h.resolved.Issuer) {
		return nil
	}
	return h.engine.keeper.Client().Scopes(ctx)
}

// mountOf is the path that handle_path and the like take off before the gate.
func (h *Handler) mountOf(l links) string { return strings.TrimSuffix(l.path, h.PathPrefix) }

const challengePrefix = `Bearer realm="device_auth"`

// challenge is the WWW-Authenticate field of a 401 or 403 (RFC 6750 §3); code
// is its error, "" for none. It names the metadata where there is some
// (RFC 9728 §5.1).
func (h *Handler) challenge(r *http.Request, code string) string {
	value := challengePrefix
	if code != "" {
		value += `, error="` + code + `"`
	}
	if h.ProtectedResource && h.hosts.siteOf(r) != "" {
		l := h.linksFor(r)
		value += `, resource_metadata="` + l.origin + h.mountOf(l) + metadataPath + `"`
	}
	return value
}
