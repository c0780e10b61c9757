// Package chrome drives Debian's real Chromium, without a window, for a test:
// as the person's browser at the identity provider, and as the kiosk in front
// of the gate. It reaches loopback only, and all it does ends with the test.
package chrome

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

const (
	// startTime bounds one start: usually a second or two, but the machine may
	// be slow and busy.
	startTime = 60 * time.Second
	// startTries is how often a start is tried.
	startTries = 2
	// stopTime is how long Chromium may take to end when it is asked to; then
	// it is killed.
	stopTime = 20 * time.Second
)

// Options say which browser. A width and a height that are not set are those
// of a small kiosk screen.
type Options struct {
	Width, Height int  // of the page, in pixels; 1024 by 600
	NoScript      bool // JavaScript is switched off
	Dark          bool // the person prefers dark colours, else light ones
	// Media are more of what the person prefers: values of media features by
	// name, as "more" of "prefers-contrast".
	Media map[string]string
	// Before is a script that runs in each page before the page's own.
	Before string
}

// Browser is one Chromium process with a profile of its own, and the one page
// that is open in it. Its methods give errors instead of ending the test, so
// that they may be called from any goroutine; the context bounds each of them.
type Browser struct {
	*events

	ctx  context.Context // the page's; ends with the process
	page *chromedp.Target
	end  func()
}

// starting is held during a start: several at once would only slow each other
// down until one of them takes too long.
var starting sync.Mutex

// Start runs a browser until the test ends. If the test failed by then, it logs
// where the browser was and what it complained about.
func Start(t testing.TB, o Options) *Browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is not installed: run make deps")
	}
	if o.Width == 0 {
		o.Width = 1024
	}
	if o.Height == 0 {
		o.Height = 600
	}
	for try := 1; ; try++ {
		b, err := launch(t, program, o)
		if err == nil {
			t.Cleanup(func() { b.stop(t) })
			return b
		}
		if try == startTries {
			t.Fatalf("starting chromium: %v", err)
		}
		t.Logf("starting chromium, and trying again: %v", err)
	}
}

func launch(t testing.TB, program string, o Options) (*Browser, error) {
	t.Helper()
	starting.Lock()
	defer starting.Unlock()
	dir, err := os.MkdirTemp("", "chrome-")
	if err != nil {
		return nil, err
	}
	// Not the test's own context, which ends before the clean-up: the browser
	// shall be asked to end first.
	base, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	allocator, endAllocator := chromedp.NewExecAllocator(base, flags(program, dir)...)
	b := &Browser{events: newEvents()}
	var closePage context.CancelFunc
	b.ctx, closePage = chromedp.NewContext(allocator, chromedp.WithListener(b.see),
		// It logs events of pages that have gone meanwhile.
		chromedp.WithErrorf(func(string, ...any) {}))
	b.end = func() {
		cancel() // kills what still runs
		closePage()
		endAllocator() // waits until the process and its profile are gone
		os.RemoveAll(dir)
	}
	tooLong := time.AfterFunc(startTime, cancel)
	err = chromedp.Do(b.ctx)
	if err == nil {
		b.page = chromedp.FromContext(b.ctx).Target
		err = b.setUp(o)
	}
	if !tooLong.Stop() {
		err = errors.Join(fmt.Errorf("it took longer than %v", startTime), err)
	}
	if err != nil {
		b.end()
		return nil, err
	}
	return b, nil
}

// flags are the program's arguments, on top of those that chromedp gives it:
// nothing that leaves this machine, and nothing of the user's own settings.
// chromedp's are a pipe to talk through, a temporary profile, no first run, no
// sync, no background networking and, for root, no sandbox.
func flags(program, dir string) []chromedp.ExecAllocatorOption {
	options := append([]chromedp.ExecAllocatorOption(nil), chromedp.DefaultExecAllocatorOptions[:]...)
	for name, value := range map[string]any{
		// Even a page that asks for more does not get out.
		"host-resolver-rules":        "MAP * ~NOTFOUND , EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE *.localhost",
		"no-proxy-server":            true,
		"no-pings":                   true,
		"disable-component-update":   true,
		"disable-domain-reliability": true,
		"disable-crash-reporter":     true,
		"disable-features":           "Translate,MediaRouter,OptimizationHints,AutofillServerCommunication,HttpsUpgrades",
		"disable-gpu":                true,
		"lang":                       "en-US",
	} {
		options = append(options, chromedp.Flag(name, value))
	}
	return append(options, chromedp.ExecPath(program),
		// Without the environment there are no proxies, no display and no
		// message bus; HOME and TMPDIR keep its files away from the user's.
		chromedp.NoInheritEnv,
		chromedp.Env("PATH="+os.Getenv("PATH"), "HOME="+dir, "TMPDIR="+dir, "LANGUAGE=en_US", "LANG=C.UTF-8",
			"XDG_CONFIG_HOME="+filepath.Join(dir, "config"), "XDG_CACHE_HOME="+filepath.Join(dir, "cache")))
}

// setUp makes the page what the options say; it stays so over navigations.
func (b *Browser) setUp(o Options) error {
	_, err := cdp.Call(b.ctx, b.page, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: int64(o.Width), Height: int64(o.Height), DeviceScaleFactor: 1,
	})
	if err != nil {
		return err
	}
	_, err = cdp.Call(b.ctx, b.page, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: o.media()})
	if err != nil {
		return err
	}
	if o.Before != "" {
		_, err = cdp.Call(b.ctx, b.page, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: o.Before})
		if err != nil {
			return err
		}
	}
	_, err = cdp.Call(b.ctx, b.page, emulation.SetScriptExecutionDisabled,
		emulation.SetScriptExecutionDisabledParams{Value: o.NoScript})
	return err
}

// media are all the media features that differ from Chromium's own.
func (o Options) media() []*emulation.MediaFeature {
	colours := "light"
	if o.Dark {
		colours = "dark"
	}
	features := make([]*emulation.MediaFeature, 0, 1+len(o.Media))
	features = append(features, &emulation.MediaFeature{Name: "prefers-color-scheme", Value: colours})
	for name, value := range o.Media {
		features = append(features, &emulation.MediaFeature{Name: name, Value: value})
	}
	return features
}

// stop asks the browser to end, so that it can see its own processes off, and
// kills it if it does not.
func (b *Browser) stop(t testing.TB) {
	t.Helper()
	if t.Failed() {
		t.Logf("chromium was at %s; problems:\n%s", b.URL(), strings.Join(b.Problems(), "\n"))
	}
	ctx, cancel := context.WithTimeout(b.ctx, stopTime)
	defer cancel()
	if err := chromedp.Cancel(ctx); err != nil {
		t.Logf("ending chromium: %v", err)
	}
	b.end()
}
