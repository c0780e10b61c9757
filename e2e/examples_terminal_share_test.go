// This file shows commands that share a sign-in: side by side, and one after
// another that was stopped.
package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/caddydevice/device-auth/e2e/internal/curl"
)

// sideBySide is how many commands run at the same time.
const sideBySide = 20

// TestParallelCurls: commands that share a jar, or a key, are shown one code.
func TestParallelCurls(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	jar := filepath.Join(t.TempDir(), "jar")
	first := s.get(t, "/", "-c", jar, "-b", jar)
	wantStatus(t, first, 401)
	shown := readText(t, first.Body)
	key := keyIn(t, shown.command)
	ways := map[string][]string{"jar": {"-b", jar}, "key": {"-H", bearer(key)}}
	for name, with := range ways {
		for _, got := range s.allAtOnce(t, with) {
			if code := codeLine.FindString(got.Body); got.Status != 401 || code != shown.code {
				t.Errorf("%s: status %d with the code %q, want %q", name, got.Status, code, shown.code)
			}
		}
	}
	s.approve(t, s.code(t, shown.code).complete)
	s.wantActive(t, key)
	for name, with := range ways {
		for _, got := range s.allAtOnce(t, with) {
			if got.Status != 200 {
				t.Errorf("%s: after the approval it gets %d", name, got.Status)
			}
		}
	}
	s.wantStarts(t, 1)
}

// allAtOnce asks with many curls side by side.
func (s *stage) allAtOnce(t *testing.T, with []string) []curl.Result {
	t.Helper()
	results := make([]curl.Result, sideBySide)
	var wg sync.WaitGroup
	for i := range results {
		wg.Go(func() { results[i] = curl.Run(s.ctx, t, append(slices.Clip(with), fmt.Sprintf("%s/%d", s.url, i))...) })
	}
	wg.Wait()
	return results
}

// wantStarts fails unless the provider was asked for so many codes.
func (s *stage) wantStarts(t *testing.T, n int) {
	t.Helper()
	if starts := len(s.rec.Starts()); starts != n {
		t.Errorf("%d device authorizations, want %d", starts, n)
	}
}

// TestLoginStopped: whoever stops login with Ctrl-C and runs the same line
// again goes on with the same code.
func TestLoginStopped(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	jar := filepath.Join(t.TempDir(), "jar")
	first := s.get(t, "/", "-c", jar, "-b", jar)
	shown := readText(t, first.Body)
	key := keyIn(t, shown.command)
	login := s.url + "/.device/login"
	for name, with := range map[string][]string{"jar": {"-b", jar, "-c", jar}, "key": {"-H", bearer(key)}} {
		for range 3 {
			stream := curl.Open(s.ctx, t, append(slices.Clip(with), login)...)
			if _, err := stream.Until(s.ctx, shown.code); err != nil {
				t.Fatalf("%s: another code is shown: %v", name, err)
			}
			stream.Interrupt(t)
		}
	}
	last := curl.Open(s.ctx, t, "-b", jar, "-c", jar, login)
	if _, err := last.Until(s.ctx, shown.code); err != nil {
		t.Fatal(err)
	}
	s.approve(t, s.code(t, shown.code).complete)
	if _, err := last.Until(s.ctx, "alice"); err != nil {
		t.Errorf("it does not say who has signed in: %v", err)
	}
	wantStatus(t, s.get(t, "/", "-b", jar), 200)
	s.wantStarts(t, 1)
}

// threads is a program whose threads share a sign-in.
const threads = `
from concurrent.futures import ThreadPoolExecutor
import requests
from requests_device import DeviceAuth

auth = DeviceAuth()
with ThreadPoolExecutor(8) as pool:
    for answer in pool.map(lambda n: requests.post("%s/report?part=%%d" %% n, auth=auth, data=b"x"), range(8)):
        print(answer.status_code, answer.text, end="")
`

// share lets the scripts of the example run side by side, one after another,
// where a sign-in is to be confirmed, and where it is declined.
func (s *stage) share(t *testing.T, turn *sync.Mutex, env []string) {
	confirmed := "http://127.0.0.1:" + s.gate.Port2()
	for _, row := range []struct {
		name, program, line string
		codes, keys         int
		prints              map[string]int
	}{
		{name: "device-key side by side", line: "for i in 1 2 3 4 5; do device-key " + s.url + " & done; wait", codes: 1, keys: 1, prints: map[string]int{"dvc_": 5}},
		{name: "device-key stopped", line: "timeout -s INT 2 device-key " + s.url + "; echo stopped; device-key " + s.url, codes: 1, keys: 1, prints: map[string]int{"dvc_": 1}},
		{name: "threads", program: fmt.Sprintf(threads, s.url), line: "python3 program.py", codes: 1, prints: map[string]int{"Sign in to": 1, "200 Part": 8}},
		{name: "threads confirmed", program: fmt.Sprintf(threads, confirmed), line: "echo y | python3 program.py", codes: 1, prints: map[string]int{"Is that you?": 1, "200 Part": 8}},
		{name: "device-key confirmed", line: "device-key " + confirmed + ` 2>&1 | while read -r line; do echo "$line"; case $line in curl*) eval "$line" ;; esac; done`, codes: 1, keys: 1, prints: map[string]int{"dvc_": 1, "Is that you?": 1}},
		{name: "device-key declined", line: "device-key " + s.url + " || echo it ends with $?", codes: 1, prints: map[string]int{"nobody is signed in": 1, "it ends with 1": 1}},
		{name: "threads declined", program: fmt.Sprintf(threads, s.url), line: "python3 program.py", codes: 1, prints: map[string]int{"requests_device.NotSignedIn": 1, "200 Part": 0}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			term := s.newTerminal(t, env...)
			term.turn, term.declines = turn, strings.HasSuffix(row.name, "declined")
			if stops := strings.HasSuffix(row.name, "stopped"); stops {
				term.approves = func(line string) bool {
					stops = stops && line != "stopped\r\n"
					return !stops && anyCode.MatchString(line)
				}
			}
			term.put(t, "program.py", row.program)
			term.recipe(t, "Python requests", "api.example.com")
			out, _ := term.run(t, row.line+"\n")
			if codes := distinct(anyCode.FindAllString(out, -1)); len(codes) != row.codes {
				t.Errorf("it shows the codes %q, want %d", codes, row.codes)
			}
			if keys := distinct(sessionKey.FindAllString(out, -1)); len(keys) != row.keys {
				t.Errorf("it prints %d keys, want %d", len(keys), row.keys)
			}
			for text, n := range row.prints {
				if got := strings.Count(out, text); got != n {
					t.Errorf("it prints %q %d times, want %d\n%s", text, got, n, out)
				}
			}
		})
	}
}
