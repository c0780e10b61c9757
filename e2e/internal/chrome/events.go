// This file notes what the browser tells by itself: where it is, what it asks
// for, and what goes wrong.
package chrome

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
)

// events is what was told so far.
type events struct {
	mu       sync.Mutex
	changed  chan struct{}  // closed and replaced where the page has moved on
	at       string         // the address
	frame    cdp.FrameID    // the window's own, and none of the page's frames
	pages    []cdp.LoaderID // all that the window showed, the last one is there
	loaded   map[cdp.LoaderID]bool
	asked    map[network.RequestID]string
	requests []string
	problems []string
}

func newEvents() *events {
	return &events{
		changed: make(chan struct{}), at: "about:blank",
		loaded: map[cdp.LoaderID]bool{}, asked: map[network.RequestID]string{},
	}
}

// URL is where the browser is, with the fragment.
func (e *events) URL() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

// Requests are the addresses that pages asked for since the start, in order,
// redirects included; also those that were blocked or failed. What the browser
// asks for by itself, /favicon.ico, is neither here nor among the problems.
func (e *events) Requests() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.requests)
}

// Problems are since the start, in order: exceptions that no script caught,
// errors in the console, violations of a Content-Security-Policy, and requests
// that failed or were answered with 400 and above. A page's own status is no
// problem, nor is a request that was given up because the page went away.
func (e *events) Problems() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.problems)
}

// see takes one event; they come one after the other.
func (e *events) see(event any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch event := event.(type) {
	case *page.EventFrameNavigated:
		if event.Frame.ParentID == "" {
			e.frame = event.Frame.ID
			e.pages = append(e.pages, event.Frame.LoaderID)
			e.moved(event.Frame.URL + event.Frame.URLFragment)
		}
	case *page.EventNavigatedWithinDocument:
		if event.FrameID == e.frame {
			e.moved(event.URL)
		}
	case *page.EventLifecycleEvent:
		if event.Name == "load" {
			e.loaded[event.LoaderID] = true
			e.moved(e.at)
		}
	case *network.EventRequestWillBeSent:
		e.asked[event.RequestID] = event.Request.URL
		if !strings.HasPrefix(event.Request.URL, "data:") && !byItself(event.Request.URL) {
			e.requests = append(e.requests, event.Request.URL)
		}
	default:
		if problem := e.problem(event); problem != "" {
			e.problems = append(e.problems, problem)
		}
	}
}

func (e *events) moved(address string) {
	e.at = address
	close(e.changed)
	e.changed = make(chan struct{})
}

// byItself tells what no page asks for. It comes at any time after a page.
func byItself(address string) bool {
	u, err := url.Parse(address)
	return err == nil && u.Path == "/favicon.ico"
}

// problem puts an event into words; empty where it is none.
func (e *events) problem(event any) string {
	switch event := event.(type) {
	case *network.EventResponseReceived:
		if event.Response.Status >= 400 && event.Type != network.ResourceTypeDocument && !byItself(event.Response.URL) {
			return fmt.Sprintf("request: status %d: %s (%s)", event.Response.Status, event.Response.URL, event.Type)
		}
	case *network.EventLoadingFailed:
		address := e.asked[event.RequestID]
		if byItself(address) {
			return ""
		}
		if event.BlockedReason != "" {
			return fmt.Sprintf("request: blocked, %s: %s (%s)", event.BlockedReason, address, event.Type)
		}
		if !event.Canceled && event.ErrorText != "net::ERR_ABORTED" {
			return fmt.Sprintf("request: %s: %s (%s)", event.ErrorText, address, event.Type)
		}
	case *runtime.EventExceptionThrown:
		return "exception: " + exceptionText(event.ExceptionDetails)
	case *runtime.EventConsoleAPICalled:
		if event.Type == runtime.ConsoleAPICalledTypeError || event.Type == runtime.ConsoleAPICalledTypeAssert {
			return "console: " + argumentsText(event.Args)
		}
	case *log.EventEntryAdded:
		// Requests are told of by the events above, with more about them.
		wrong := event.Entry.Level == log.EntryLevelError || event.Entry.Source == log.EntrySourceSecurity
		if wrong && event.Entry.Source != log.EntrySourceNetwork {
			return fmt.Sprintf("%s: %s", event.Entry.Source, event.Entry.Text)
		}
	}
	return ""
}

func exceptionText(details *runtime.ExceptionDetails) string {
	if details.Exception == nil {
		return details.Text
	}
	return details.Text + " " + argumentsText([]*runtime.RemoteObject{details.Exception})
}

func argumentsText(args []*runtime.RemoteObject) string {
	texts := make([]string, 0, len(args))
	for _, arg := range args {
		text := arg.Description // of objects; the first line has the message
		if text == "" {
			text = string(arg.Value)
		}
		first, _, _ := strings.Cut(text, "\n")
		texts = append(texts, first)
	}
	return strings.Join(texts, " ")
}
