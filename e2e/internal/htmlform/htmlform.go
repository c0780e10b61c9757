// Package htmlform finds in an HTML page what a person acts on: the forms with
// their buttons, links, and the refresh that a browser follows by itself.
package htmlform

import (
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/html"
)

// Page is one parsed page; addresses in it are resolved against its own.
type Page struct {
	URL   *url.URL
	Title string
	Text  string // what a person reads, white space collapsed
	Forms []*Form
	Links []Link

	// Refresh is nil where the page has no <meta http-equiv="refresh">.
	Refresh *Refresh
}

// Form is one form, with the fields and buttons that name it by `form=` from
// elsewhere in the page.
type Form struct {
	ID      string
	Method  string // GET or POST
	Action  *url.URL
	Fields  []Field
	Buttons []Button
}

// Field is one input as the page came.
type Field struct{ Name, Type, Value string }

// Button is one that submits; Name is empty where it adds nothing to the form.
type Button struct{ Name, Value, Label string }

// Link is one <a href>.
type Link struct {
	URL   *url.URL
	Label string
}

// Refresh is what the meta element asks for.
type Refresh struct {
	URL   *url.URL
	After time.Duration
}

// Parse reads a page that came from the address at.
func Parse(at *url.URL, body string) (*Page, error) {
	// Without scripting, so that what stands in <noscript> is read as elements:
	// nothing here runs scripts.
	root, err := html.ParseWithOptions(strings.NewReader(body), html.ParseOptionEnableScripting(false))
	if err != nil {
		return nil, fmt.Errorf("parsing the page of %s: %w", at.Path, err)
	}
	p := &Page{URL: at}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "form" {
			p.Forms = append(p.Forms, p.form(n))
		}
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			p.element(n)
		}
	}
	p.Text = textOf(root)
	return p, nil
}

func (p *Page) form(n *html.Node) *Form {
	method := strings.ToUpper(attr(n, "method"))
	if method != "POST" {
		method = "GET"
	}
	return &Form{ID: attr(n, "id"), Method: method, Action: p.resolve(attr(n, "action"))}
}

func (p *Page) element(n *html.Node) {
	switch n.Data {
	case "title":
		p.Title = textOf(n)
	case "a":
		p.Links = append(p.Links, Link{URL: p.resolve(attr(n, "href")), Label: textOf(n)})
	case "meta":
		p.meta(n)
	case "button":
		p.button(n, textOf(n))
	case "input":
		if t := attr(n, "type"); t == "submit" || t == "image" {
			p.button(n, attr(n, "value"))
			return
		}
		p.field(n, attr(n, "value"))
	case "textarea":
		p.field(n, textOf(n))
	}
}

func (p *Page) button(n *html.Node, label string) {
	t := attr(n, "type")
	if f := p.owner(n); f != nil && t != "button" && t != "reset" {
		f.Buttons = append(f.Buttons, Button{Name: attr(n, "name"), Value: attr(n, "value"), Label: label})
	}
}

func (p *Page) field(n *html.Node, value string) {
	f, t := p.owner(n), attr(n, "type")
	if f == nil || attr(n, "name") == "" || t == "button" || t == "reset" {
		return
	}
	if (t == "checkbox" || t == "radio") && !has(n, "checked") {
		return
	}
	f.Fields = append(f.Fields, Field{Name: attr(n, "name"), Type: t, Value: value})
}

var refreshContent = regexp.MustCompile(`(?i)^\s*(\d+)(?:\.\d*)?\s*(?:[;,]\s*(?:url\s*=\s*)?['"]?([^'"]*)['"]?)?\s*$`)

func (p *Page) meta(n *html.Node) {
	if !strings.EqualFold(attr(n, "http-equiv"), "refresh") || p.Refresh != nil {
		return
	}
	m := refreshContent.FindStringSubmatch(attr(n, "content"))
	if m == nil {
		return
	}
	seconds, err := strconv.Atoi(m[1])
	if err != nil {
		return
	}
	p.Refresh = &Refresh{URL: p.resolve(strings.TrimSpace(m[2])), After: time.Duration(seconds) * time.Second}
}

// owner is the form that an element belongs to: the one it names, else the one
// it stands in.
func (p *Page) owner(n *html.Node) *Form {
	if id := attr(n, "form"); id != "" {
		for _, f := range p.Forms {
			if f.ID == id {
				return f
			}
		}
		return nil
	}
	for a := range n.Ancestors() {
		if a.Type == html.ElementNode && a.Data == "form" {
			return p.formAt(a)
		}
	}
	return nil
}

// formAt finds the form made from a node by its place among all forms.
func (p *Page) formAt(node *html.Node) *Form {
	root := node
	for root.Parent != nil {
		root = root.Parent
	}
	i := 0
	for n := range root.Descendants() {
		if n == node {
			return p.Forms[i]
		}
		if n.Type == html.ElementNode && n.Data == "form" {
			i++
		}
	}
	return nil
}

// resolve reads an address as a browser would: an empty or broken one is the
// page's own.
func (p *Page) resolve(ref string) *url.URL {
	u, err := p.URL.Parse(ref)
	if err != nil || ref == "" {
		own := *p.URL
		own.Fragment = ""
		return &own
	}
	return u
}

// Has tells whether the form has a field of that type.
func (f *Form) Has(fieldType string) bool {
	for _, field := range f.Fields {
		if field.Type == fieldType {
			return true
		}
	}
	return false
}

// Values are what the form sends when the button is pressed; a nil button adds
// nothing.
func (f *Form) Values(pressed *Button) url.Values {
	v := url.Values{}
	for _, field := range f.Fields {
		v.Add(field.Name, field.Value)
	}
	if pressed != nil && pressed.Name != "" {
		v.Add(pressed.Name, pressed.Value)
	}
	return v
}

func attr(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func has(n *html.Node, key string) bool {
	for _, a := range n.Attr {
		if a.Key == key {
			return true
		}
	}
	return false
}

func textOf(root *html.Node) string {
	var b strings.Builder
	for n := range root.Descendants() {
		if n.Type != html.TextNode || n.Parent != nil && (n.Parent.Data == "script" || n.Parent.Data == "style") {
			continue
		}
		b.WriteString(n.Data)
		b.WriteByte(' ')
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
