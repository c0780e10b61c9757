// This file holds what an operator makes of the page: name, logo, colours,
// languages, or a whole template.

package page

import (
	"bytes"
	"cmp"
	_ "embed" // the style sheet
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	texttemplate "text/template"
	"unicode"
	"unicode/utf8"
)

// BrandConfig is how a page is to look. What is left out is ours.
type BrandConfig struct {
	// Title is what is signed in to, by name: at most 80 characters that can be
	// printed. The host stays on the page beside it.
	Title string
	// LogoFile is a picture of at most 256 KiB: SVG, PNG, JPEG, WebP or GIF, by
	// what is in it.
	LogoFile string
	// TemplateFile is an html/template of at most 256 KiB, executed on Data, in
	// place of our page.
	TemplateFile string
	// Theme is dark, light, or auto (the default): what the person's browser
	// prefers, dark where it says nothing.
	Theme string
	// Background, Text and Accent (addresses, and the button to press) are
	// colours, #rgb or #rrggbb. Text and accent need a contrast of 4.5:1 on the
	// background. A background decides between dark and light by itself.
	Background, Text, Accent string
	// Languages are the tags of those to choose among (BCP 47), the first for
	// those who ask for none of them. Default: all there are, English first.
	Languages []string
}

const (
	maxTitle = 80
	maxFile  = 256 << 10
)

// Brand is how pages look; a nil one is ours. It is safe for concurrent use.
type Brand struct {
	title     string
	logo      template.URL
	scheme    string
	style     template.CSS
	languages *Languages
	template  *template.Template // nil: ours
}

var ours = mustBrand()

func mustBrand() *Brand {
	b, err := BrandConfig{}.plain()
	if err != nil {
		panic(err) // part of this program
	}
	return b
}

func (b *Brand) orOurs() *Brand {
	if b == nil {
		return ours
	}
	return b
}

// NewBrand reads the files and checks everything, the template by executing it
// on an answer of each kind. Its errors name the key, and say what to do.
func NewBrand(c BrandConfig) (*Brand, error) {
	b, err := c.plain()
	if err != nil {
		return nil, err
	}
	if c.LogoFile != "" {
		if b.logo, err = readLogo(c.LogoFile); err != nil {
			return nil, fmt.Errorf("logo: %s: %w", c.LogoFile, err)
		}
	}
	if c.TemplateFile != "" {
		if b.template, err = b.readTemplate(c.TemplateFile); err != nil {
			return nil, fmt.Errorf("template: %s: %w", c.TemplateFile, err)
		}
	}
	return b, nil
}

// plain is the brand without what is in files.
func (c BrandConfig) plain() (*Brand, error) {
	b := &Brand{title: c.Title}
	err := checkTitle(c.Title)
	if err != nil {
		return nil, fmt.Errorf("title: %w", err)
	}
	if b.scheme, b.style, err = c.look(); err != nil {
		return nil, err
	}
	if b.languages, err = NewLanguages(c.Languages...); err != nil {
		return nil, fmt.Errorf("languages: %w", err)
	}
	return b, nil
}

// Choose returns the language that the Accept-Language header fields ask for,
// of those that the brand has.
func (b *Brand) Choose(accept []string) *Language { return b.orOurs().languages.Choose(accept) }

// policy lets a page run its own inline style and script, talk to its own
// origin, show the logo that stands in it, and nothing else.
func (b *Brand) policy(nonce string) string {
	policy := fmt.Sprintf("default-src 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'; connect-src 'self'; ", nonce, nonce)
	if b.logo != "" {
		policy += "img-src data:; "
	}
	return policy + "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

func checkTitle(title string) error {
	if n := utf8.RuneCountInString(title); n > maxTitle {
		return fmt.Errorf("it has %d characters; make it at most %d", n, maxTitle)
	}
	for _, r := range title {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return fmt.Errorf("%q has a character that cannot be printed: take it out", title)
		}
	}
	return nil
}

//go:embed page.css
var pageCSS string

var (
	// cssForReaders is what only readers of the source need.
	cssForReaders = regexp.MustCompile(`/\*(?s:.*?)\*/|(?m)^\s+`)
	styleTemplate = texttemplate.Must(texttemplate.New("page.css").Parse(cssForReaders.ReplaceAllString(pageCSS, "")))
)

// styles is what the style sheet is made of. The second theme of each pair is
// for who prefers light, nil where there is no choice.
type styles struct {
	First, FirstStark palette
	Light, LightStark *palette
	Places            []position
}

// look is the colour schemes that the page has, and its style sheet.
func (c BrandConfig) look() (scheme string, style template.CSS, err error) {
	schemes, err := c.schemes()
	if err != nil {
		return "", "", err
	}
	s := styles{Places: positions}
	for i, name := range schemes {
		chosen, err := c.colours(themes[name])
		if err == nil {
			err = chosen.check()
		}
		if err != nil {
			return "", "", fmt.Errorf("theme %s: %w", name, err)
		}
		usual, stark := chosen.palette(), starkThemes[name].palette()
		if i == 0 {
			s.First, s.FirstStark = usual, stark
		} else {
			s.Light, s.LightStark = &usual, &stark
		}
	}
	var b strings.Builder
	if err := styleTemplate.Execute(&b, s); err != nil {
		return "", "", fmt.Errorf("making the style sheet: %w", err)
	}
	return strings.Join(schemes, " "), template.CSS(b.String()), nil //nolint:gosec // ours, and colours that were parsed
}

var (
	themes      = map[string]theme{"dark": dark, "light": light}
	starkThemes = map[string]theme{"dark": darkStark, "light": lightStark}
)

// schemes are the themes that the page can have, the usual one first.
func (c BrandConfig) schemes() ([]string, error) {
	switch name := cmp.Or(c.Theme, "auto"); {
	case name != "auto" && name != "dark" && name != "light":
		return nil, fmt.Errorf("theme: there is no %q; write auto, dark or light", c.Theme)
	case name != "auto":
		return []string{name}, nil
	}
	if c.Background == "" {
		return []string{"dark", "light"}, nil
	}
	background, err := parseColour(c.Background)
	if err != nil {
		return nil, fmt.Errorf("background: %w", err)
	}
	if contrast(background, darkStark.text) > contrast(background, lightStark.text) {
		return []string{"dark"}, nil
	}
	return []string{"light"}, nil
}

// colours puts those that were configured into a theme.
func (c BrandConfig) colours(t theme) (theme, error) {
	for _, row := range []struct {
		name, text string
		into       *colour
	}{{"background", c.Background, &t.background}, {"text", c.Text, &t.text}, {"accent", c.Accent, &t.accent}} {
		if row.text == "" {
			continue
		}
		parsed, err := parseColour(row.text)
		if err != nil {
			return t, fmt.Errorf("%s: %w", row.name, err)
		}
		*row.into = parsed
	}
	return t, nil
}

// readFile reads at most maxFile bytes.
func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxFile {
		return nil, fmt.Errorf("it is larger than %d KiB; make it smaller", maxFile>>10)
	}
	return raw, nil
}

// readLogo returns the picture as an address of its own. An SVG in an img runs
// no script and loads nothing.
func readLogo(name string) (template.URL, error) {
	raw, err := readFile(name)
	if err != nil {
		return "", err
	}
	media := http.DetectContentType(raw)
	switch media {
	case "image/png", "image/jpeg", "image/webp", "image/gif":
	default:
		if err := checkSVG(raw); err != nil {
			return "", fmt.Errorf("it is no SVG (%w), and no PNG, JPEG, WebP or GIF", err)
		}
		media = "image/svg+xml"
	}
	return template.URL("data:" + media + ";base64," + base64.StdEncoding.EncodeToString(raw)), nil //nolint:gosec // the type is one of five, the rest base64
}

// checkSVG wants a whole XML document whose root is SVG's: a browser shows
// nothing of one that is broken.
func checkSVG(raw []byte) error {
	d := xml.NewDecoder(bytes.NewReader(raw))
	d.CharsetReader = func(string, io.Reader) (io.Reader, error) {
		return nil, errors.New("write it in UTF-8")
	}
	root := false
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) && root {
			return nil
		}
		if err != nil {
			return err
		}
		start, ok := token.(xml.StartElement)
		if ok && !root && start.Name != (xml.Name{Space: "http://www.w3.org/2000/svg", Local: "svg"}) {
			return fmt.Errorf("the root element is %s; SVG's is svg with xmlns=\"http://www.w3.org/2000/svg\"", start.Name.Local)
		}
		root = root || ok
	}
}
