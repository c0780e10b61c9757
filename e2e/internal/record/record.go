// Package record is a proxy between the gateway and an OpenID provider. It
// writes down every token, revocation and device authorization request, and can
// answer in the provider's place, change its answers, or break the line.
//
// The provider's issuer must be the recorder's address, so that discovery
// leads each request through here.
package record

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddydevice/device-auth/e2e/internal/ports"
)

// maxBody bounds what is read of one request or answer.
const maxBody = 4 << 20

// detachedTime bounds a request that goes on without its client.
const detachedTime = time.Minute

// Endpoint says which of the recorded endpoints a request went to.
type Endpoint string

// The endpoints that are recorded.
const (
	Token      Endpoint = "token"
	Device     Endpoint = "device authorization"
	Revocation Endpoint = "revocation"
)

// Answer is sent in the provider's place.
type Answer struct {
	Status int
	Header http.Header // Content-Type is application/json unless set
	Body   []byte
}

// Recorder is one proxy; all methods may be called at any time.
type Recorder struct {
	url      string
	listener *listener
	proxy    *httputil.ReverseProxy

	mu            sync.Mutex
	target        *url.URL
	endpoints     map[string]Endpoint // by path; discovery adds to it
	entries       []Entry
	secrets       map[string][]string // by kind, in memory only
	rewrite       func(*http.Request) *Answer
	rewriteAnswer func(*http.Request, map[string]any)
	lose          func(*http.Request) bool
	handedOver    func(Entry)
}

// Start runs a recorder until the test ends. Until SetTarget it answers like a
// provider that is out of reach.
func Start(t testing.TB) *Recorder {
	t.Helper()
	// a port that it gets again after it has refused connections
	plain, err := net.Listen("tcp", "127.0.0.1:"+ports.Free(t))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{} // none of the environment's proxies
	r := &Recorder{
		url:       "http://" + plain.Addr().String(),
		listener:  newListener(plain),
		endpoints: map[string]Endpoint{"/token": Token, "/device/auth": Device, "/token/revocation": Revocation},
		secrets:   map[string][]string{},
	}
	r.proxy = &httputil.ReverseProxy{
		Rewrite:        r.direct,
		Transport:      transport,
		ModifyResponse: r.answered,
		ErrorHandler:   r.unanswered,
	}
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(r.listener); !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("recorder: %v", err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
		transport.CloseIdleConnections()
	})
	return r
}

// URL is the recorder's address: the issuer to give to the provider and to the
// gateway.
func (r *Recorder) URL() string { return r.url }

// SetTarget says where the provider really listens.
func (r *Recorder) SetTarget(t testing.TB, address string) {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = u
}

// Rewrite answers in place of the provider wherever f says ok. The request's
// form is parsed already. f may block, but not beyond the request's context. A
// nil f ends it.
func (r *Recorder) Rewrite(f func(*http.Request) (status int, body []byte, ok bool)) {
	if f == nil {
		r.RewriteWith(nil)
		return
	}
	r.RewriteWith(func(req *http.Request) *Answer {
		status, body, ok := f(req)
		if !ok {
			return nil
		}
		return &Answer{Status: status, Body: body}
	})
}

// RewriteWith is Rewrite for answers that need headers, such as Retry-After.
func (r *Recorder) RewriteWith(f func(*http.Request) *Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rewrite = f
}

// RewriteAnswer lets f change the members of each JSON answer of the provider,
// discovery included. Numbers come as json.Number. A nil f ends it.
func (r *Recorder) RewriteAnswer(f func(req *http.Request, answer map[string]any)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rewriteAnswer = f
}

// LoseAnswers lets a request reach the provider but cuts the connection instead
// of answering, wherever f says so. A nil f ends it.
func (r *Recorder) LoseAnswers(f func(*http.Request) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lose = f
}

// HandOver calls f right after a recorded answer of the provider's was sent, to
// the last byte. A nil f ends it.
func (r *Recorder) HandOver(f func(Entry)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handedOver = f
}

// Down breaks the line: open connections are cut, new ones are reset as soon
// as they are made. What comes in while down is not in the record.
func (r *Recorder) Down(down bool) { r.listener.setDown(down) }

// Refuse is Down for a provider that does not listen: connections are not even
// made, so that nothing can have been sent.
func (r *Recorder) Refuse(t testing.TB, refuse bool) {
	t.Helper()
	if err := r.listener.setRefusing(refuse); err != nil {
		t.Fatal(err)
	}
}

// ServeHTTP takes the request down, then answers it or passes it on.
func (r *Recorder) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	note := &note{start: time.Now()}
	body, err := io.ReadAll(io.LimitReader(req.Body, maxBody))
	if err != nil {
		panic(http.ErrAbortHandler) // the client went away
	}
	form := parseForm(req, body)
	req.PostForm, req.Form = form, form
	req.Body, req.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	note.take(req, form, r.endpointOf(req))
	r.keepRequestSecrets(req, form)
	req = req.WithContext(withNote(req.Context(), note))

	r.mu.Lock()
	rewrite, target := r.rewrite, r.target
	r.mu.Unlock()
	if rewrite != nil {
		if a := rewrite(req); a != nil {
			r.answerInPlace(w, req, note, a)
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body)) // the hook may have read it
	}
	if target == nil {
		r.unanswered(w, req, errors.New("no provider is set"))
		return
	}
	if isRefresh(note.entry) {
		// what the provider does with the token counts, also where the gateway is
		// gone by then
		ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), detachedTime)
		defer cancel()
		req = req.WithContext(ctx) //nolint:contextcheck // that it is not the client's is the point
	}
	r.proxy.ServeHTTP(w, req)
	r.sent(w, note)
}

// sent tells who asked for it that the answer has left.
func (r *Recorder) sent(w http.ResponseWriter, n *note) {
	r.mu.Lock()
	tell := r.handedOver
	r.mu.Unlock()
	if tell == nil || n.entry.Endpoint == "" || http.NewResponseController(w).Flush() != nil {
		return
	}
	tell(n.entry)
}

// direct sends the request on, as it came: the provider builds its addresses
// from Host.
func (r *Recorder) direct(pr *httputil.ProxyRequest) {
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	pr.SetURL(target)
	pr.Out.Host = pr.In.Host
	pr.Out.Header.Set("Accept-Encoding", "identity") // answers are read here
}

// answered reads a JSON answer of the provider, lets the test change it, and
// completes the record.
func (r *Recorder) answered(resp *http.Response) error {
	note := noteOf(resp.Request.Context())
	r.mu.Lock()
	change, lose := r.rewriteAnswer, r.lose
	r.mu.Unlock()
	if lose != nil && lose(resp.Request) {
		return errors.New("the test loses this answer")
	}
	if !isJSON(resp.Header) {
		r.complete(note, resp.StatusCode, nil)
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	resp.Body.Close()
	if err != nil {
		return err
	}
	answer := parseJSON(body)
	r.learn(resp.Request, answer)
	if change != nil && answer != nil {
		change(resp.Request, answer)
		if body, err = json.Marshal(answer); err != nil {
			return err
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	r.complete(note, resp.StatusCode, answer)
	return nil
}

// unanswered cuts the connection where the provider cannot be reached: a proxy
// that said 502 would hide from the gateway what happened.
func (r *Recorder) unanswered(_ http.ResponseWriter, req *http.Request, _ error) {
	r.complete(noteOf(req.Context()), 0, nil)
	panic(http.ErrAbortHandler)
}

func (r *Recorder) answerInPlace(w http.ResponseWriter, req *http.Request, n *note, a *Answer) {
	maps.Copy(w.Header(), a.Header)
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(a.Body)))
	if req.Context().Err() != nil {
		r.complete(n, 0, nil)
		panic(http.ErrAbortHandler)
	}
	n.inPlace = true
	r.complete(n, a.Status, parseJSON(a.Body))
	w.WriteHeader(a.Status)
	w.Write(a.Body) //nolint:errcheck // the client may have gone away
}

// learn takes the paths of the recorded endpoints from a discovery document.
func (r *Recorder) learn(req *http.Request, answer map[string]any) {
	if !strings.HasSuffix(req.URL.Path, "/.well-known/openid-configuration") {
		return
	}
	for member, endpoint := range map[string]Endpoint{
		"token_endpoint": Token, "device_authorization_endpoint": Device, "revocation_endpoint": Revocation,
	} {
		address, _ := answer[member].(string)
		u, err := url.Parse(address)
		if err != nil || u.Path == "" {
			continue
		}
		r.mu.Lock()
		r.endpoints[u.Path] = endpoint
		r.mu.Unlock()
	}
}

func (r *Recorder) endpointOf(req *http.Request) Endpoint {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.endpoints[req.URL.Path]
}

// parseForm never fails: a body that is no form has no values to record.
func parseForm(req *http.Request, body []byte) url.Values {
	kind, _, err := mime.ParseMediaType(req.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return url.Values{}
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return url.Values{}
	}
	return form
}

func isJSON(h http.Header) bool {
	kind, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (kind == "application/json" || strings.HasSuffix(kind, "+json"))
}

// parseJSON returns nil for what is no JSON object.
func parseJSON(body []byte) map[string]any {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var answer map[string]any
	if err := d.Decode(&answer); err != nil {
		return nil
	}
	return answer
}
