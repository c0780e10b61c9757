// This file holds the line that goes on in a terminal, in the words of the tool
// that is used there.

package caddydevice

import (
	"net/http"
	"strings"

	"github.com/caddydevice/device-auth/caddydevice/internal/session"
)

// errand is a request as a command line makes it.
type errand struct{ method, header, value, url string }

// tools write command lines, by a part of the User-Agent in lower case. The
// last is for everybody else.
var tools = []struct {
	agent string
	write func(errand) []string
}{
	{"wget/", func(e errand) []string {
		return []string{"wget", optional(e.method, "--method="+shellQuote(e.method)), "--header=" + shellQuote(e.header+": "+e.value), shellQuote(e.url)}
	}},
	{"httpie/", func(e errand) []string {
		return []string{"http", optional(e.method, shellQuote(e.method)), shellQuote(e.url), shellQuote(e.header + ":" + e.value)}
	}},
	{"powershell/", func(e errand) []string {
		return []string{"Invoke-RestMethod", optional(e.method, "-Method "+powerShellQuote(e.method)), "-Headers @{ " + e.header + " = " + powerShellQuote(e.value) + " }", "-Uri " + powerShellQuote(e.url)}
	}},
	{"", func(e errand) []string {
		header := "-H " + shellQuote(e.header+": "+e.value)
		if e.header == "Cookie" {
			header = "-b " + shellQuote(e.value)
		}
		// curl would take brackets and braces for a pattern of several addresses
		glob := ""
		if strings.ContainsAny(e.url, "[]{}") {
			glob = "-g"
		}
		return []string{"curl", glob, optional(e.method, "-X "+shellQuote(e.method)), header, shellQuote(e.url)}
	}},
}

// optional leaves out what names the method that tools use by themselves.
func optional(method, argument string) string {
	if method == http.MethodGet {
		return ""
	}
	return argument
}

// commandLine writes an errand for the tool that made the request.
func commandLine(r *http.Request, e errand) string {
	agent := strings.ToLower(r.UserAgent())
	for _, tool := range tools {
		if strings.Contains(agent, tool.agent) {
			return strings.Join(withoutEmpty(tool.write(e)), " ")
		}
	}
	return ""
}

func withoutEmpty(words []string) []string {
	kept := words[:0]
	for _, word := range words {
		if word != "" {
			kept = append(kept, word)
		}
	}
	return kept
}

// command is the line that goes on: the same request with the key.
func (h *Handler) command(r *http.Request, l links, to string, key session.Key) string {
	e := errand{method: r.Method, url: l.origin + to}
	if h.isLogin(r) {
		e.method = http.MethodGet
	}
	e.header, e.value = h.keyField(r, key)
	return commandLine(r, e)
}

// confirmCommand is the line that confirms a sign-in.
func (h *Handler) confirmCommand(r *http.Request, l links, key session.Key) string {
	e := errand{method: http.MethodPost, url: l.origin + l.path + "/confirm"}
	e.header, e.value = h.keyField(r, key)
	return commandLine(r, e)
}

// keyField is the header field that brings the key: Authorization or, where
// the request has one of its own, which is the upstream's, the cookie.
func (h *Handler) keyField(r *http.Request, key session.Key) (name, value string) {
	if auth := arrivedWith(r).authorization; auth != nil && parseAuthorization(auth[0]).source == noCredential {
		return "Cookie", h.cookie.name + "=" + key.Reveal()
	}
	return "Authorization", "Bearer " + key.Reveal()
}

// shellQuote quotes for a POSIX shell.
func shellQuote(text string) string {
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// powerShellQuote quotes for PowerShell, where nothing within single quotes is
// special but these: it takes typographic ones for them, too.
func powerShellQuote(text string) string {
	return "'" + strings.NewReplacer("'", "''", "‘", "‘‘", "’", "’’", "‚", "‚‚", "‛", "‛‛").Replace(text) + "'"
}
