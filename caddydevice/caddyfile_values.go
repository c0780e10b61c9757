// This file holds how single values of the Caddyfile are read.

package caddydevice

import (
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// textLine is a line with one value.
func textLine[T any](usage string, field func(T) *string) line[T] {
	return line[T]{usage: usage, min: 1, max: 1, parse: func(in input, into T) error {
		*field(into) = in.args[0]
		return nil
	}}
}

// listLine is a line with any number of values.
func listLine[T any](usage string, field func(T) *[]string) line[T] {
	return line[T]{usage: usage, min: 1, max: -1, parse: func(in input, into T) error {
		*field(into) = in.args
		return nil
	}}
}

// urlLine is a line with an absolute URL; one with a placeholder is checked
// when that is resolved.
func urlLine[T any](usage string, field func(T) *string) line[T] {
	return line[T]{usage: usage, min: 1, max: 1, parse: func(in input, into T) error {
		text := in.args[0]
		*field(into) = text
		if strings.Contains(text, "{") {
			return nil
		}
		if u, err := url.Parse(text); err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			return in.Errf("%s %q is not a URL: it must start with https:// and a host, like `%s`", in.name, text, usage)
		}
		return nil
	}}
}

// choiceLine is a line with one of a few words.
func choiceLine[T any](usage string, words []string, field func(T) *string) line[T] {
	return line[T]{usage: usage, min: 1, max: 1, parse: func(in input, into T) error {
		if !slices.Contains(words, in.args[0]) {
			return in.Errf("%s %q is none of %s", in.name, in.args[0], strings.Join(words, ", "))
		}
		*field(into) = in.args[0]
		return nil
	}}
}

func durationLine[T any](usage string, field func(T) *caddy.Duration) line[T] {
	return line[T]{usage: usage, min: 1, max: 1, parse: func(in input, into T) error {
		dur, err := caddy.ParseDuration(in.args[0])
		if err != nil || dur <= 0 {
			return in.Errf("%s %q is not a positive duration, like 90s, 10m, 12h or 30d%s", in.name, in.args[0], notLater(in.args))
		}
		*field(into) = caddy.Duration(dur)
		return nil
	}}
}

// rateLine is a line with a number and a time: starts 10 1m.
func rateLine[T any](usage string, field func(T) **Rate) line[T] {
	return line[T]{usage: usage, min: 2, max: 2, parse: func(in input, into T) error {
		count, err := strconv.Atoi(in.args[0])
		per, err2 := caddy.ParseDuration(in.args[1])
		rate := &Rate{Count: count, Per: caddy.Duration(per)}
		if err != nil || err2 != nil || rate.check() != nil {
			return in.Errf("%s %s: must be a number between 1 and %d and a positive time, like `%s`%s",
				in.name, strings.Join(in.args, " "), maxCount, usage, notLater(in.args))
		}
		*field(into) = rate
		return nil
	}}
}

func countLine[T any](usage string, field func(T) *int) line[T] {
	return line[T]{usage: usage, min: 1, max: 1, parse: func(in input, into T) error {
		n, err := strconv.Atoi(in.args[0])
		if err != nil || n < 1 {
			return in.Errf("%s %q is not a number of at least 1%s", in.name, in.args[0], notLater(in.args))
		}
		*field(into) = n
		return nil
	}}
}

// notLater is for numbers, which placeholders come too late for.
func notLater(args []string) string {
	if !strings.Contains(strings.Join(args, " "), "{") {
		return ""
	}
	return "; a number cannot wait for a placeholder: {$NAME} is replaced in time"
}
