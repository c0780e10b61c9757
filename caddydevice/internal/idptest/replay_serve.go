// This file holds how a replay is asked: what a request says, where it belongs
// to, and the list of all that were answered.

package idptest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"
	"unicode"
)

// Request is one request to a replay.
type Request struct {
	*http.Request
	At Endpoint
	// Form are its parameters, those of JSON too.
	Form url.Values
	// Media is the media type of its body, without parameters.
	Media string
	// User and Pass are those of Basic, as they arrived.
	User, Pass string
	Basic      bool
	When       time.Time
}

// Exchange is a request and what it was answered.
type Exchange struct {
	Request
	Status int
	// Word is the error of the answer, in whatever member it is; "" for none.
	Word string
	// End is when the answer went out.
	End time.Time
}

// String is one line for the log of a test.
func (e Exchange) String() string {
	line := fmt.Sprintf("%s %s: %d", e.Method, e.At, e.Status)
	if e.Word != "" {
		line += " " + e.Word
	}
	return line
}

// Exchanges are those of an endpoint so far; "" stands for all.
func (r *Replay) Exchanges(at Endpoint) []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	var some []Exchange
	for _, e := range r.exchanges {
		if at == "" || e.At == at {
			some = append(some, e)
		}
	}
	return some
}

// Story tells what was replayed, one line an item.
func (r *Replay) Story() []string {
	var lines []string
	var last string
	times := 0
	for _, e := range r.Exchanges("") {
		if line := e.String(); line != last {
			last, times = line, 0
			lines = append(lines, "")
		}
		times++
		lines[len(lines)-1] = fmt.Sprintf("%s: %s (%d×)", r.Name, last, times)
	}
	return lines
}

// Script gives the next answers of an endpoint. One without a status is the
// usual answer, after its Delay.
func (r *Replay) Script(at Endpoint, replies ...Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scripts == nil {
		r.scripts = map[Endpoint][]Reply{}
	}
	r.scripts[at] = append(r.scripts[at], replies...)
}

// RoundTrip implements http.RoundTripper.
func (r *Replay) RoundTrip(req *http.Request) (*http.Response, error) {
	if trace := httptrace.ContextClientTrace(req.Context()); trace != nil && trace.GotConn != nil {
		trace.GotConn(httptrace.GotConnInfo{})
	}
	q, err := r.read(req)
	if err != nil {
		return nil, err
	}
	reply := r.reply(q)
	if reply.Delay > 0 {
		select {
		case <-time.After(reply.Delay):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
	r.note(q, reply)
	if reply.Err != nil {
		return nil, reply.Err
	}
	return &http.Response{
		Status: http.StatusText(reply.Status), StatusCode: reply.Status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: maps.Clone(reply.Header), Body: io.NopCloser(strings.NewReader(reply.Body)), ContentLength: int64(len(reply.Body)), Request: req,
	}, nil
}

func (r *Replay) note(q *Request, reply Reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.exchanges = append(r.exchanges, Exchange{Request: *q, Status: reply.Status, Word: errorOf(reply.Body), End: time.Now()})
}

// errorOf finds the word of an error answer: also in an envelope, or under
// another name.
func errorOf(body string) string {
	var members map[string]any
	if json.Unmarshal([]byte(body), &members) != nil {
		return ""
	}
	if inner, ok := members["value"].(map[string]any); ok {
		members = inner
	}
	for _, name := range []string{"error", "errorCode", "error_code"} {
		if word, ok := members[name].(string); ok && word != "" {
			return word
		}
	}
	return ""
}

// read takes a request apart.
func (r *Replay) read(req *http.Request) (*Request, error) {
	q := &Request{Request: req, Form: url.Values{}, When: time.Now()}
	q.User, q.Pass, q.Basic = req.BasicAuth()
	q.Media, _, _ = strings.Cut(req.Header.Get("Content-Type"), ";")
	var body []byte
	if req.Body != nil {
		var err error
		if body, err = io.ReadAll(req.Body); err != nil {
			return nil, err
		}
	}
	q.Form = r.parameters(q.Media, body)
	q.At = r.endpointOf(q)
	return q, nil
}

func (r *Replay) parameters(media string, body []byte) url.Values {
	form := url.Values{}
	if media != "application/json" {
		form, _ = url.ParseQuery(string(body))
	} else {
		var members map[string]any
		_ = json.Unmarshal(body, &members) // what cannot be read has no members
		for name, value := range members {
			form.Set(name, fmt.Sprint(value))
		}
	}
	if !r.CamelCase {
		return form
	}
	snake := url.Values{}
	for name, values := range form {
		snake[snakeCase(name)] = values
	}
	return snake
}

// snakeCase writes deviceCode as device_code.
func snakeCase(name string) string {
	var b strings.Builder
	for _, c := range name {
		if unicode.IsUpper(c) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// endpointOf says what a request is about, by its address.
func (r *Replay) endpointOf(q *Request) Endpoint {
	address := *q.URL
	address.RawQuery = ""
	for _, e := range []struct {
		url string
		at  Endpoint
	}{
		{r.Document.URL, Discovery},
		{r.Where.Keys, Keys},
		{r.Where.Device, DeviceCode},
		{r.Where.UserInfo, UserInfo},
		{r.Where.Revocation, Revocation},
	} {
		if e.url != "" && e.url == address.String() {
			return e.at
		}
	}
	switch {
	case r.Where.Token == "" || r.Where.Token != address.String():
		return Elsewhere
	case q.Form.Get("grant_type") == "refresh_token":
		return Refresh
	}
	return Poll
}

// methodOf is the one method that an endpoint knows.
func (r *Replay) methodOf(at Endpoint) string {
	switch at {
	case Discovery, Keys, UserInfo:
		return http.MethodGet
	case Revocation:
		if r.RevokeBy != "" {
			return r.RevokeBy
		}
	case DeviceCode, Poll, Refresh, Elsewhere:
	}
	return http.MethodPost
}

// reply decides on an answer.
func (r *Replay) reply(q *Request) Reply {
	r.mu.Lock()
	defer r.mu.Unlock()
	var delay time.Duration
	if next := r.scripts[q.At]; len(next) > 0 {
		r.scripts[q.At] = next[1:]
		if next[0].Status != 0 || next[0].Err != nil {
			return next[0]
		}
		delay = next[0].Delay
	}
	reply := r.answer(q)
	reply.Delay = delay
	return reply
}

func (r *Replay) answer(q *Request) Reply {
	if q.At == Elsewhere {
		return Reply{Status: http.StatusNotFound, Body: "<html><body>Not Found</body></html>", Header: http.Header{"Content-Type": {"text/html"}}}
	}
	if q.Method != r.methodOf(q.At) {
		return Reply{Status: http.StatusMethodNotAllowed}
	}
	for _, refusal := range r.Refusals {
		if refusal.At == q.At && refusal.If(r, q) {
			return refusal.With
		}
	}
	if reply := r.authenticate(q); reply != nil {
		return *reply
	}
	return map[Endpoint]func(*Request) Reply{
		Discovery:  func(*Request) Reply { return Raw(http.StatusOK, r.expand(r.Document.Body, nil)) },
		Keys:       func(*Request) Reply { return r.keySet() },
		DeviceCode: r.authorize,
		Poll:       r.poll,
		Refresh:    r.refresh,
		Revocation: r.revoke,
		UserInfo:   r.userInfo,
	}[q.At](q)
}
