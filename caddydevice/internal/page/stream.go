// This file holds answers as server-sent events (WHATWG HTML §9.2), for a page
// that hears what becomes of its sign-in.

package page

import (
	"fmt"
	"io"
	"net/http"
	"time"
)

// Stream is a response of server-sent events that stays open.
type Stream struct {
	w     io.Writer
	flush func() error
}

// BeginStream begins a stream. retry is after how long a client comes back that
// has lost it.
func BeginStream(w http.ResponseWriter, retry time.Duration) (*Stream, error) {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx in front would keep the events to itself
	SecurityHeaders(w.Header())
	w.WriteHeader(http.StatusOK)
	s := &Stream{w: w, flush: http.NewResponseController(w).Flush}
	return s, s.write("retry: %d\n\n", retry.Milliseconds())
}

// Send sends an answer, in its JSON form, as an event. id is what a client
// that has lost the stream names as the last that it has seen.
func (s *Stream) Send(event, id string, a *Answer) error {
	data, err := a.json() // one line, with its end
	if err != nil {
		return err
	}
	return s.write("event: %s\nid: %s\ndata: %s\n", event, id, data)
}

// Beat keeps the stream open through whatever ends idle connections.
func (s *Stream) Beat() error { return s.write(":\n\n") }

func (s *Stream) write(format string, args ...any) error {
	if _, err := fmt.Fprintf(s.w, format, args...); err != nil {
		return err
	}
	return s.flush()
}
