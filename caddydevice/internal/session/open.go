// This file holds the requests of a session that are still open: streams,
// WebSockets, downloads. They are told of every change of it, so that none
// outlives it.

package session

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// followEvery is how often it is asked what became of a session that
	// somebody else wrote, while the store does not say.
	followEvery = time.Second
	// followFor is for how long: then its open requests end, as a new one would
	// not be let through.
	followFor = 10 * time.Second
)

// openRequests are those of one session. Its lock is held for moments only.
type openRequests struct {
	count atomic.Int32
	until atomic.Int64 // when one was closed last, Unix nanoseconds; 0 for never
	mu    sync.Mutex
	left  bool // the session's object is out of use: who opens looks it up anew
	all   map[*OpenRequest]struct{}
	end   *time.Timer
}

// Listener is told how a session is after each change, and once it is over,
// from any goroutine. Hear must be quick.
type Listener interface{ Hear(snap *Snapshot) }

// OpenRequest is the notice of one open request. The zero value is for
// [Session.Open].
type OpenRequest struct {
	listener Listener

	mu     sync.Mutex
	in     *openRequests
	closed bool
}

// Open notes a request that the session lets through: from then on listener
// hears of the session, which is in use until the request is closed. It returns
// how the session is; nil where that has changed hands or is over: it must be
// looked up and decided upon anew.
func (s *Session) Open(r *OpenRequest, listener Listener) *Snapshot {
	r.listener = listener
	if !s.open.add(r) {
		return nil
	}
	snap := s.Now()
	if snap.State != Active { // told before it was added, perhaps
		r.Close()
		return nil
	}
	s.watchEnd()
	return snap
}

// add is false where the requests have been taken over already.
func (o *openRequests) add(r *OpenRequest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.left {
		return false
	}
	if r.closed {
		return true
	}
	if o.all == nil {
		o.all = map[*OpenRequest]struct{}{}
	}
	o.all[r] = struct{}{}
	o.count.Add(1)
	r.in = o
	return true
}

// Close ends the notice of the request.
func (r *OpenRequest) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.in != nil {
		r.in.remove(r)
	}
}

func (o *openRequests) remove(r *OpenRequest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.all[r]; ok {
		delete(o.all, r)
		o.until.Store(time.Now().UnixNano())
		o.count.Add(-1)
	}
}

// tell calls all of them, without holding anything.
func (o *openRequests) tell(snap *Snapshot) {
	o.mu.Lock()
	if o.end != nil && snap.State != Active {
		o.end.Stop()
	}
	all := make([]*OpenRequest, 0, len(o.all))
	for r := range o.all {
		all = append(all, r)
	}
	o.mu.Unlock()
	hearAll(all, snap)
}

// leave takes all requests out: none is added any more.
func (o *openRequests) leave() []*OpenRequest {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = true
	if o.end != nil {
		o.end.Stop()
	}
	all := make([]*OpenRequest, 0, len(o.all))
	for r := range o.all {
		all = append(all, r)
	}
	o.all = nil
	o.count.Store(0)
	return all
}

// watchEnd sees to it that the open requests hear of an end that comes with
// the time alone. An idle one does not: they are its use.
func (s *Session) watchEnd() {
	o := &s.open
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end == nil && !o.left {
		o.end = time.AfterFunc(time.Until(s.Deadline()), func() { o.tell(s.Now()) })
	}
}

// follow finds out what became of a session that somebody else has written, and
// hands its open requests on to the object that is in use now.
func (t *Table) follow(s *Session, open []*OpenRequest) {
	deadline := time.Now().Add(followFor)
	for {
		newer, err := t.Current(t.life, s)
		switch {
		case errors.Is(err, ErrUnknown):
			hearAll(open, &Snapshot{State: Ended})
			return
		case err != nil && (time.Now().After(deadline) || t.life.Err() != nil):
			hearAll(open, &Snapshot{State: Ended})
			return
		case err != nil:
			select {
			case <-time.After(followEvery):
			case <-t.life.Done():
			}
			continue
		}
		if open = newer.takeOver(open); len(open) == 0 {
			return
		}
	}
}

// takeOver adds open requests of an earlier object, and tells them how the
// session is. It returns those for which it came too late.
func (s *Session) takeOver(open []*OpenRequest) []*OpenRequest {
	for i, r := range open {
		if !s.open.add(r) {
			return open[i:]
		}
	}
	snap := s.Now()
	hearAll(open, snap)
	if snap.State == Active {
		s.watchEnd()
	}
	return nil
}

func hearAll(open []*OpenRequest, snap *Snapshot) {
	for _, r := range open {
		r.listener.Hear(snap)
	}
}
