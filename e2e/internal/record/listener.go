// This file holds the line that can be broken: a listener that knows its
// connections.
package record

import (
	"net"
	"sync"
)

// listener keeps its port while down, so that no other program can take it.
type listener struct {
	net.Listener

	mu   sync.Mutex
	down bool
	open map[*conn]struct{}
}

type conn struct {
	*net.TCPConn
	from *listener
}

func newListener(plain net.Listener) *listener {
	return &listener{Listener: plain, open: map[*conn]struct{}{}}
}

// Accept resets what comes in while down.
func (l *listener) Accept() (net.Conn, error) {
	for {
		plain, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{TCPConn: plain.(*net.TCPConn), from: l}
		if l.add(c) {
			return c, nil
		}
		c.reset()
	}
}

func (l *listener) add(c *conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return false
	}
	l.open[c] = struct{}{}
	return true
}

func (l *listener) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
	if !down {
		return
	}
	for c := range l.open {
		c.reset()
	}
	clear(l.open)
}

// reset cuts the connection with RST: no orderly end that could be taken for
// an answer.
func (c *conn) reset() {
	c.SetLinger(0) //nolint:errcheck // it may be closed already
	c.TCPConn.Close()
}

// Close is called by the server when it is done with the connection.
func (c *conn) Close() error {
	c.from.mu.Lock()
	delete(c.from.open, c)
	c.from.mu.Unlock()
	return c.TCPConn.Close()
}
