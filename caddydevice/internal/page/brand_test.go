// This file tests what an operator can make of the page, and what is refused.

package page

import (
	"bytes"
	"encoding/base64"
	"image"
	"image/gif"
	"image/jpeg"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// write makes a file of the test.
func write(t *testing.T, name, content string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestBrand(t *testing.T) {
	for _, row := range []struct {
		name   string
		config BrandConfig
		scheme string // of a brand that is good
		err    string // a part of it
	}{
		{"nothing", BrandConfig{}, "dark light", ""},
		{"title", BrandConfig{Title: strings.Repeat("ü", 80)}, "dark light", ""},
		{"title too long", BrandConfig{Title: strings.Repeat("x", 81)}, "", "title: it has 81 characters; make it at most 80"},
		{"title with a line break", BrandConfig{Title: "a\nb"}, "", "title: \"a\\nb\" has a character that cannot be printed"},
		{"title with a bidi control", BrandConfig{Title: "a\u202eb"}, "", "cannot be printed"},
		{"title that is not UTF-8", BrandConfig{Title: "a\xffb"}, "", "cannot be printed"},
		{"theme auto", BrandConfig{Theme: "auto"}, "dark light", ""},
		{"theme dark", BrandConfig{Theme: "dark"}, "dark", ""},
		{"theme light", BrandConfig{Theme: "light"}, "light", ""},
		{"theme of another name", BrandConfig{Theme: "Dark"}, "", `theme: there is no "Dark"; write auto, dark or light`},
		{"background is dark", BrandConfig{Background: "#123"}, "dark", ""},
		{"background is light", BrandConfig{Background: "#FFEEDD"}, "light", ""},
		{"all colours", BrandConfig{Background: "#112233", Text: "#eee", Accent: "#fc6"}, "dark", ""},
		{"colour by name", BrandConfig{Background: "red"}, "", `background: "red" is no colour: write #rgb or #rrggbb`},
		{"colour of four digits", BrandConfig{Text: "#1234"}, "", "text: "},
		{"colour that ends the rule", BrandConfig{Theme: "dark", Accent: "#fff;}"}, "", "accent: "},
		{"text like the background", BrandConfig{Background: "#777", Text: "#888"}, "", "text #888888 on background #777777 has a contrast of 1.2:1, too little to be read; choose colours further apart, of at least 4.5:1"},
		{"text just too pale", BrandConfig{Background: "#fff", Text: "#777"}, "", "contrast of 4.4:1"},
		{"text just readable", BrandConfig{Background: "#fff", Text: "#767676"}, "light", ""},
		{"accent on the background", BrandConfig{Background: "#fff", Accent: "#fc6"}, "", "theme light: accent #ffcc66 on background #ffffff"},
		{"accent for one theme only", BrandConfig{Accent: "#fc6"}, "", "theme light: accent"},
		{"accent for the theme", BrandConfig{Theme: "dark", Accent: "#fc6"}, "dark", ""},
		{"text against the theme", BrandConfig{Theme: "dark", Text: "#222"}, "", "theme dark: text #222222"},
		{"languages", BrandConfig{Languages: []string{"en"}}, "dark light", ""},
		{"language that is not there", BrandConfig{Languages: []string{"tlh"}}, "", `languages: language "tlh"`},
	} {
		t.Run(row.name, func(t *testing.T) {
			b, err := NewBrand(row.config)
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) {
					t.Errorf("error %v, want %s", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if b.scheme != row.scheme || strings.Contains(string(b.style), "prefers-color-scheme") != (row.scheme == "dark light") {
				t.Errorf("schemes %q, want %q", b.scheme, row.scheme)
			}
		})
	}
}

func TestLogo(t *testing.T) {
	picture := image.NewGray(image.Rect(0, 0, 2, 2))
	drawn := func(draw func(*bytes.Buffer) error) string {
		var b bytes.Buffer
		if err := draw(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const svg = `<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><path d="M0 0h1v1z"/></svg>`
	for _, row := range []struct {
		name, file, content string
		media, err          string
	}{
		{"SVG", "logo", svg, "image/svg+xml", ""},
		{"SVG without a prolog, by the wrong name", "logo.png", svg[len(`<?xml version="1.0"?>`):], "image/svg+xml", ""},
		{"PNG", "logo.svg", drawn(func(b *bytes.Buffer) error { return png.Encode(b, picture) }), "image/png", ""},
		{"JPEG", "logo", drawn(func(b *bytes.Buffer) error { return jpeg.Encode(b, picture, nil) }), "image/jpeg", ""},
		{"GIF", "logo", drawn(func(b *bytes.Buffer) error { return gif.Encode(b, picture, nil) }), "image/gif", ""},
		{"WebP", "logo", "RIFF\x24\x00\x00\x00WEBPVP8 \x18\x00\x00\x00", "image/webp", ""},
		{"HTML", "logo.svg", "<html><body>no</body></html>", "", "the root element is html"},
		{"SVG without its namespace", "logo.svg", "<svg></svg>", "", "xmlns"},
		{"SVG that ends too early", "logo.svg", svg[:len(svg)-6], "", "it is no SVG"},
		{"SVG in another encoding", "logo.svg", `<?xml version="1.0" encoding="iso-8859-1"?>` + svg, "", "write it in UTF-8"},
		{"text", "logo.svg", "a logo", "", "it is no SVG"},
		{"nothing", "logo.svg", "", "", "it is no SVG"},
		{"too large", "logo.svg", svg + strings.Repeat(" ", 256<<10), "", "larger than 256 KiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := write(t, row.file, row.content)
			b, err := NewBrand(BrandConfig{LogoFile: file})
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) || !strings.HasPrefix(err.Error(), "logo: "+file) {
					t.Errorf("error %v, want %s", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a := pending()
			a.Brand = b
			w := httptest.NewRecorder()
			if err := a.Write(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), http.StatusOK, HTML); err != nil {
				t.Fatal(err)
			}
			want := `<img src="data:` + row.media + ";base64," + base64.StdEncoding.EncodeToString([]byte(row.content)) + `" alt="">`
			if !strings.Contains(strings.ReplaceAll(w.Body.String(), "&#43;", "+"), want) {
				t.Errorf("the page has no %.60s", want)
			}
			if policy := w.Header().Get("Content-Security-Policy"); !strings.Contains(policy, "; img-src data:; ") {
				t.Errorf("policy %s", policy)
			}
		})
	}
	if policy := ours.policy("N"); strings.Contains(policy, "img-src") {
		t.Errorf("policy without a logo: %s", policy)
	}
	if _, err := NewBrand(BrandConfig{LogoFile: filepath.Join(t.TempDir(), "none.svg")}); err == nil || !os.IsNotExist(unwrapped(err)) {
		t.Errorf("no file: %v", err)
	}
}

func unwrapped(err error) error {
	for {
		inner, ok := err.(interface{ Unwrap() error })
		if !ok || os.IsNotExist(err) {
			return err
		}
		err = inner.Unwrap()
	}
}

// theirs is a small template as an operator could write it.
const theirs = `<!DOCTYPE html>
<html lang="{{.Language}}" dir="{{.Direction}}">
<title>{{.Title}}</title>
<style nonce="{{.Nonce}}">{{.Style}} h1 { color: red }</style>
<main {{.Attributes}}>
<h1>{{.Name}} at {{.Site}}</h1>
{{if .UserCode}}
{{.QR}} {{.VerificationURI}} <b>{{.UserCode}}</b> <i data-countdown="{{.Pattern "countdown"}}">{{.Say "countdown"}}</i>
<form method="post" action="{{.LoginPath}}"><input type="hidden" name="to" value="{{.To}}"><button>{{.Say "new_code"}}</button></form>
{{else if .User}}
{{.User}}
<form method="post" action="{{.ConfirmPath}}"><input type="hidden" name="to" value="{{.To}}"><button>yes</button></form>
<form method="post" action="{{.LogoutPath}}"><button>no</button></form>
{{else}}
<p>{{.Text}} {{.Next}}</p>
{{with .Button}}<form method="post" action="{{$.LoginPath}}"><button>{{.}}</button></form>{{end}}
{{end}}
</main>
<script nonce="{{.Nonce}}">{{.Script}}</script>
`

func TestTemplate(t *testing.T) {
	changed := func(old, with string) string {
		if !strings.Contains(theirs, old) {
			t.Fatalf("the template has no %s", old)
		}
		return strings.ReplaceAll(theirs, old, with)
	}
	const script = `<script nonce="{{.Nonce}}">{{.Script}}</script>`
	for _, row := range []struct{ name, content, err string }{
		{"good", theirs, ""},
		{"ours", pageHTML, ""},
		{"without a script", changed(script, `<noscript><meta http-equiv="refresh" content="{{.Refresh}}"></noscript>`), ""},
		{"that does not go on", changed(script, ""), "it would never go on"},
		{"whose main says nothing", changed(" {{.Attributes}}", ""), "it would never go on"},
		{"that is broken", changed("{{else if .User}}", "{{else if"), "page.html:"},
		{"with a field that is not there", changed("{{.QR}}", "{{.QRCode}}"), "QRCode"},
		{"with a field that is not there, in a rare place", changed("{{.Text}}", "{{.Reason}}"), "Reason"},
		{"with a field that is not ours to give", changed("{{.QR}}", "{{.Login.Session}}"), "Login"},
		{"with a sentence that is not there", changed(`.Say "new_code"`, `.Say "new_cod"`), `there is no sentence "new_cod"`},
		{"without the code", changed("{{.UserCode}}</b>", "</b>"), "showing a code: it does not show the code: put {{.UserCode}} into it"},
		{"without the address", changed("{{.VerificationURI}}", ""), "{{.VerificationURI}}"},
		{"without the host", changed(" at {{.Site}}", ""), "{{.Site}}"},
		{"without a form for a new code", changed(`action="{{.LoginPath}}"`, ""), "{{.LoginPath}}"},
		{"without the field to", changed(`name="to"`, `name="go"`), "field to"},
		{"without a form to confirm", changed(`{{.ConfirmPath}}`, "/"), "{{.ConfirmPath}}"},
		{"without a form to sign out", changed(`{{.LogoutPath}}`, "/"), "{{.LogoutPath}}"},
		{"without a button", changed(`{{$.LoginPath}}`, "/"), "showing denied: it has no form for a new code"},
		{"with a style that is not heeded", changed(`<style nonce="{{.Nonce}}">`, "<style>"), "<style> is not heeded by a browser"},
		{"with a script that is not heeded", changed("<title>", "<script src=x></script><title>"), "is not heeded by a browser"},
		{"with a style attribute", changed("<p>", `<p style="color: red">`), "an attribute style is not heeded"},
		{"with an event attribute", changed("<button>no", `<button onclick="alert(1)">no`), "an attribute onclick is not heeded"},
		{"that is too large", theirs + strings.Repeat(" ", 256<<10), "larger than 256 KiB"},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := write(t, "page.html", row.content)
			b, err := NewBrand(BrandConfig{Title: "Lobby display", TemplateFile: file})
			if row.err != "" {
				if err == nil || !strings.Contains(err.Error(), row.err) || !strings.HasPrefix(err.Error(), "template: "+file) {
					t.Errorf("error %v, want %s", err, row.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a := pending()
			a.Brand = b
			html, err := a.html("N")
			if err != nil || !strings.Contains(string(html), "WDJB-MJHT") || !strings.Contains(string(html), "Lobby display") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestTemplateIsUsed: a brand's template makes the page, and what comes from
// outside is escaped in it.
func TestTemplateIsUsed(t *testing.T) {
	b, err := NewBrand(BrandConfig{TemplateFile: write(t, "page.html", theirs)})
	if err != nil {
		t.Fatal(err)
	}
	page := func(h string) string {
		return show(t, func() *Answer {
			a := spoil(pending(), h)
			a.Brand = b
			return a
		})
	}
	clean := page("x")
	if !strings.Contains(clean, "h1 { color: red }") {
		t.Error("the page is not theirs")
	}
	for _, h := range hostile {
		if got, want := marks(page(h)), marks(clean); got != want {
			t.Errorf("%q: %d tags and attributes, want %d", h, got, want)
		}
	}
}

// TestContrast: what we write can be read, also on a screen that is dimmed.
func TestContrast(t *testing.T) {
	found := regexp.MustCompile(`\[data-dim\]::after \{[^}]*background: #000; opacity: (\.\d+);`).FindStringSubmatch(pageCSS)
	if found == nil {
		t.Fatal("nothing is said about a dimmed screen")
	}
	share, err := strconv.ParseFloat(found[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	for name, chosen := range map[string]theme{"dark": dark, "light": light, "dark, stark": darkStark, "light, stark": lightStark} {
		p := chosen.palette()
		for _, row := range []struct {
			what  string
			a, b  colour
			least float64
		}{
			{"text", p.Text, p.Background, 7},
			{"quiet text", p.Quiet, p.Background, 7},
			{"addresses", p.Accent, p.Background, 7},
			{"a button", p.Text, p.Surface, 7},
			{"a button's edge", p.Line, p.Background, visible},
			{"text, dimmed", p.Text.towards(colour{}, share), p.Background.towards(colour{}, share), readable},
			{"quiet text, dimmed", p.Quiet.towards(colour{}, share), p.Background.towards(colour{}, share), readable},
			{"addresses, dimmed", p.Accent.towards(colour{}, share), p.Background.towards(colour{}, share), readable},
			{"a button, dimmed", p.Text.towards(colour{}, share), p.Surface.towards(colour{}, share), readable},
		} {
			if got := contrast(row.a, row.b); got < row.least {
				t.Errorf("%s: %s has %.2f:1, want %.1f:1", name, row.what, got, row.least)
			}
		}
	}
	for _, row := range []struct {
		a, b string
		want float64
	}{{"#000", "#fff", 21}, {"#fff", "#000", 21}, {"#777777", "#fff", 4.48}, {"#123456", "#123456", 1}} {
		a, _ := parseColour(row.a)
		b, _ := parseColour(row.b)
		if got := contrast(a, b); got < row.want-0.005 || got > row.want+0.005 {
			t.Errorf("%s on %s: %.3f, want %.2f", row.a, row.b, got, row.want)
		}
	}
}

// TestPalette: the other colours are readable whatever is configured.
func TestPalette(t *testing.T) {
	for _, c := range []BrandConfig{{Background: "#fff", Text: "#767676"}, {Background: "#000", Text: "#777"}, {Background: "#123", Text: "#eee"}, {Background: "#888", Text: "#000", Accent: "#000"}} {
		chosen, err := c.colours(light)
		if err != nil {
			t.Fatal(err)
		}
		p := chosen.palette()
		if contrast(p.Quiet, p.Background) < readable || contrast(p.Text, p.Surface) < readable || contrast(p.Line, p.Background) < visible {
			t.Errorf("%+v: %v", c, p)
		}
	}
}

func TestBrandChoose(t *testing.T) {
	if l := (*Brand)(nil).Choose([]string{"en"}); l != english {
		t.Errorf("without a brand: %v", l)
	}
	b, err := NewBrand(BrandConfig{Languages: []string{"en"}})
	if err != nil {
		t.Fatal(err)
	}
	if l := b.Choose([]string{"de"}); l != english {
		t.Errorf("with one language: %v", l)
	}
}
