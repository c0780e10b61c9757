// This file holds the bounded HTTP client for all requests to an identity
// provider, and how its answers are read.

package idp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode"
)

const (
	// maxBody bounds every answer of an identity provider after inflation.
	maxBody = 1 << 20
	// maxHeader bounds the header section of such an answer.
	maxHeader = 64 << 10
	// maxIdlePerHost lets the keeper's workers share warm connections; the
	// standard library keeps two.
	maxIdlePerHost = 32
	// maxWords bounds what of an identity provider's words reaches a log.
	maxWords = 200
)

var errBodyTooLarge = fmt.Errorf("answer is larger than %d bytes", maxBody)

// newHTTPClient returns a client whose every call ends within timeout, body
// included.
func newHTTPClient(timeout time.Duration, transport http.RoundTripper) *http.Client {
	return &http.Client{
		Timeout:       timeout,
		Transport:     boundedTransport{transport},
		CheckRedirect: sameOriginGET,
	}
}

// sameOriginGET refuses what could carry a secret elsewhere, or be led
// elsewhere: a redirect of anything but a GET, or of one with a token, one that
// leaves its origin, and chains of more than three (RFC 9700 §4.12, and SSRF by discovery).
func sameOriginGET(req *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method != http.MethodGet || first.Header.Get("Authorization") != "" || len(via) > 3 ||
		req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// boundedTransport caps the bodies of answers, also for libraries that read
// them to the end.
type boundedTransport struct{ base http.RoundTripper }

func (t boundedTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: maxBody}
	return resp, nil
}

func (t boundedTransport) CloseIdleConnections() {
	if c, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errBodyTooLarge
	}
	// one byte more than allowed tells "exactly at the limit" from "over it"
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= n
	if b.left < 0 {
		return 0, errBodyTooLarge
	}
	return n, err
}

// reply is an answer that was read to its end.
type reply struct {
	status     int
	body       []byte
	retryAfter time.Duration

	asked   time.Time // when the request was begun
	sent    bool      // whether it may have arrived, also where there is no answer
	secrets []string  // what it carried: some servers say it back
}

// secretFields are the fields of our forms that must not reach a log.
var secretFields = []string{"client_secret", "client_assertion", "device_code", "code_verifier", "refresh_token", "token"}

// postForm sends one form with the client's authentication and reads the
// answer. An error means that there was no answer; the reply then only says
// when it was asked for and whether the request may have arrived.
func (c *Client) postForm(ctx context.Context, via *http.Client, md *metadata, endpoint string, form url.Values) (reply, error) {
	send := func(audience string) (reply, error) { return c.post(ctx, via, md, endpoint, form, audience) }
	if c.clientKey == nil {
		return send("")
	}
	return c.postAsserted(send, md)
}

// post is one request of postForm.
func (c *Client) post(ctx context.Context, via *http.Client, md *metadata, endpoint string, form url.Values, audience string) (reply, error) {
	form.Set("client_id", c.cfg.ClientID)
	header := http.Header{"Accept": {"application/json"}}
	rep := reply{asked: time.Now()}
	if err := c.authenticate(md, form, header, audience); err != nil {
		return rep, err
	}
	body, mediaType := c.encode(md, endpoint, form)
	header.Set("Content-Type", mediaType)
	rep.keep(c.cfg.ClientSecret.Reveal(), strings.TrimPrefix(header.Get("Authorization"), "Basic "))
	for _, field := range secretFields {
		rep.keep(form[field]...)
	}
	ctx, sent := traceSent(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(body))
	if err != nil {
		return rep, err
	}
	req.Header = header
	resp, err := via.Do(req)
	if err != nil {
		rep.sent = sent.Load()
		return rep, &noAnswerError{rep.words(withoutURL(err).Error()), err}
	}
	defer resp.Body.Close()
	rep.sent = true
	rep.body, err = io.ReadAll(resp.Body)
	if err != nil {
		return rep, &noAnswerError{"reading the answer: " + rep.words(err.Error()), err}
	}
	rep.status, rep.retryAfter = resp.StatusCode, retryAfter(resp.Header)
	return rep, nil
}

// noAnswerError is why there was no answer, as words for the log: net/http
// quotes servers at any length. Whether the caller gave up can be asked of it.
type noAnswerError struct {
	text string
	err  error
}

func (e *noAnswerError) Error() string { return e.text }

func (e *noAnswerError) Unwrap() error { return e.err }

// traceSent tells whether a request may have arrived: from the moment on that it
// has a connection, since how much was written of it tells nothing of how much
// was read. A transport that takes another connection does so because it knows
// that nothing went out over the last (net/http retries no other POST).
func traceSent(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: func(string) { sent.Store(false) },
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	}), sent
}

// withoutURL drops the URL that net/http puts into its errors: the method and
// the host are known, and a URL of an IdP's making has no place in a log.
func withoutURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// ok reports whether the server says that it did what it was asked for.
func (r reply) ok() bool { return r.status >= 200 && r.status <= 299 }

// keep adds secrets that no words may quote, also in the spellings that JSON has
// for them: descriptions are quoted as they came.
func (r *reply) keep(secrets ...string) {
	for _, s := range secrets {
		text, _ := json.Marshal(s) // a string alone
		r.secrets = append(r.secrets, s, string(text[1:len(text)-1]), strings.ReplaceAll(s, "/", `\/`))
	}
}

// words are the server's own, for the log, without what we told it in
// confidence.
func (r reply) words(text string) string {
	for _, s := range r.secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "REDACTED")
		}
	}
	return words(text)
}

// unavailable is the answer of a server that cannot do what it was asked for
// now.
func (r reply) unavailable(asked string) *UnavailableError {
	return &UnavailableError{
		RetryAfter: r.retryAfter, Err: fmt.Errorf("%s: status %d", asked, r.status),
		Busy: r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable,
	}
}

// busy reports a status that speaks of the server's state, not of the request.
func busy(status int) bool {
	return status == http.StatusTooManyRequests || status >= http.StatusInternalServerError
}

// object decodes the body as one JSON object, whatever its media type says:
// some servers send JSON as text/plain.
func (r reply) object(v any) error {
	body := bytes.TrimSpace(r.body)
	if len(body) == 0 || body[0] != '{' {
		return fmt.Errorf("status %d: the answer is not a JSON object", r.status)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("status %d: decoding the answer: %w", r.status, err)
	}
	return nil
}

// retryAfter reads Retry-After (RFC 9110 §10.2.3), both forms; 0 for none.
func retryAfter(h http.Header) time.Duration {
	v := h.Get("Retry-After")
	if v == "" {
		return 0
	}
	if s, err := strconv.Atoi(v); err == nil {
		return time.Duration(max(0, min(s, 24*3600))) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, min(time.Until(at), 24*time.Hour))
	}
	return 0
}

// seconds is a JSON number of seconds that some servers send as a string. Any
// other form, and anything that is not a positive, finite number, is 0.
type seconds time.Duration

func (s *seconds) UnmarshalJSON(b []byte) error {
	text := strings.Trim(string(b), `"`)
	f, err := strconv.ParseFloat(text, 64)
	// the bound keeps the product inside an int64 of nanoseconds; NaN fails it
	if err != nil || !(f > 0 && f < 1e9) {
		*s = 0
		if f >= 1e9 {
			*s = seconds(1e9 * time.Second)
		}
		return nil
	}
	*s = seconds(f * float64(time.Second))
	return nil
}

// words makes a short printable piece of text of an identity provider's own,
// for the log only.
func words(text string) string {
	clean := strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(clean) > maxWords {
		clean = strings.ToValidUTF8(clean[:maxWords], "") + "…"
	}
	return clean
}
