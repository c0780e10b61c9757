// This file holds the trailers of a request: those of our names go no further
// than its headers of these names, whether they were announced or not.

package caddydevice

import (
	"io"
	"maps"
	"net/http"
)

// cleanTrailers takes our names off the announced trailers, and off those that
// arrive all the same: net/http adds every trailer of an HTTP/1.1 request when
// its body ends. The others stay.
func (u *upstreamHeaders) cleanTrailers(r *http.Request) {
	if len(u.headers) == 0 {
		return
	}
	filterTokens(r.Header, "Trailer", func(token string) bool { return u.index(token) < 0 })
	u.dropTrailers(r)
	if bringsTrailers(r) {
		r.Body = &trailerBody{ReadCloser: r.Body, request: r, names: u}
	}
}

// dropTrailers changes the map in place: it is the one that net/http fills,
// shared by every shallow copy of the request.
func (u *upstreamHeaders) dropTrailers(r *http.Request) {
	maps.DeleteFunc(r.Trailer, func(name string, _ []string) bool { return u.index(name) >= 0 })
}

// bringsTrailers reports whether trailers may arrive that nobody announced. In
// HTTP/1.1 only a chunked body has any (RFC 9112 §7.1.2); of HTTP/2's net/http
// hands on the announced ones.
func bringsTrailers(r *http.Request) bool {
	switch {
	case r.Body == nil || r.Body == http.NoBody:
		return false
	case r.ProtoMajor < 2:
		return r.ContentLength < 0
	}
	return r.ProtoMajor > 2
}

// trailerBody cleans the trailers in the very read that ends the body: before
// it they are not there, and after it whoever reads the body passes them on.
type trailerBody struct {
	io.ReadCloser
	request *http.Request
	names   *upstreamHeaders
}

func (b *trailerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.names.dropTrailers(b.request)
	}
	return n, err
}
