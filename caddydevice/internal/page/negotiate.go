// This file holds content negotiation (RFC 9110 §12.5.1), the same for a first
// and for an expired request.

package page

import (
	"strconv"
	"strings"
)

// Format is how an answer is written.
type Format int

// Text is for terminals and for everybody who does not ask for anything else.
const (
	Text Format = iota
	HTML
	JSON
)

// contentTypes of the formats.
var contentTypes = [...]string{Text: "text/plain; charset=utf-8", HTML: "text/html; charset=utf-8", JSON: "application/json"}

// named are the media types that choose a format. Ranges choose none: curl
// sends */* and wants text, and every browser names text/html.
var named = map[string]Format{"text/html": HTML, "application/xhtml+xml": HTML, "application/json": JSON, "text/plain": Text}

// Negotiate returns the format that the Accept header fields prefer: the named
// type with the highest q-value, the first of those with the same. Without one
// it is text.
func Negotiate(accept []string) Format {
	best, format := 0.0, Text
	for _, field := range accept {
		for part := range strings.SplitSeq(field, ",") {
			media, params, _ := strings.Cut(part, ";")
			f, ok := named[strings.ToLower(strings.TrimSpace(media))]
			if q := quality(params); ok && q > best {
				best, format = q, f
			}
		}
	}
	return format
}

// Names reports whether the Accept header fields name the format, other than
// to refuse it.
func Names(accept []string, format Format) bool {
	for _, field := range accept {
		for part := range strings.SplitSeq(field, ",") {
			media, params, _ := strings.Cut(part, ";")
			if f, ok := named[strings.ToLower(strings.TrimSpace(media))]; ok && f == format && quality(params) > 0 {
				return true
			}
		}
	}
	return false
}

// quality reads the weight (RFC 9110 §12.4.2); 1 where there is none that can
// be read.
func quality(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "q") {
			continue
		}
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil || !(q >= 0 && q <= 1) {
			return 1
		}
		return q
	}
	return 1
}
