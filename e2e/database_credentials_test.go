// This file tries whatever stands in a copy of the session database as a
// credential.
package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// runLength is the shortest run of characters that is tried.
	runLength = 8
	// everyOffset is how far into a value a key may begin anywhere; behind it,
	// where all is sealed, keyBytes by keyBytes.
	everyOffset = 512
	keyBytes    = 32
)

// printable are the runs of characters in bytes that a header field can hold.
func printable(raw []byte) []string {
	return strings.FieldsFunc(string(mapBytes(raw)), func(c rune) bool { return c == 0 })
}

// mapBytes makes all that is not printable ASCII a NUL.
func mapBytes(raw []byte) []byte {
	mapped := make([]byte, len(raw))
	for i, b := range raw {
		if b > ' ' && b < 0x7f {
			mapped[i] = b
		}
	}
	return mapped
}

// decodings are what a text may stand for.
func decodings(text string) [][]byte {
	var all [][]byte
	if b, err := hex.DecodeString(text); err == nil {
		all = append(all, b)
	}
	bare := strings.TrimRight(text, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if b, err := encoding.DecodeString(bare); err == nil {
			all = append(all, b)
		}
	}
	return all
}

// candidates are the credentials that a thief may make of bytes: each run of
// characters, with and without the prefix of keys, and each 32 bytes as the
// key that they would be.
func candidates(raw []byte) map[string]bool {
	found := map[string]bool{}
	windows := func(b []byte) {
		for at := 0; at+keyBytes <= len(b); at++ {
			if at < everyOffset || at%keyBytes == 0 {
				found["dvc_"+base64.RawURLEncoding.EncodeToString(b[at:at+keyBytes])] = true
			}
		}
	}
	windows(raw)
	found[hex.EncodeToString(raw)] = true
	found[base64.RawURLEncoding.EncodeToString(raw)] = true
	for _, run := range printable(raw) {
		if len(run) < runLength {
			continue
		}
		found[run], found["dvc_"+run] = true, true
		// a length or a checksum before a text may be printable as well
		for at := 1; at < min(len(run), 4); at++ {
			found[run[at:]] = true
		}
		for _, decoded := range decodings(run) {
			windows(decoded)
			for _, inner := range printable(decoded) {
				if len(inner) >= runLength {
					found[inner] = true
				}
			}
		}
		for _, key := range sessionKey.FindAllString(run, -1) {
			found[key] = true
		}
	}
	return found
}

// wantNoCredentials fails for whatever opens anything, or is known at all.
func (s *stage) wantNoCredentials(t *testing.T, all []stolen, h household) {
	t.Helper()
	tries := map[string]bool{}
	records := 0
	for _, entry := range all {
		if entry.bucket == "records" {
			records++
		}
		for _, raw := range [][]byte{entry.key, entry.value} {
			for candidate := range candidates(raw) {
				tries[candidate] = true
			}
		}
	}
	// the eight of the household, and the successor of the claimed one
	if records != 9 {
		t.Errorf("%d records are in the copy", records)
	}
	th := newThief(t, s)
	for name, key := range map[string]string{
		"pending": h.pending, "active": h.active, "signed out": h.signedOut, "declined": h.declined, "expired": h.expired,
		"pending window": h.windowPending, "window": h.window.key(t), "claimed": h.windowOld,
	} {
		if tries[key] {
			t.Errorf("the key of the %s session is in the copy", name)
		}
		if said, err := th.try(key); said == "" || err != nil {
			t.Errorf("a thief with the key of the %s session would not notice: %v", name, err)
		}
	}
	t.Logf("%d entries, %d candidates", len(all), len(tries))
	th.tryAll(t, tries)
}

// thief asks with what was found.
type thief struct {
	s      *stage
	client *http.Client
}

func newThief(t *testing.T, s *stage) *thief {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * atOnce}
	t.Cleanup(transport.CloseIdleConnections)
	return &thief{s: s, client: &http.Client{Transport: transport, Timeout: time.Minute}}
}

func (th *thief) tryAll(t *testing.T, tries map[string]bool) {
	t.Helper()
	work := make(chan string)
	var done sync.WaitGroup
	for range atOnce {
		done.Go(func() {
			for candidate := range work {
				if said, err := th.try(candidate); said != "" || err != nil {
					t.Errorf("one of %d characters is answered: %s %v", len(candidate), said, err)
				}
			}
		})
	}
	for candidate := range tries {
		work <- candidate
	}
	close(work)
	done.Wait()
}

// try says what a credential is good for, as a bearer and as the cookie; ""
// where it is nothing to the gateway.
func (th *thief) try(credential string) (string, error) {
	for name, value := range map[string]string{"Authorization": "Bearer " + credential, "Cookie": cookie(credential)} {
		said, err := th.ask(name, value)
		if said != "" || err != nil {
			return said, err
		}
	}
	return "", nil
}

func (th *thief) ask(name, value string) (string, error) {
	req, err := http.NewRequestWithContext(th.s.ctx, http.MethodGet, th.s.url+"/stolen", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("X-Requested-With", "XMLHttpRequest") // starts nothing
	req.Header.Set(name, value)
	resp, err := th.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var a answer
	if err := json.Unmarshal(body, &a); err == nil && resp.StatusCode == http.StatusUnauthorized && a.Status == "required" {
		return "", nil
	}
	return fmt.Sprintf("status %d, %s %s", resp.StatusCode, a.Status, a.Reason), nil
}
