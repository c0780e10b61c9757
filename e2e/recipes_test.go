// This file runs what the README tells a person to type in a terminal: the
// lines as they stand there, with real tools, and somebody who approves.
package e2e

import (
	"bufio"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// recipe is what a block of lines does, beside what it prints.
type recipe struct {
	name  string
	codes int // sign-ins that it shows the code of
	asks  []string
}

// recipes are the blocks of the README's section, in their order. asks are the
// programs whose requests reach the upstream, as Alice's.
var recipes = []recipe{
	{name: "curl, a jar signs in", codes: 1},
	{name: "curl, the jar goes on", asks: []string{"curl"}},
	{name: "curl, a configuration file", asks: []string{"curl"}},
	{name: "wget, a jar signs in and goes on", codes: 1, asks: []string{"Wget"}},
	{name: "HTTPie, a session signs in", codes: 1},
	{name: "HTTPie, the session goes on", asks: []string{"HTTPie"}},
	{name: "one command waits", codes: 1, asks: []string{"curl"}},
	{name: "the end"},
}

// readmeHost is replaced by the address of the test's gateway, and nothing
// else is.
const readmeHost = "https://api.example.com"

var (
	terminalSection = regexp.MustCompile(`(?ms)^## From a terminal\n(.*?)^## `)
	shellBlock      = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	anyCode         = regexp.MustCompile(`\b[A-Z]{4}-[A-Z]{4}\b`)
)

// readmeBlocks are the lines to type, block by block.
func readmeBlocks(t *testing.T, url string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	section := terminalSection.FindStringSubmatch(string(text))
	if section == nil {
		t.Fatal("the README has no section of that name")
	}
	var blocks []string
	for _, found := range shellBlock.FindAllStringSubmatch(section[1], -1) {
		blocks = append(blocks, strings.ReplaceAll(found[1], readmeHost, url))
	}
	if len(blocks) != len(recipes) {
		t.Fatalf("the section has %d blocks, the test knows of %d", len(blocks), len(recipes))
	}
	return blocks
}

func TestRecipes(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	term := s.newTerminal(t)
	blocks := readmeBlocks(t, s.url)
	for i, r := range recipes {
		before := len(s.up.Requests())
		out, exit := term.run(t, blocks[i])
		if exit != 0 {
			t.Errorf("%s: it ends with %d", r.name, exit)
		}
		if codes := distinct(anyCode.FindAllString(out, -1)); len(codes) != r.codes {
			t.Errorf("%s: it shows the codes %q, want %d", r.name, codes, r.codes)
		}
		var asked []string
		for _, seen := range s.up.Requests()[before:] {
			wantAlice(t, seen)
			program, _, _ := strings.Cut(seen.Header.Get("User-Agent"), "/")
			asked = append(asked, program)
		}
		if !slices.Equal(asked, r.asks) {
			t.Errorf("%s: the upstream heard %q, want %q", r.name, asked, r.asks)
		}
		if n := strings.Count(out, `"Remote-User"`); n < len(r.asks) {
			t.Errorf("%s: it prints %d answers of the upstream, want %d", r.name, n, len(r.asks))
		}
		if t.Failed() {
			t.Fatalf("%s\n%s", blocks[i], out)
		}
	}
	term.wantPrivate(t)
	if got := s.get(t, "/report", "-b", filepath.Join(term.home, "jar")); got.Status != 401 {
		t.Errorf("after the end the jar gets %d", got.Status)
	}
}

// TestToolsShowTheCode: whoever asks without a key sees where to go, whatever
// their tool makes of a 401.
func TestToolsShowTheCode(t *testing.T) {
	t.Parallel()
	s := newStage(t, plan{})
	term := s.newTerminal(t)
	for _, row := range []struct {
		name, line string
		exit       int
		hides      bool
	}{
		{name: "curl", line: "curl " + s.url + "/report"},
		{name: "curl that fails", line: "curl --fail-with-body " + s.url + "/report", exit: 22},
		{name: "wget", line: "wget -qO- --content-on-error " + s.url + "/report", exit: 6, hides: true},
		{name: "wget at login", line: "wget -qO- " + s.url + "/.device/login"},
		{name: "HTTPie", line: "http " + s.url + "/report"},
		{name: "HTTPie with JSON", line: "http " + s.url + "/report day=today"},
		{name: "HTTPie that checks", line: "http --check-status " + s.url + "/report", exit: 4},
		{name: "HTTPie in a script", line: "http --ignore-stdin " + s.url + "/report </dev/null | cat"},
	} {
		out, exit := term.run(t, row.line+"\n")
		out = colour.ReplaceAllString(out, "")
		code := anyCode.FindString(out)
		if exit != row.exit || (code == "") != row.hides {
			t.Errorf("%s: it ends with %d, and shows the code %q\n%s", row.name, exit, code, out)
			continue
		}
		if code == "" {
			continue
		}
		if address, _, _ := strings.Cut(s.code(t, code).complete, "?"); !strings.Contains(out, address) {
			t.Errorf("%s: it does not show the address %s\n%s", row.name, address, out)
		}
	}
	if n := len(s.up.Requests()); n != 0 {
		t.Errorf("%d requests without a key reached the upstream", n)
	}
}

var colour = regexp.MustCompile(`\x1b\[[0-9;]*m`)

// terminal is a shell that a person types into.
type terminal struct {
	s    *stage
	home string
	dir  string   // of the blocks
	fifo *os.File // takes their names
	out  chan string
	// turn is shared by terminals of one gateway, which approve one after the
	// other: the log counts sign-ins and does not tell whose they are.
	turn *sync.Mutex
	// approves says which line makes the person approve; unless set, that with
	// the code.
	approves func(line string) bool
	declines bool // the person says no
}

// loop reads the blocks' names, so that their programs have the terminal for
// their input. The shell's own umask is the usual one.
const loop = `umask 022; cd && while read -r block <&3; do . "$block"; echo "ended with $?"; done 3<"$FIFO"`

// newTerminal starts the shell in an empty home, behind script(1), which gives
// it a terminal of its own; env goes before what is set otherwise.
func (s *stage) newTerminal(t *testing.T, env ...string) *terminal {
	t.Helper()
	for _, program := range []string{"script", "curl", "wget", "http"} {
		needProgram(t, program)
	}
	term := &terminal{s: s, home: t.TempDir(), dir: t.TempDir(), out: make(chan string), turn: new(sync.Mutex)}
	term.keepQuiet(t)
	fifo := filepath.Join(term.dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(s.ctx, "script", "-q", "-e", "-c", loop, os.DevNull)
	cmd.Dir = term.home
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + term.home, "FIFO=" + fifo, "NO_PROXY=*", "LC_ALL=C.UTF-8", "TERM=xterm", "SHELL=/bin/sh"}, env...)
	typed, err := cmd.StdinPipe() // stays open: nobody types ^D
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if term.fifo, err = os.OpenFile(fifo, os.O_RDWR, 0); err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReader(out)
		for {
			line, err := lines.ReadString('\n')
			if line != "" {
				select {
				case term.out <- line:
				case <-s.ctx.Done():
				}
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it waits for the next block
		term.fifo.Close()
		typed.Close()
		<-read
		_ = cmd.Wait()
	})
	return term
}

// keepQuiet stops HTTPie from asking its makers for a newer version.
func (term *terminal) keepQuiet(t *testing.T) {
	t.Helper()
	dir := filepath.Join(term.home, ".config", "httpie")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"disable_update_warnings": true}`), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run types a block, approves each sign-in as soon as the code is there, and
// returns what was printed and how the last command ended.
func (term *terminal) run(t *testing.T, block string) (printed string, exit int) {
	t.Helper()
	file := filepath.Join(term.dir, "block")
	if err := os.WriteFile(file, []byte(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := term.fifo.WriteString(file + "\n"); err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	code, approved := "", map[string]bool{}
	for {
		select {
		case line := <-term.out:
			term.s.canaries.AddText(t, line)
			if found := anyCode.FindString(line); found != "" {
				code = found
			}
			if code != "" && !approved[code] && (term.approves == nil || term.approves(line)) {
				approved[code], term.approves = true, nil
				term.answer(t, code)
			}
			if status, ended := strings.CutPrefix(line, "ended with "); ended {
				exit, err := strconv.Atoi(strings.TrimSpace(status))
				if err != nil {
					t.Fatal(err)
				}
				return all.String(), exit
			}
			all.WriteString(line)
		case <-term.s.ctx.Done():
			t.Fatalf("%v, after\n%s", term.s.ctx.Err(), all.String())
		}
	}
}

// isProgress is a line of an answer that stays open.
func isProgress(line string) bool { return strings.HasPrefix(line, "waiting, ") }

// answer lets the person approve or decline, and waits until the gateway knows.
func (term *terminal) answer(t *testing.T, code string) {
	t.Helper()
	term.turn.Lock()
	defer term.turn.Unlock()
	ended := func() int { return strings.Count(term.s.gate.LogText(), `"msg":"sign-in ended"`) }
	before := ended()
	if complete := term.s.code(t, code).complete; term.declines {
		term.s.deny(t, complete, false)
	} else {
		term.s.approve(t, complete)
	}
	term.s.await(t, "the gateway to know of the answer", func() bool { return ended() > before })
}

// wantPrivate fails for each file that somebody else could read.
func (term *terminal) wantPrivate(t *testing.T) {
	t.Helper()
	var files []string
	err := filepath.WalkDir(term.home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		files = append(files, filepath.Base(path))
		if info.Mode() != 0o600 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"jar", "curlrc", "wget.jar", "api.json", "login", "header"} {
		if !slices.Contains(files, name) {
			t.Errorf("%s is not among the files that the README names: %q", name, files)
		}
	}
}

func distinct(all []string) []string {
	slices.Sort(all)
	return slices.Compact(all)
}
