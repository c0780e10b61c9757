// This file runs the recipes of examples/terminal as they stand there, with the
// real tools behind a gate with TLS. What a person sees of each is a transcript
// beside them.
package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the transcripts of examples/terminal anew")

// terminalExample is the folder of the recipes.
var terminalExample = filepath.Join("..", "examples", "terminal")

// toolRecipes are the sections that can be run here, and the host that stands
// for the gate in them.
var toolRecipes = []struct {
	section, transcript, host string
	patient                   bool // whoever approves takes a while
}{
	{section: "curl", transcript: "curl", host: "api.example.com", patient: true},
	{section: "wget", transcript: "wget", host: "api.example.com"},
	{section: "HTTPie", transcript: "httpie", host: "api.example.com"},
	{section: "netrc", transcript: "netrc", host: "api.example.com"},
	{section: "Python requests", transcript: "python-requests", host: "api.example.com"},
	{section: "git", transcript: "git", host: "git.example.com"},
	{section: "kubectl", transcript: "kubectl", host: "k8s.example.com"},
	{section: "A coding agent", transcript: "agent", host: "api.example.com"},
	{section: "Many commands at once", transcript: "many-commands", host: "api.example.com"},
}

func TestTerminalExample(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"git", "kubectl", "python3", "flock"} {
		needProgram(t, program)
	}
	s, env := newToolStage(t)
	turn := new(sync.Mutex)
	t.Run("tools", func(t *testing.T) {
		t.Run("sharing", func(t *testing.T) { t.Parallel(); s.share(t, turn, env) })
		for _, r := range toolRecipes {
			t.Run(r.transcript, func(t *testing.T) {
				t.Parallel()
				term := s.newTerminal(t, env...)
				term.turn = turn
				if r.patient {
					term.approves = isProgress
				}
				var typed strings.Builder
				kept := 0
				for _, line := range term.recipe(t, r.section, r.host) {
					out, exit := term.run(t, line+"\n")
					fmt.Fprintf(&typed, "\n$ %s\n%s", line, out)
					if exit != 0 {
						fmt.Fprintf(&typed, "(it ends with %d)\n", exit)
					}
					kept += term.filesWithKeys(t)
				}
				if kept == 0 {
					t.Error("no file ever held a key")
				}
				wantTranscript(t, r.transcript, term.transcript(typed.String()[1:], r.host, r.patient))
			})
		}
	})
	for _, seen := range s.up.Requests() {
		wantAlice(t, seen)
	}
}

// newToolStage is a gate with TLS in front of a report and a git repository,
// and the environment in which every tool trusts it. On its second port it has
// no TLS, and wants each sign-in confirmed.
func newToolStage(t *testing.T) (*stage, []string) {
	t.Helper()
	const upstreams = "reverse_proxy /project.git/* {$GIT}\nreverse_proxy {$UPSTREAM}\n}\n"
	s := newStage(t, plan{
		caddyfile: "https://localhost:{$GATE_PORT} {\nlog\ntls internal\n" + deviceAuth("", manyStarts) + upstreams +
			"http://127.0.0.1:{$GATE_PORT_2} {\nlog\n" + deviceAuth("", manyStarts, "page {\nconfirm required\n}") + upstreams,
		env: map[string]string{"GIT": gitServer(t)},
	})
	s.url = "https://localhost:" + s.gate.Port()
	s.up.AnswerWith(func(w http.ResponseWriter, r *http.Request) {
		what := "The report"
		if part := r.URL.Query().Get("part"); part != "" {
			what = "Part " + part + " of the report"
		}
		fmt.Fprintf(w, "%s, for %s.\n", what, r.Header.Get("Remote-User"))
	})

	root := s.gate.RootCA()
	wgetrc := filepath.Join(t.TempDir(), "wgetrc")
	if err := os.WriteFile(wgetrc, []byte("ca_certificate = "+root+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	scripts, err := filepath.Abs(terminalExample)
	if err != nil {
		t.Fatal(err)
	}
	return s, []string{
		"PATH=" + scripts + ":/usr/bin:/bin:" + os.Getenv("PATH"), // Debian's Python comes first: it has requests
		"SSL_CERT_FILE=" + root, "REQUESTS_CA_BUNDLE=" + root, "GIT_SSL_CAINFO=" + root, "SYSTEM_WGETRC=" + wgetrc,
	}
}

// gitServer serves a repository to Alice, as git's own server does, and is its
// address.
func gitServer(t *testing.T) string {
	t.Helper()
	backend := &cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(git(t, "--exec-path")), "git-http-backend"),
		Env:  []string{"GIT_PROJECT_ROOT=" + repository(t), "GIT_HTTP_EXPORT_ALL=1", "REMOTE_USER=alice"},
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user := r.Header.Get("Remote-User"); user != "alice" {
			t.Errorf("%s %s is for %q", r.Method, r.URL, user)
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// repository is a folder with the bare repository project.git.
func repository(t *testing.T) string {
	t.Helper()
	work, served := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(work, "readme"), []byte("Behind the gate.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	git(t, "-C", work, "init", "-q", "-b", "main")
	git(t, "-C", work, "add", ".")
	git(t, "-C", work, "-c", "user.name=Alice", "-c", "user.email=alice@example.com", "commit", "-q", "-m", "Begin")
	git(t, "clone", "-q", "--bare", work, filepath.Join(served, "project.git"))
	return served
}

// git runs git without settings of the machine, and returns what it printed.
func git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %q: %v: %s", args, err, out)
	}
	return string(out)
}

// fileBlock is a file that a section shows, and fileNames what it is to be
// called, by its language and in their order.
var (
	fileBlock = regexp.MustCompile("(?ms)^```(python|yaml)\n(.*?)^```$")
	fileNames = map[string][]string{"python": {"report.py", "sign_out.py"}, "yaml": {"gate.yaml"}}
)

// recipe is what a section says to type, line by line. The files that it shows
// are in the terminal's home, and beside them the module that they import.
func (term *terminal) recipe(t *testing.T, section, host string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(terminalExample, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.ReplaceAll(string(text), host, strings.TrimPrefix(term.s.url, "https://"))
	_, rest, found := strings.Cut(all, "\n## "+section+"\n")
	if !found {
		t.Fatalf("there is no section %s", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for i, file := range fileBlock.FindAllStringSubmatch(rest, -1) {
		term.put(t, fileNames[file[1]][i], file[2])
	}
	module, err := os.ReadFile(filepath.Join(terminalExample, "requests_device.py"))
	if err != nil {
		t.Fatal(err)
	}
	term.put(t, "requests_device.py", string(module))
	var lines []string
	for _, block := range shellBlock.FindAllStringSubmatch(rest, -1) {
		lines = append(lines, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	if len(lines) == 0 {
		t.Fatalf("section %s says nothing to type", section)
	}
	return lines
}

func (term *terminal) put(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(term.home, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

var (
	qrRows    = regexp.MustCompile(`(?m)(^` + regexp.QuoteMeta(blackOnWhite) + `.*\n)+`)
	rewritten = regexp.MustCompile(`(?m)^.*\r(.+)$`)                     // a line that a tool has written over
	partLines = regexp.MustCompile(`(?m)(^Part \d+ of the report.*\n)+`) // of commands side by side
	// gitProgress differs by version.
	gitProgress = regexp.MustCompile(`(?m)^(remote|Receiving objects): .*\n`)
	progress    = regexp.MustCompile(`(?m)^waiting, .*\n`) // isProgress

	// varies is what differs from run to run, and what stands for it.
	varies = []struct {
		pattern *regexp.Regexp
		instead string
	}{
		{anyCode, "WDJB-MJHT"},
		{sessionKey, "dvc_…"},
		{regexp.MustCompile(`\b\d+ minutes`), "10 minutes"},
		{regexp.MustCompile(`"expires_in":\d+`), `"expires_in":600`},
		{regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d [A-Z]+`), "2026-11-28 12:00 UTC"},
		{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`), "2026-11-28T12:00:00Z"},
		{regexp.MustCompile(`until \d\d:\d\d [A-Z]+`), "until 12:00 UTC"},
		{regexp.MustCompile(`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT`), "Sat, 28 Nov 2026 12:00:00 GMT"},
		{regexp.MustCompile(`Content-Length: \d+`), "Content-Length: 100"},
	}
)

// transcript is what was printed, the same in every run. waits is whether it
// has to say that it waits.
func (term *terminal) transcript(text, host string, waits bool) string {
	s := term.s
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = qrRows.ReplaceAllString(text, "(the QR code)\n")
	text = rewritten.ReplaceAllString(colour.ReplaceAllString(text, ""), "$1")
	text = gitProgress.ReplaceAllString(text, "")
	text = partLines.ReplaceAllStringFunc(text, sortedLines)
	text = progress.ReplaceAllStringFunc(text, func(line string) string {
		if !waits { // it may, where the machine is slow, which is not part of its story
			return ""
		}
		waits = false
		return line
	})
	for _, v := range varies {
		text = v.pattern.ReplaceAllString(text, v.instead)
	}
	return strings.NewReplacer(
		s.rec.URL(), "https://idp.example.com",
		"localhost:"+s.gate.Port(), host,
		"localhost", host,
		`":`+s.gate.Port()+`"`, `":443"`, // Alt-Svc
		term.home, "/home/alice",
	).Replace(text)
}

func sortedLines(text string) string {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n") + "\n"
}

// wantTranscript fails where a person sees something else than before.
func wantTranscript(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join(terminalExample, "transcripts", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; where that is right, run this test with -update\ngot\n%s\nwant\n%s", file, got, want)
	}
}

// filesWithKeys counts them, and fails for each that somebody else could read.
func (term *terminal) filesWithKeys(t *testing.T) int {
	t.Helper()
	n := 0
	err := filepath.WalkDir(term.home, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !sessionKey.Match(text) {
			return err
		}
		n++
		info, err := entry.Info()
		if err == nil && info.Mode() != 0o600 {
			t.Errorf("%s holds a key and has the mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
