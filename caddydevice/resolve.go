// This file holds placeholders: those that are replaced when a configuration
// is loaded, and those that wait for a request.

package caddydevice

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddydevice/device-auth/caddydevice/internal/idp"
)

// resolver replaces placeholders and keeps the first mistake.
type resolver struct {
	repl  *caddy.Replacer
	err   error
	names map[string]string // of the placeholders, by what they came to
}

func newResolver() *resolver {
	return &resolver{repl: caddy.NewReplacer(), names: map[string]string{}}
}

func (r *resolver) fail(key string, err error) {
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%s: %w", key, err)
	}
}

// hide puts the names of placeholders back into a mistake that quotes what they
// came to: whoever names the secret where its file belongs must not find it in
// the log.
func (r *resolver) hide(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	longestFirst := func(a, b string) int { return len(b) - len(a) }
	for _, value := range slices.SortedFunc(maps.Keys(r.names), longestFirst) {
		text = strings.ReplaceAll(text, value, r.names[value])
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
}

// atLoad is atLoad, and remembers the name.
func (r *resolver) atLoad(name string, value any) (any, error) {
	value, err := atLoad(name, value)
	if err == nil {
		r.names[caddy.ToString(value)] = "{" + name + "}"
	}
	return value, err
}

// text replaces {env.…} and {file.…}.
func (r *resolver) text(key, value string) string {
	text, err := r.repl.ReplaceFunc(value, r.atLoad)
	r.fail(key, err)
	return text
}

// texts replaces them in each of a list.
func (r *resolver) texts(key string, values []string) {
	for i := range values {
		values[i] = r.text(key, values[i])
	}
}

// secret is text for a value of which a mistake must not print a part. literal
// is whether the value itself is in the configuration.
func (r *resolver) secret(key, value string) (text string, literal bool) {
	literal = value != ""
	text, err := r.repl.ReplaceFunc(value, func(name string, v any) (any, error) {
		literal = false
		return r.atLoad(name, v)
	})
	if _, unknown := errors.AsType[*placeholderError](err); unknown {
		err = errors.New(`what is in braces is neither {env.NAME} nor {file./path}: write \{ where a brace is meant`)
	}
	r.fail(key, err)
	return text, literal
}

// placeholderError is a placeholder that cannot be resolved at load.
type placeholderError struct{ name string }

func (e *placeholderError) Error() string {
	if strings.HasPrefix(e.name, "http.") {
		return fmt.Sprintf("{%s} is known only during a request, which is possible in param and in matchers: write the value itself, {env.NAME} or {file./path}", e.name)
	}
	return fmt.Sprintf(`{%s} is no placeholder that is known here: use {env.NAME} or {file./path}, or \{ where a brace is meant`, e.name)
}

// atLoad is the value of a placeholder when the configuration is loaded.
func atLoad(name string, value any) (any, error) {
	kind, rest, _ := strings.Cut(name, ".")
	empty := caddy.ToString(value) == ""
	switch {
	case kind == "env" && empty:
		return nil, fmt.Errorf("{%s} is not set: set the variable %s for Caddy's process", name, rest)
	case kind == "file" && empty:
		return nil, fmt.Errorf("{%s}: the file is empty, or Caddy cannot read it", name)
	case kind != "env" && kind != "file":
		return nil, &placeholderError{name}
	}
	return value, nil
}

// checkPlaceholders reports a placeholder that no load will ever resolve.
func checkPlaceholders(text string, allowed ...string) error {
	_, err := caddy.NewEmptyReplacer().ReplaceFunc(text, func(name string, _ any) (any, error) {
		if kind, _, _ := strings.Cut(name, "."); !slices.Contains(allowed, kind) {
			return nil, &placeholderError{name}
		}
		return "", checkBody(name)
	})
	return err
}

// checkBody keeps the request's body unread: it belongs to the upstream.
func checkBody(name string) error {
	if strings.HasPrefix(name, "http.request.body") {
		return fmt.Errorf("{%s} would read the body, which is for the upstream: use another placeholder", name)
	}
	return nil
}

// paramTemplate is a parameter whose value may depend on the request. parts
// are text and names of placeholders by turns, so that what a variable, a file
// or a client holds is never taken for a placeholder itself.
type paramTemplate struct {
	name  string
	parts []string
}

// mark stands around the names of placeholders while a template is taken
// apart.
const mark = "\x00"

// several are the parameters that may be sent more than once (RFC 8707 §2,
// RFC 8693 §2.1); RFC 6749 §3.1 forbids that for the others.
var several = []string{"resource", "audience"}

func (r *resolver) templates(params map[string][]string) []paramTemplate {
	var all []paramTemplate
	for _, name := range slices.Sorted(maps.Keys(params)) {
		key := "param " + name
		if err := idp.CheckParamName(name); err != nil {
			r.fail("param", err)
		}
		if len(params[name]) > 1 && !slices.Contains(several, name) {
			r.fail(key, fmt.Errorf("it is there %d times: keep one (only %s may be there several times)", len(params[name]), strings.Join(several, " and ")))
		}
		for _, value := range params[name] {
			if value == "" {
				r.fail(key, errors.New("it needs a value"))
			}
			all = append(all, paramTemplate{name, r.parts(key, value)})
		}
	}
	return all
}

func (r *resolver) parts(key, value string) []string {
	text, err := r.repl.ReplaceFunc(strings.ReplaceAll(value, mark, ""), func(name string, v any) (any, error) {
		if strings.HasPrefix(name, "http.") {
			return mark + name + mark, checkBody(name)
		}
		v, err := atLoad(name, v)
		return strings.ReplaceAll(caddy.ToString(v), mark, ""), err
	})
	r.fail(key, err)
	return strings.Split(text, mark)
}

// maxParam bounds a parameter's value. What a client can make longer than that
// would be refused somewhere on its way, at the cost of all other clients.
const maxParam = 1024

// paramsFor are the parameters of the sign-in that a request starts; ok is false
// where it has brought a value that cannot be sent.
func (h *Handler) paramsFor(r *http.Request) (params []idp.Param, ok bool) {
	if len(h.params) == 0 {
		return nil, true
	}
	repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	if !ok {
		repl = caddy.NewEmptyReplacer()
	}
	params = make([]idp.Param, 0, len(h.params))
	for _, t := range h.params {
		var b strings.Builder
		for i, part := range t.parts {
			if i%2 == 1 {
				part, _ = repl.GetString(part)
			}
			b.WriteString(part)
		}
		value := b.String()
		if len(value) > maxParam || !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, false
		}
		params = append(params, idp.Param{Name: t.name, Value: value})
	}
	return params, true
}
