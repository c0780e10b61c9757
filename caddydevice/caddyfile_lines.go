// This file holds how the Caddyfile's blocks are read: tables of lines, and
// the mistakes that any line can have.

package caddydevice

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// block is what a block may hold.
type block[T any] struct {
	title string // as messages name it
	lines map[string]line[T]
	moved map[string]string // where a line belongs instead
}

// line is one subdirective.
type line[T any] struct {
	usage    string // how it is written
	min, max int    // how many arguments it has; max -1 for any number
	block    bool   // whether it has a block, else it has none
	many     bool   // whether it may be there several times
	secret   bool   // whether messages must not print arguments
	request  bool   // whether it may hold placeholders of the request
	raw      bool   // whether parse reads the arguments itself
	parse    func(input, T) error
}

// input is a line as parse gets it.
type input struct {
	*caddyfile.Dispenser
	name string
	args []string
}

// homes are the titles of the blocks that have a line, for those who wrote it
// into another. It is filled once the tables are there, which need it.
var homes = map[string][]string{}

func (b *block[T]) register() {
	for name := range b.lines {
		homes[name] = append(homes[name], b.title)
	}
}

// parse reads a block, line by line. A line that is not in the table is a
// mistake, and so is one that is there twice.
func (b *block[T]) parse(d *caddyfile.Dispenser, into T) error {
	seen := map[string]bool{}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		l, ok := b.lines[name]
		if !ok {
			return d.Errf("%s: %s", b.title, b.unknown(name))
		}
		if seen[name] && !l.many {
			return d.Errf("%s: %s is there twice: keep one", b.title, name)
		}
		seen[name] = true
		if err := l.read(d, into); err != nil {
			return err
		}
	}
	return nil
}

// unknown says what to do about a line that is not in the table.
func (b *block[T]) unknown(name string) string {
	names := slices.Sorted(maps.Keys(b.lines))
	switch {
	case b.moved[name] != "":
		return fmt.Sprintf("%s %s", name, b.moved[name])
	case name == "{":
		return "unexpected {: it belongs to the end of the line before"
	case homes[name] != nil:
		return fmt.Sprintf("unrecognized subdirective %q: it is a line of %s: move it there", name, strings.Join(homes[name], ", or of "))
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("unrecognized subdirective %q: did you mean %s?", name, near)
	}
	return fmt.Sprintf("unrecognized subdirective %q: it can hold %s", name, strings.Join(names, ", "))
}

// read checks what any line can be wrong about, and has it parsed.
func (l line[T]) read(d *caddyfile.Dispenser, into T) error {
	in := input{Dispenser: d, name: d.Val()}
	if l.raw {
		return l.parse(in, into)
	}
	in.args = d.RemainingArgs()
	opens := opensBlock(d)
	switch {
	case len(in.args) < l.min || slices.Contains(in.args, ""):
		return d.Errf("%s needs %s: write it like `%s` (where it has {$NAME}, that variable is empty)", in.name, l.values(), l.usage)
	case l.max >= 0 && len(in.args) > l.max:
		return d.Errf("%s has too many arguments: write it like `%s`%s", in.name, l.usage, l.quotes())
	case opens && !l.block:
		return d.Errf("%s takes no block: write it like `%s`", in.name, l.usage)
	case !opens && l.block:
		return d.Errf("%s needs a block, which begins on the same line: write it like `%s`", in.name, l.usage)
	}
	if l.request {
		expandShorthands(in.args)
	}
	if err := l.checkPlaceholders(in); err != nil {
		return err
	}
	return l.parse(in, into)
}

func (l line[T]) values() string {
	if l.min > 1 {
		return fmt.Sprintf("%d values", l.min)
	}
	return "a value"
}

func (l line[T]) quotes() string {
	if l.max == 0 || l.block {
		return ""
	}
	return ", with quotes round a value that has blanks"
}

func (l line[T]) checkPlaceholders(in input) error {
	allowed := []string{"env", "file"}
	if l.request {
		allowed = append(allowed, "http")
	}
	for _, arg := range in.args {
		switch err := checkPlaceholders(arg, allowed...); {
		case err != nil && l.secret:
			return in.Errf(`%s: what is in braces is neither {env.NAME} nor {file./path}: write \{ where a brace is meant`, in.name)
		case err != nil && l.request:
			return in.Errf("%s: %w; here those of the request serve too, like {http.request.host}", in.name, err)
		case err != nil:
			return in.Errf("%s: %w", in.name, err)
		}
	}
	return nil
}

// opensBlock reports whether a block begins behind the arguments.
func opensBlock(d *caddyfile.Dispenser) bool {
	line := d.Line()
	if !d.Next() {
		return false
	}
	defer d.Prev()
	return d.Val() == "{" && d.Line() == line && !d.Token().Quoted()
}

// lift makes a line of a block into one of a block around it.
func lift[Outer, Inner any](l line[Inner], inner func(Outer) Inner) line[Outer] {
	return line[Outer]{
		usage: l.usage, min: l.min, max: l.max, block: l.block, many: l.many, secret: l.secret, request: l.request, raw: l.raw,
		parse: func(in input, o Outer) error { return l.parse(in, inner(o)) },
	}
}
