// This file tests the languages and the looks of answers, as an operator sets
// them.

package caddydevice

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLanguageOfAnswers: in the language that was asked for, if the operator
// offers it; JSON stays as it is.
func TestLanguageOfAnswers(t *testing.T) {
	all, some := newGate(t, nil), newGate(t, map[string]any{"page": map[string]any{"languages": []string{"de", "fr"}}})
	for _, row := range []struct {
		name      string
		gate      *gate
		header    map[string]string
		tag, says string
	}{
		{"text, German", all, with(curlHeaders, "Accept-Language", "de-CH"), "de", "und geben Sie diesen Code ein"},
		{"text, nothing asked", all, curlHeaders, "en", "and enter the code"},
		{"page, Arabic", all, with(browserHeaders, "Accept-Language", "ar"), "ar", `<html lang="ar" dir="rtl">`},
		{"page, not offered", some, with(browserHeaders, "Accept-Language", "ja"), "de", `<html lang="de" dir="ltr">`},
		{"text, the second of those offered", some, with(curlHeaders, "Accept-Language", "fr"), "fr", "et saisissez le code"},
		{"JSON", all, with(jsonHeaders, "Accept-Language", "de"), "", "This sign-in waits for your approval."},
	} {
		t.Run(row.name, func(t *testing.T) {
			resp := row.gate.do(request{target: "/x", header: row.header})
			if got := resp.Header.Get("Content-Language"); got != row.tag || !strings.Contains(row.gate.body, row.says) {
				t.Errorf("%d in %q: %s", resp.StatusCode, got, row.gate.body)
			}
			if vary := resp.Header.Get("Vary"); vary != "Accept, Accept-Language" {
				t.Errorf("Vary: %q", vary)
			}
		})
	}
}

// TestPageSettings: what the operator sets is on the page, and a mistake in it is
// found when the configuration is loaded.
func TestPageSettings(t *testing.T) {
	file := func(content string) string {
		name := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	t.Setenv("PAGE_TITLE", "Wall of the workshop")
	g := newGate(t, map[string]any{"page": map[string]any{"title": "{env.PAGE_TITLE}", "logo": file(`<svg xmlns="http://www.w3.org/2000/svg"/>`), "colors": map[string]any{"background": "#102030"}}})
	resp := g.do(request{target: "/x", header: browserHeaders})
	for _, part := range []string{"Sign in to Wall of the workshop", "api.example.com", `src="data:image/svg&#43;xml;base64,`, "#102030"} {
		if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(g.body, part) {
			t.Errorf("%q is not on the page: %s", part, g.body)
		}
	}
	for name, row := range map[string]struct {
		page map[string]any
		want string
	}{
		"no such logo":     {map[string]any{"logo": "/no/such/file"}, "page logo"},
		"a logo of text":   {map[string]any{"logo": file("hello")}, "page logo"},
		"template":         {map[string]any{"template": file("{{.Nothing}}")}, "page template"},
		"colour":           {map[string]any{"colors": map[string]any{"text": "red"}}, "page colors text"},
		"contrast":         {map[string]any{"colors": map[string]any{"text": "#777", "background": "#888"}}, "contrast"},
		"theme":            {map[string]any{"theme": "pink"}, "page theme"},
		"language":         {map[string]any{"languages": []string{"tlh"}}, "page languages"},
		"confirm":          {map[string]any{"confirm": "maybe"}, "page confirm"},
		"renew":            {map[string]any{"renew": -1}, "page renew"},
		"unset variable":   {map[string]any{"title": "{env.NO_SUCH}"}, "page title"},
		"a title too long": {map[string]any{"title": strings.Repeat("x", 81)}, "page title"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tryProvision(t, map[string]any{"issuer": "https://idp.example.com", "client_id": "gate", "page": row.page}, nil)
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}
